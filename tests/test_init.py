"""`train --init`: a run that starts from another model's weights."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bertpipe.core.errors import DataError, MissingInputError, ModelError
from bertpipe.core.params import ModelParams, Params
from bertpipe.data.pair_dataset import label_counts
from bertpipe.data.tokenization.tokenizer import load_tokenizer
from bertpipe.model.huggingface.load import load_huggingface
from bertpipe.model.loading import load_any_model
from bertpipe.model.store import load_model
from bertpipe.stages.evaluate import run_evaluate
from bertpipe.training.inputs import read_initial_model, read_training_data
from models import save_tiny_huggingface
from prepared import Prepare
from runs import paths_in, results, train


def huggingface_for(directory: Path, data: Path, *, head: str = "BertForPreTraining", **changes: Any) -> Any:  # noqa: ANN401
    """Write a Hugging Face directory whose tokenizer is that of some data, and return its network."""
    tokenizer = load_tokenizer(data / "tokenizer.json")
    sizes = {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 20, "max_position_embeddings": 128}
    network = save_tiny_huggingface(directory, head=head, vocab_size=tokenizer.vocab_size, **(sizes | changes))
    for file in directory.glob("tokenizer*"):
        file.unlink()
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "cls", "sep", "mask", "unk")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend, **names).save_pretrained(directory)
    return network


def first_network(params: Params, data: Path, init: Path | str, model: ModelParams | None = None) -> Any:  # noqa: ANN401
    read = read_training_data(data)
    start = read_initial_model(model or params.model, dataclasses.replace(params.train, init=str(init)), read)
    return start, start.network(params.train.seed, read)


def test_the_first_weights_are_the_checkpoints(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    huggingface_for(tmp_path / "hf", parquet)
    start, bert = first_network(tiny, parquet, tmp_path / "hf")
    expected = load_huggingface(tmp_path / "hf").bert.state_dict()
    assert bert.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in bert.state_dict().items())
    assert (start.params.embedding_dim, start.params.heads, start.params.feed_forward_dim) == (12, 3, 20)


def test_dropout_is_that_of_the_params(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    huggingface_for(tmp_path / "hf", parquet, hidden_dropout_prob=0.4)
    start, bert = first_network(tiny, parquet, tmp_path / "hf", dataclasses.replace(tiny.model, dropout=0.25))
    assert start.params.dropout == bert.params.dropout == bert.embeddings.dropout.rate == 0.25


def test_a_run_from_a_checkpoint_evaluates_like_it_before_its_first_step_and_learns(
    tiny: Params, parquet: Path, tmp_path: Path
) -> None:
    """At a learning rate of nearly nothing the losses of a run stay those that `evaluate` gives the checkpoint."""
    huggingface_for(tmp_path / "hf", parquet)
    said: list[str] = []
    init = str(tmp_path / "hf")
    noted: dict[str, Any] = {"options": {"on_note": said.append}}
    still = train(tiny, tmp_path / "still", parquet, epochs=1, init=init, learning_rate=1e-12, **noted)
    metrics = run_evaluate(
        tiny.evaluate, tiny.runtime, model=tmp_path / "hf", data=parquet, out=tmp_path / "metrics.json"
    )
    assert still["test_mlm_loss"] == pytest.approx(metrics["mlm"]["model"]["loss"], rel=1e-5)
    assert still["test_nsp_loss"] == pytest.approx(metrics["nsp"]["model"]["loss"], rel=1e-5)
    assert said == [
        f"starting from {init} (width 12, 2 layers, 3 heads); only dropout is taken from the params' model section"
    ]
    learned = train(tiny, tmp_path / "learned", parquet, epochs=1, init=init, learning_rate=1e-2)
    assert learned["test_mlm_loss"] < still["test_mlm_loss"] - 0.5
    facts = load_model(tmp_path / "learned" / "model").facts
    assert facts["init"]["name"] == init
    assert len(facts["init"]["sha256"]) == 64
    assert facts["params"]["train"]["init"] == init


def test_a_run_goes_on_from_a_model_of_ours(tiny: Params, parquet: Path, trained: Path, tmp_path: Path) -> None:
    init = str(trained / "model")
    before = run_evaluate(tiny.evaluate, tiny.runtime, model=init, data=parquet, out=tmp_path / "m.json")
    after = train(tiny, tmp_path, parquet, epochs=1, init=init, learning_rate=1e-12)
    assert after["test_mlm_loss"] == pytest.approx(before["mlm"]["model"]["loss"], rel=1e-6)


@pytest.mark.parametrize("architecture", ["bert", "notebook"])
def test_any_architecture_of_ours_is_gone_on_from(
    tiny: Params, parquet: Path, tmp_path: Path, architecture: str
) -> None:
    train(tiny, tmp_path / "first", parquet, epochs=1, model={"architecture": architecture})
    _, bert = first_network(tiny, parquet, tmp_path / "first" / "model")
    assert bert.params.architecture == architecture


def test_the_mlm_head_that_is_missing_starts_at_the_frequencies(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    huggingface_for(tmp_path / "hf", parquet, head="BertModel")
    start, bert = first_network(tiny, parquet, tmp_path / "hf")
    counts = torch.from_numpy(label_counts(read_training_data(parquet).train, bert.vocab_size)).double() + 1
    torch.testing.assert_close(bert.mlm_decoder.bias, (counts / counts.sum()).log().float())
    assert [note for note in start.notes if "no masked-word head" in note]
    assert [note for note in start.notes if "no next-sentence head" in note]


def test_without_an_nsp_head_evaluate_gives_null_and_train_makes_one(
    tiny: Params, parquet: Path, tmp_path: Path
) -> None:
    huggingface_for(tmp_path / "hf", parquet, head="BertForMaskedLM")
    said: list[str] = []
    metrics = run_evaluate(
        tiny.evaluate, tiny.runtime, model=tmp_path / "hf", data=parquet, out=tmp_path / "m.json", on_note=said.append
    )
    assert metrics["nsp"]["model"] is None
    assert metrics["nsp"]["word_overlap"]["accuracy"] > 0
    assert math.isfinite(metrics["mlm"]["model"]["loss"])
    assert said == [f"{tmp_path / 'hf'} has no next-sentence head: it gets initial weights, to be trained"]
    train(tiny, tmp_path, parquet, epochs=1, init=str(tmp_path / "hf"))
    assert load_any_model(tmp_path / "model").missing_heads == frozenset()


def test_the_run_is_equal_to_the_byte_and_knows_its_start(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    huggingface_for(tmp_path / "hf", parquet, head="BertForMaskedLM")
    init = str(tmp_path / "hf")
    for folder in ("one", "two"):
        train(tiny, tmp_path / folder, parquet, epochs=1, init=init)
    assert results(tmp_path / "one") == results(tmp_path / "two")
    data = read_training_data(parquet)
    section = dataclasses.replace(tiny.train, init=init)
    before = read_initial_model(tiny.model, section, data).facts
    network = transformers.BertForMaskedLM.from_pretrained(init)
    with torch.no_grad():
        network.bert.embeddings.LayerNorm.bias[0] += 1e-3
    network.save_pretrained(init)
    after = read_initial_model(tiny.model, section, data).facts
    assert before["name"] == after["name"]
    assert before["sha256"] != after["sha256"]  # so an interrupted run does not go on with another start


def test_a_start_with_another_vocabulary_is_refused(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    save_tiny_huggingface(tmp_path / "hf")
    with pytest.raises(ModelError) as caught:
        train(tiny, tmp_path, parquet, init=str(tmp_path / "hf"))
    assert str(caught.value) == (
        f"{tmp_path / 'hf'} was trained with another tokenizer than the one of {parquet} (normalizer.type is "
        f"'BertNormalizer' for the model and 'Sequence' for the data): make the data with prepare.tokenizer: "
        f"{tmp_path / 'hf'}"
    )
    assert not (tmp_path / "model").exists()


def test_rows_too_long_for_the_start_are_refused(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    huggingface_for(tmp_path / "hf", parquet, max_position_embeddings=20)
    with pytest.raises(DataError, match=r"has rows of \d+ tokens, .*hf reads 20 at most: set convert\.max_length or"):
        train(tiny, tmp_path, parquet, init=str(tmp_path / "hf"))


def test_a_start_that_is_not_there_is_named(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"there is no model at \./nothing/here"):
        train(tiny, tmp_path, parquet, init="./nothing/here")


def test_text_is_prepared_with_the_tokenizer_of_a_checkpoint(
    tiny: Params,
    prepare: Prepare,
    reviews: Path,
    tmp_path: Path,
) -> None:
    save_tiny_huggingface(tmp_path / "hf", max_position_embeddings=128)
    prepare(reviews, tmp_path / "data", tokenizer=str(tmp_path / "hf"))
    start, _ = first_network(tiny, tmp_path / "data", tmp_path / "hf")
    assert start.vocab_size == 14


def test_the_override_is_stored_and_told(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    huggingface_for(tmp_path / "hf", parquet)
    read = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert read["hidden_size"] == 12
    section = dataclasses.replace(tiny.train, init=str(tmp_path / "hf"), epochs=1)
    from bertpipe.stages.train import run_train

    run_train(
        tiny.model, section, tiny.masking, tiny.evaluate, tiny.runtime, paths=paths_in(tmp_path, parquet),
        overrides={"train.init": section.init},
    )  # fmt: skip
    assert load_model(tmp_path / "model").facts["overrides"] == {"train.init": str(tmp_path / "hf")}
