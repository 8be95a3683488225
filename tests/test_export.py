"""`export`: what the directory holds, what it refuses, and that its models come back as they went."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bertpipe.core.artifacts import file_sha256, write_json
from bertpipe.core.errors import DataError, MissingInputError, ModelError, WriteError
from bertpipe.core.manifest import MANIFEST_NAME
from bertpipe.core.params import Params
from bertpipe.inference.predictor import load_predictor
from bertpipe.model.loading import load_any_model
from bertpipe.model.store import load_model
from exports import METRICS, export_of, piece_tokenizer, save_model_with, word_tokenizer
from models import save_tiny_huggingface

FILES = {
    "README.md", "bertpipe.json", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model_with(tmp_path / "bert", word_tokenizer())
    return tmp_path / "bert"


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    save_model_with(tmp_path / "bert", word_tokenizer(), architecture="notebook", tied=False)
    return tmp_path / "bert"


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != MANIFEST_NAME}


def test_the_directory_holds_all_files_and_is_equal_each_time(model: Path) -> None:
    directory, result = export_of(model)
    first = contents(directory)
    assert set(first) == set(result["files"]) == FILES
    other, _ = export_of(model, out=model.parent / "other")
    assert contents(other) == first
    again, _ = export_of(model)
    assert contents(again) == first


def test_a_wordpiece_model_has_a_vocab_txt_too(tmp_path: Path) -> None:
    save_model_with(tmp_path / "bert", piece_tokenizer())
    directory, result = export_of(tmp_path / "bert")
    assert set(contents(directory)) == set(result["files"]) == FILES | {"vocab.txt"}
    known = json.loads((directory / "bertpipe.json").read_text(encoding="utf-8"))
    assert known["sha256"]["vocab.txt"] == file_sha256(directory / "vocab.txt")
    save_model_with(tmp_path / "bert", word_tokenizer())
    export_of(tmp_path / "bert")
    assert set(contents(directory)) == FILES


def test_the_facts_for_machines_name_the_files_by_their_hashes(model: Path) -> None:
    directory, _ = export_of(model)
    known = json.loads((directory / "bertpipe.json").read_text(encoding="utf-8"))
    assert known["sha256"] == {name: file_sha256(directory / name) for name in FILES - {"bertpipe.json"}}
    assert known["results"] == METRICS
    assert (known["model"]["vocab_size"], known["model"]["activation"]) == (19, "gelu")


def test_what_is_returned_counts_what_is_there(model: Path) -> None:
    _, result = export_of(model)
    expected = sum(parameter.numel() for parameter in load_model(model).bert.parameters())
    assert (result["parameters"], result["vocabulary"], result["tokenizer"]) == (expected, 19, "WordLevel")
    assert result["loads_as"] == "BertForPreTraining"


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("pieces", [True, False], ids=["pieces", "words"])
def test_a_model_comes_back_as_it_went(tmp_path: Path, tied: bool, pieces: bool) -> None:
    tokenizer = piece_tokenizer() if pieces else word_tokenizer()
    own = save_model_with(tmp_path / "bert", tokenizer, tied=tied, activation="gelu_tanh", norm_epsilon=0.01)
    directory, _ = export_of(tmp_path / "bert")
    back = load_any_model(directory)
    assert (back.missing_heads, back.notes) == (frozenset(), ())
    assert back.bert.state_dict().keys() == own.state_dict().keys()
    for name, tensor in own.state_dict().items():
        assert torch.equal(back.bert.state_dict()[name], tensor), name
    assert back.tokenizer_difference(tokenizer) is None
    sizes = ("embedding_dim", "heads", "layers", "feed_forward_dim", "max_positions", "dropout", "tied")
    assert {size: getattr(back.bert.params, size) for size in sizes} == {
        size: getattr(own.params, size) for size in sizes
    }
    assert (back.bert.params.activation_name, back.bert.params.epsilon) == ("gelu_tanh", 0.01)


def test_both_directories_answer_alike(model: Path) -> None:
    directory, _ = export_of(model)
    own, exported = (load_predictor(str(place), device="cpu") for place in (model, directory))
    for pair in (("the cat sat", "on the mat"), ("dog .", "the dog 's mat ?")):
        expected, answer = own.next_sentence(*pair), exported.next_sentence(*pair)
        assert answer.probability_next == pytest.approx(expected.probability_next, abs=1e-6)
        assert answer.is_next is expected.is_next
    filled = exported.fill_masks("the [MASK] sat", 3).to_dict()
    assert filled["filled_text"] == own.fill_masks("the [MASK] sat", 3).to_dict()["filled_text"]


def test_the_pipeline_reads_a_wordpiece_model_as_bertpipe_does(tmp_path: Path) -> None:
    save_model_with(tmp_path / "bert", piece_tokenizer(lowercase=False))
    directory, _ = export_of(tmp_path / "bert")
    fill = transformers.pipeline("fill-mask", model=str(directory), top_k=3)
    assert type(fill.tokenizer) is transformers.BertTokenizer
    question = "the cafés [MASK] on É ."
    own = load_predictor(str(tmp_path / "bert"), device="cpu").fill_masks(question, 3).masks[0].candidates
    theirs = fill(question)
    assert [answer["token"] for answer in theirs] == [candidate.token_id for candidate in own]
    assert [answer["score"] for answer in theirs] == pytest.approx(
        [candidate.probability for candidate in own], rel=1e-5
    )


def test_a_trained_model_is_exported_with_what_is_known_of_it(
    tiny: Params, trained: Path, parquet: Path, tmp_path: Path
) -> None:
    write_json(tmp_path / "metrics.json", METRICS)
    shutil.copytree(trained / "model", tmp_path / "bert")
    directory, _ = export_of(tmp_path / "bert", export=tiny.export, infer=tiny.infer, data=parquet)
    known = json.loads((directory / "bertpipe.json").read_text(encoding="utf-8"))
    assert known["facts"] == json.loads((trained / "model/config.json").read_text(encoding="utf-8"))["facts"]
    assert known["data"] == json.loads((parquet / "summary.json").read_text(encoding="utf-8"))
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert known["facts"]["data_sha256"]["train.parquet"] in card
    assert f"| train.learning_rate | {tiny.train.learning_rate} |" in card
    assert "The text is **generated**" in card
    assert '"The [MASK] is slow and sad."' in card


def test_data_that_the_model_was_not_trained_on_are_not_described(trained: Path, parquet: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "model", tmp_path / "bert")
    (tmp_path / "data").mkdir()
    summary = json.loads((parquet / "summary.json").read_text(encoding="utf-8"))
    summary["sha256"]["test.parquet"] = "0" * 64
    write_json(tmp_path / "data" / "summary.json", summary)
    directory, _ = export_of(tmp_path / "bert", data=tmp_path / "data")
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert "The data were not at hand" in card
    assert "**generated**" not in card


def test_paths_of_this_machine_are_not_told(tmp_path: Path) -> None:
    secret = str(tmp_path / "secret" / "start")
    facts = {
        "params": {"train": {"init": secret, "seed": 1}, "masking": {"unit": "token"}},
        "init": {"name": secret, "sha256": "a" * 64}, "overrides": {"train.init": secret},
        "versions": {"bertpipe": "1"}, "epochs_done": 2,
    }  # fmt: skip
    save_model_with(tmp_path / "bert", word_tokenizer(), facts)
    directory, _ = export_of(tmp_path / "bert")
    for name in ("README.md", "bertpipe.json"):
        text = (directory / name).read_text(encoding="utf-8")
        assert str(tmp_path) not in text
        assert "secret" not in text
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert "pretrained from the weights of `start`" in card
    assert "`train.init: start`" in card


# What is refused


def test_the_notebooks_network_is_refused_in_one_line_that_says_what_to_do(notebook: Path) -> None:
    with pytest.raises(ModelError) as caught:
        export_of(notebook)
    said = str(caught.value)
    reason = "no class of transformers computes its architecture, notebook;"
    assert said.startswith(f"{notebook} cannot be a Hugging Face model: {reason}")
    assert "train with model.architecture: bert" in said
    assert f"`bertpipe infer --model {notebook}`" in said
    assert "\n" not in said
    assert not (notebook.parent / "bert-hf").exists()


def test_its_card_alone_is_written_where_that_is_asked_for(notebook: Path) -> None:
    notes: list[str] = []
    directory, result = export_of(notebook, or_card=True, on_note=notes.append)
    assert set(contents(directory)) == {"README.md", "bertpipe.json"}
    assert result["loads_as"] is None
    (note,) = notes
    assert note.endswith(f"{directory} holds only its card")
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert "**This directory holds no weights**: no class of transformers computes its architecture, notebook" in card
    assert "library_name: bertpipe" in card
    assert "transformers import" not in card
    assert "pipeline_tag" not in card


def test_one_kind_of_export_takes_the_place_of_the_other(notebook: Path) -> None:
    directory, _ = export_of(notebook, or_card=True)
    save_model_with(notebook, word_tokenizer())
    export_of(notebook, or_card=True)
    assert set(contents(directory)) == FILES


@pytest.mark.parametrize("place", ["bert", "theirs", "file"])
def test_nothing_but_an_export_is_replaced(model: Path, place: str) -> None:
    save_tiny_huggingface(model.parent / "theirs")
    (model.parent / "theirs" / "README.md").write_text("somebody's card")
    (model.parent / "file").write_text("a file")
    export_of(model)  # writes the metrics that stand beside it
    before = {path: path.read_bytes() for path in model.parent.rglob("*") if path.is_file()}
    with pytest.raises(WriteError):
        export_of(model, out=model.parent / place)
    assert {path: path.read_bytes() for path in model.parent.rglob("*") if path.is_file()} == before


def test_models_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    save_tiny_huggingface(tmp_path / "theirs")
    with pytest.raises(ModelError, match="is not a bertpipe model directory"):
        export_of(tmp_path / "theirs")
    with pytest.raises(MissingInputError, match="run `bertpipe train` first"):
        export_of(tmp_path / "none")


def test_without_metrics_there_is_no_card(model: Path) -> None:
    with pytest.raises(MissingInputError, match=r"none\.json does not exist: run `bertpipe evaluate` first"):
        export_of(model, metrics=model.parent / "none.json")
    assert not (model.parent / "bert-hf").exists()


@pytest.mark.parametrize(
    "content", [[], {}, {"mlm": METRICS["mlm"]}, METRICS | {"mlm": {"tokens": 1}}, METRICS | {"nsp": {"model": 3}}]
)
def test_metrics_that_are_not_evaluates_are_refused(model: Path, content: Any) -> None:  # noqa: ANN401
    write_json(model.parent / "odd.json", content)
    with pytest.raises(DataError, match=r"odd\.json: it is not what `bertpipe evaluate` writes .*: run it again"):
        export_of(model, metrics=model.parent / "odd.json")
    assert not (model.parent / "bert-hf").exists()


def test_a_failure_leaves_the_earlier_export(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, _ = export_of(model)
    before = contents(directory)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bertpipe.export.huggingface.save_huggingface_tokenizer", fail)
    with pytest.raises(WriteError, match="make room on the disk"):
        export_of(model)
    assert contents(directory) == before
    assert [path.name for path in model.parent.iterdir() if path.name.startswith(".")] == []


def test_a_model_without_nsp_answers_of_its_own_metrics_still_has_a_card(model: Path) -> None:
    metrics = METRICS | {"nsp": METRICS["nsp"] | {"model": None}}
    write_json(model.parent / "other.json", metrics)
    directory, _ = export_of(model, metrics=model.parent / "other.json")
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert "| **this model** |  |  |" in card
    assert "Next-sentence prediction\n    dataset" not in card


def test_a_licence_and_a_language_may_be_left_out(model: Path, tiny: Params) -> None:
    directory, _ = export_of(model, export=replace(tiny.export, license=None, language=None))
    front = (directory / "README.md").read_text(encoding="utf-8").split("---")[1]
    assert "license" not in front
    assert "language:" not in front
