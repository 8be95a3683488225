"""`bertpipe state`: what is kept for a later run, and what is cleared."""

import shutil
from pathlib import Path

import pytest

from bertpipe.commands.state import run_state
from bertpipe.core.errors import BusyError, InputError
from bertpipe.core.locks import exclusive_lock
from bertpipe.core.params import Params
from bertpipe.training.checkpoint import checkpoints_in
from runs import SMALL, STEPS, train


@pytest.fixture
def work(crashed: Path, tmp_path: Path) -> Path:
    """Return a work directory with the state of a training that broke off after step 7, and half a download."""
    shutil.copytree(crashed / "state", tmp_path / "work" / "state")
    download = tmp_path / "work" / "downloads" / "0123456789abcdef"
    download.mkdir(parents=True)
    (download / "part").write_bytes(b"x" * 1234)
    facts = '{"url": "https://example.org/x.zip", "etag": "\\"v1\\"", "total": 5000}'
    (download / "facts.json").write_text(facts, encoding="utf-8")
    return tmp_path / "work"


def key(work: Path) -> str:
    return next((work / "state").iterdir()).name


def test_nothing_is_kept_where_nothing_was_interrupted(tmp_path: Path) -> None:
    assert run_state(tmp_path / "none") == {"kept": [], "cleared": []}


def test_a_training_and_a_download_are_listed(work: Path, parquet: Path) -> None:
    training, download = run_state(work)["kept"]
    assert (training["name"], training["kind"], training["held"]) == (key(work), "training", False)
    assert training["what"] == f"bert of embedding_dim 16, layers 1, epochs 2, learning_rate 0.01 on {parquet}"
    assert training["done"] == f"7 of {STEPS} steps"
    assert training["bytes"] == sum(path.stat().st_size for path in (work / "state").rglob("*") if path.is_file())
    assert (download["kind"], download["what"]) == ("download", "https://example.org/x.zip")
    assert download["done"] == "1,234 of 5,000 bytes"


def test_damage_is_listed(work: Path) -> None:
    newest = checkpoints_in(work / "state" / key(work))[0]
    (newest / "weights.safetensors").write_bytes(b"")
    assert run_state(work)["kept"][0]["done"] == f"6 (1 damaged after it) of {STEPS} steps"
    (work / "state" / key(work) / "run.json").unlink()
    (work / "downloads" / "0123456789abcdef" / "facts.json").write_text("{", encoding="utf-8")
    training, download = run_state(work)["kept"]
    assert (training["what"], training["done"]) == (
        "a training without a description",
        "6 (1 damaged after it) of ? steps",
    )
    assert (download["what"], download["done"]) == ("a download without a description", "?")


def test_one_is_cleared_by_its_name(work: Path) -> None:
    name = key(work)
    result = run_state(work, clear=[name])
    assert result["cleared"] == [name]
    assert [kept["kind"] for kept in result["kept"]] == ["download"]
    assert not (work / "state" / name).exists()


def test_all_are_cleared(work: Path) -> None:
    assert len(run_state(work, clear=["all"])["cleared"]) == 2
    assert run_state(work)["kept"] == []


def test_a_file_that_bertpipe_did_not_write_stays(work: Path) -> None:
    notes = [path / "notes.txt" for folder in ("state", "downloads") for path in (work / folder).iterdir()]
    for path in notes:
        path.write_text("what the user wrote")
    run_state(work, clear=["all"])
    assert sorted(path for path in work.rglob("*") if path.is_file()) == sorted(notes)


def test_an_unknown_name_clears_nothing(work: Path) -> None:
    with pytest.raises(InputError, match=rf"no state nope: there is {key(work)}, 0123456789abcdef"):
        run_state(work, clear=["nope", key(work)])
    assert len(run_state(work)["kept"]) == 2


def test_what_a_process_is_at_work_on_stays(work: Path) -> None:
    name = key(work)
    with exclusive_lock(work / "state" / name / "lock", what="x"):
        assert run_state(work)["kept"][0]["held"]
        with pytest.raises(BusyError, match=rf"work on {name} is already under way \(process \d+ on"):
            run_state(work, clear=[name])
        assert run_state(work, clear=["all"])["cleared"] == ["0123456789abcdef"]
    assert not run_state(work)["kept"][0]["held"]


def test_a_cleared_training_begins_anew(tiny: Params, parquet: Path, crashed: Path, tmp_path: Path) -> None:
    shutil.copytree(crashed, tmp_path / "run")
    assert len(run_state(tmp_path / "run", clear=["all"])["cleared"]) == 1
    assert train(tiny, tmp_path / "run", parquet, **SMALL)["resumed_after_step"] == 0
