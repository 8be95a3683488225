"""`evaluate`: the model's figures beside those of simple predictors, as JSON."""

import dataclasses
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from bertpipe.cli.results import comparison
from bertpipe.core.errors import MissingInputError, ModelError
from bertpipe.core.params import Params
from bertpipe.core.progress import Progress
from bertpipe.data.batching import Batcher
from bertpipe.data.pair_dataset import read_dataset
from bertpipe.data.tokenization.tokenizer import load_tokenizer
from bertpipe.evaluation.evaluate import Evaluation, evaluate
from bertpipe.model.store import load_model, save_model
from bertpipe.stages.convert import run_convert
from bertpipe.stages.evaluate import run_evaluate
from datasets import row_fields, write_zip
from defaults import DEFAULTS
from models import save_tiny_huggingface, tiny_bert


def measure(params: Params, model: Path, data: Path, out: Path, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    return run_evaluate(params.evaluate, params.runtime, model=model, data=data, out=out, **changes)


def strict_json(path: Path) -> Any:  # noqa: ANN401
    """Return the content of a JSON file that holds no NaN or Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def model_for(folder: Path, data: Path, **changes: Any) -> Path:  # noqa: ANN401
    """Write an untrained model that has the tokenizer of some data and return its directory."""
    size = load_tokenizer(data / "tokenizer.json").vocab_size
    save_model(folder / "model", tiny_bert(vocab_size=size, **changes), data / "tokenizer.json", facts={})
    return folder / "model"


def test_metrics_are_the_evaluations(tiny: Params, parquet: Path, trained: Path, tmp_path: Path) -> None:
    metrics = measure(tiny, trained / "model", parquet, tmp_path / "m.json")
    test = Batcher(dataset=read_dataset(parquet / "test.parquet"), masking=None, seed=0)
    sums = evaluate(
        load_model(trained / "model").bert,
        test,
        batch_size=tiny.evaluate.batch_size,
        device=torch.device("cpu"),
        token_bytes=load_tokenizer(parquet / "tokenizer.json").token_bytes,
    )
    expected = Evaluation.of(sums)
    assert strict_json(tmp_path / "m.json") == metrics
    assert metrics["mlm"]["tokens"] == expected.mlm_tokens
    assert metrics["nsp"]["rows"] == expected.rows == len(test.dataset)
    assert metrics["mlm"]["model"] == {
        "loss": expected.mlm_loss,
        "perplexity": expected.mlm_perplexity,
        "bits_per_byte": expected.mlm_bits_per_byte,
        "top1_accuracy": expected.mlm_top1_accuracy,
        "top5_accuracy": expected.mlm_top5_accuracy,
    }
    assert (metrics["nsp"]["model"]["loss"], metrics["nsp"]["model"]["accuracy"]) == (
        expected.nsp_loss, expected.nsp_accuracy
    )  # fmt: skip
    (not_not, not_next), (next_not, next_next) = expected.nsp_confusion
    assert metrics["nsp"]["model"]["confusion"] == {
        "next_called_next": next_next, "next_called_not": next_not,
        "not_called_not": not_not, "not_called_next": not_next,
    }  # fmt: skip
    for task, names in (("mlm", ("constant", "two_neighbours")), ("nsp", ("sentence_b_alone", "word_overlap"))):
        for name in names:
            assert all(isinstance(figure, float) for figure in metrics[task][name].values())


def test_two_evaluations_give_equal_bytes_and_the_data_stay(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path
) -> None:
    for name in ("one.json", "other.json"):
        measure(tiny, trained / "model", parquet, tmp_path / name)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "other.json").read_bytes()


def test_the_comparison_has_one_row_per_predictor(tiny: Params, parquet: Path, trained: Path, tmp_path: Path) -> None:
    metrics = measure(tiny, trained / "model", parquet, tmp_path / "m.json")
    mlm, nsp = comparison(metrics, "mlm"), comparison(metrics, "nsp")
    assert list(mlm.index) == ["model", "constant", "two neighbours"]
    assert list(nsp.index) == ["model", "sentence b alone", "word overlap"]
    assert list(nsp.columns) == ["loss", "accuracy"]
    assert mlm.loc["constant", "loss"] == metrics["mlm"]["constant"]["loss"]
    assert pd.isna(mlm.loc["two neighbours", "loss"])


def test_a_model_of_another_tokenizer_is_refused(tiny: Params, trained: Path, parquet: Path, tmp_path: Path) -> None:
    shutil.copytree(parquet, tmp_path / "data")
    tokenizer = tmp_path / "data" / "tokenizer.json"
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    words = content["model"]["vocab"]
    first, second = list(words)[5:7]
    words[first], words[second] = words[second], words[first]
    tokenizer.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(
        ModelError,
        match=r"was trained with another tokenizer than .*the token of id 5 is .* for the model and .* for the data",
    ):
        measure(tiny, trained / "model", tmp_path / "data", tmp_path / "m.json")
    assert not (tmp_path / "m.json").exists()


def test_rows_longer_than_the_model_reads_are_refused(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    longest = int(read_dataset(parquet / "test.parquet").lengths.max())
    model = model_for(tmp_path, parquet, max_positions=longest - 1)
    with pytest.raises(
        ModelError,
        match=rf"rows of {longest} tokens, and .* reads {longest - 1} at most: .* "
        rf"to {longest - 1} and run that stage again",
    ):
        measure(tiny, model, parquet, tmp_path / "m.json")


def test_a_test_split_without_labels_has_nulls(tiny: Params, tmp_path: Path) -> None:
    row = row_fields([1, 5, 2, 6, 2], [0] * 5, [1, 1, 1, 2, 2])
    run_convert(
        replace(DEFAULTS.convert, subset="full", max_length=16, max_reject_rate=0.0, recover="nothing"),
        zip_file=write_zip(tmp_path / "x.zip", [row], [row]),
        out=tmp_path / "data",
        rejects_report=tmp_path / "rejects.parquet",
    )
    measure(tiny, model_for(tmp_path, tmp_path / "data"), tmp_path / "data", tmp_path / "m.json")
    mlm = strict_json(tmp_path / "m.json")["mlm"]
    assert mlm["tokens"] == 0
    assert set(mlm["model"].values()) == set(mlm["constant"].values()) == {None}
    assert mlm["two_neighbours"] == {"top1_accuracy": None}


def test_an_infinite_perplexity_is_null(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    bert = tiny_bert(vocab_size=load_tokenizer(parquet / "tokenizer.json").vocab_size, max_positions=48)
    with torch.no_grad():
        bert.mlm_decoder.bias[0] = 5000.0
    save_model(tmp_path / "model", bert, parquet / "tokenizer.json", facts={})
    measure(tiny, tmp_path / "model", parquet, tmp_path / "m.json")
    model = strict_json(tmp_path / "m.json")["mlm"]["model"]
    assert model["perplexity"] is None
    assert math.isfinite(model["loss"])


def test_missing_inputs_name_the_command_that_makes_them(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(MissingInputError, match="run `bertpipe train` first"):
        measure(tiny, tmp_path / "none", parquet, tmp_path / "m.json")
    with pytest.raises(MissingInputError, match="run `bertpipe convert` or `bertpipe prepare` first"):
        measure(tiny, trained / "model", tmp_path / "none", tmp_path / "m.json")


def test_progress_is_reported(tiny: Params, parquet: Path, trained: Path, tmp_path: Path) -> None:
    reports: list[Progress] = []
    measure(tiny, trained / "model", parquet, tmp_path / "m.json", on_progress=reports.append)
    assert len({report.label for report in reports}) == len(reports) == 2


def test_the_batch_size_does_not_change_the_figures(tiny: Params, parquet: Path, trained: Path, tmp_path: Path) -> None:
    one = measure(tiny, trained / "model", parquet, tmp_path / "m.json")
    params = dataclasses.replace(tiny, evaluate=dataclasses.replace(tiny.evaluate, batch_size=5))
    other = measure(params, trained / "model", parquet, tmp_path / "m.json")
    assert other["mlm"]["model"]["loss"] == pytest.approx(one["mlm"]["model"]["loss"], rel=1e-5)
    assert other["nsp"]["model"]["confusion"] == one["nsp"]["model"]["confusion"]


@pytest.mark.parametrize(
    "head", ["BertForSequenceClassification", "BertForTokenClassification", "BertForQuestionAnswering", "BertModel"]
)
def test_a_model_with_nothing_to_evaluate_is_refused(tiny: Params, parquet: Path, tmp_path: Path, head: str) -> None:
    save_tiny_huggingface(tmp_path / "hf", head=head)
    with pytest.raises(ModelError, match=r"hf has neither .*: there is nothing to evaluate; .* `bertpipe probe FILE"):
        measure(tiny, tmp_path / "hf", parquet, tmp_path / "m.json")
    assert not (tmp_path / "m.json").exists()
