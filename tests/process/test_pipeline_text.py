"""The pipeline on the user's own text under real DVC, from `prepare` to the examples."""

import importlib.util
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from bertpipe.core.artifacts import read_json
from commands import Run
from prepared import REVIEWS, folder_of
from projects import Copy, make_copy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("dvc") is None, reason="DVC is not installed"),
]


NAME, FOLDER = "año 1.2 $(x)", "my 're\"views' $HOME `x`"


def settle(copy: Copy, *changes: tuple[str, str]) -> None:
    """Change lines of the copy's params.yaml."""
    params = copy.folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    params.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Return a copy in which the pipeline has run on a folder of text; a shell would change both names."""
    made = make_copy(tmp_path_factory.mktemp("own"))
    folder_of(made.folder / FOLDER, REVIEWS)
    settle(
        made,
        ("  corpora: {}", f"  corpora: {json.dumps({NAME: FOLDER})}"),
        ("  dir: data/parquet", f"  dir: {json.dumps(f'data/text/{NAME}')}"),
    )
    made.dvc("repro", "examples", "evaluate")
    return made


def test_only_what_is_needed_has_run(copy: Copy) -> None:
    names = set(copy.outputs())
    assert {f"data/text/{NAME}/train.parquet", "models/bert/tokenizer.json", "reports/examples.json"} <= names
    assert not {name for name in names if name.startswith(("data/raw", "data/parquet"))}
    assert "up to date" in copy.dvc("status", "examples")


def test_the_model_has_the_vocabulary_of_the_text(copy: Copy) -> None:
    outputs = copy.outputs()
    assert outputs["models/bert/tokenizer.json"] == outputs[f"data/text/{NAME}/tokenizer.json"]
    model = json.loads(outputs["models/bert/tokenizer.json"])["model"]
    assert model["type"] == "WordPiece"
    assert len(model["vocab"]) == read_json(copy.folder / f"data/text/{NAME}/summary.json")["vocabulary"]["size"]


def test_the_model_answers_in_words_not_in_pieces(copy: Copy, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.folder)
    answer = json.loads(run("infer", "mlm", "The music is [MASK] and sad.", "--json").out)
    assert len(answer["masks"][0]["candidates"]) == 5
    assert "#" not in answer["filled_text"]
    assert answer["filled_text"].lower().startswith("the music is")


def test_by_hand_the_data_are_those_of_the_params(copy: Copy, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.folder)
    shown = json.loads(run("evaluate", "--out", "by_hand.json", "--json").out)
    assert shown == json.loads((copy.folder / "reports/metrics.json").read_text(encoding="utf-8"))


def test_another_number_of_prepare_brings_its_stage_to_run_again(copy: Copy) -> None:
    settle(copy, ("  short_share: 0.1", "  short_share: 0.2"))
    try:
        assert f"prepare@{NAME}" in copy.dvc("status")
    finally:
        settle(copy, ("  short_share: 0.2", "  short_share: 0.1"))


def test_without_text_there_is_no_such_stage(copy: Copy, tmp_path: Path) -> None:
    other = make_copy(tmp_path)
    assert "prepare" in copy.dvc("stage", "list", "--name-only")
    named = YAML(typ="safe", pure=True).load(other.folder / "dvc.yaml")["stages"]
    assert other.dvc("stage", "list", "--name-only").split() == [name for name in named if name != "prepare"]
