"""Numbers that nobody hopes for, through the whole pipeline: each has one answer, right or an error that says why."""

import csv
import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from bertpipe.cli import results
from bertpipe.core.artifacts import RECORDS_NAME, SPLITS
from bertpipe.core.errors import DataError, ModelError, TrainingError
from bertpipe.core.params import InferParams, MaskingUnit, MlmExample, NspExample, Params
from bertpipe.core.progress import Progress, ignore_progress
from bertpipe.data.batching import Batch, Batcher
from bertpipe.data.masking import Masking
from bertpipe.data.parquet_writer import table_of
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, word_level_tokenizer
from bertpipe.evaluation.baselines import Splits, constant
from bertpipe.inference.predictor import load_predictor
from bertpipe.model.bert import Bert
from bertpipe.model.store import load_model
from bertpipe.stages.convert import run_convert
from bertpipe.stages.evaluate import run_evaluate
from bertpipe.stages.infer import run_infer_examples
from bertpipe.stages.plot import run_plot
from bertpipe.stages.train import run_train
from bertpipe.training.loop import train_steps
from bertpipe.training.objective import Losses, PretrainingObjective
from bertpipe.training.optim import make_optimizer
from datasets import Fields, Pair, pair_dataset, row_fields, write_zip
from defaults import DEFAULTS
from models import save_changed, save_tiny_huggingface, tiny_bert
from prepared import Prepare, folder_of
from runs import paths_in

pytestmark = [pytest.mark.promise("Numbers"), pytest.mark.thorough]

CPU = torch.device("cpu")
WORDS = [*SPECIAL_TOKENS, "a", "b", "c", "d"]
SIX = [*SPECIAL_TOKENS, "a"]
MAX_LENGTH = 48  # of params/tiny.yaml, as is its max_positions


def row(
    first: Sequence[int], second: Sequence[int], *, is_next: int = 1, labels: dict[int, int] | None = None
) -> Fields:
    """Return the CSV fields of `[CLS] first [SEP] second [SEP]`; labels by position."""
    inputs = [1, *first, 2, *second, 2]
    asked = [(labels or {}).get(position, 0) for position in range(len(inputs))]
    return row_fields(inputs, asked, [1] * (len(first) + 2) + [2] * (len(second) + 1), is_next)


def convert(folder: Path, train: Sequence[Fields], test: Sequence[Fields], vocabulary: Sequence[str] = WORDS) -> Path:
    """Return Parquet files of rows whose labels are the true tokens."""
    run_convert(
        replace(DEFAULTS.convert, subset="full", max_length=MAX_LENGTH, max_reject_rate=0.0, recover="labels"),
        zip_file=write_zip(folder / "x.zip", train, test, vocabulary=vocabulary, labels_are_true=True),
        out=folder / "data",
        rejects_report=folder / "rejects.parquet",
    )
    return folder / "data"


def train_on(
    params: Params,
    folder: Path,
    data: Path,
    *,
    model: dict[str, Any] | None = None,
    masking: dict[str, Any] | None = None,
    on_progress: Callable[[Progress], None] = ignore_progress,
    **changes: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """Train with changes to the params; what comes out stands in `folder`."""
    return run_train(
        dataclasses.replace(params.model, **(model or {})),
        dataclasses.replace(params.train, **changes),
        dataclasses.replace(params.masking, **(masking or {})),
        params.evaluate,
        params.runtime,
        paths=paths_in(folder, data),
        on_progress=on_progress,
    )


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def strict_json(path: Path) -> Any:  # noqa: ANN401
    """Return the content of a JSON file, which holds no NaN and no Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {path}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a run of all stages leaves."""

    metrics: Any
    history: list[dict[str, str]]
    epochs: list[dict[str, str]]
    trained: dict[str, Any]
    pictures: list[str]


def run_all(params: Params, folder: Path, data: Path, *, draw: bool = False, **changes: Any) -> Results:  # noqa: ANN401
    """Train, evaluate, ask and, as it takes seconds, only if told so plot; no number that is none may be written."""
    trained = train_on(params, folder, data, **changes)
    run_evaluate(params.evaluate, params.runtime, model=folder / "model", data=data, out=folder / "metrics.json")
    if draw:
        tables = {name: folder / f"{name}.csv" for name in ("history", "epochs", "timing")}
        run_plot(**tables, metrics=folder / "metrics.json", out=folder / "plots")
    examples = InferParams(
        top_k=5, examples=(NspExample(task="nsp", first="a a", second="a"), MlmExample(task="mlm", text="a [MASK]"))
    )
    run_infer_examples(examples, model=folder / "model", out=folder / "examples.json")
    assert all(answer["answer"] is not None for answer in strict_json(folder / "examples.json"))
    strict_json(folder / "model" / "config.json")
    strict_json(data / "summary.json")
    for name in ("history", "epochs", "timing"):
        cells = [cell for line in table(folder / f"{name}.csv") for cell in line.values()]
        assert all(cell == "" or math.isfinite(float(cell)) for cell in cells)
    return Results(
        metrics=strict_json(folder / "metrics.json"),
        history=table(folder / "history.csv"),
        epochs=table(folder / "epochs.csv"),
        trained=trained,
        pictures=sorted(path.name for path in (folder / "plots").glob("*.[ps][nv]g")),
    )


# Data that are small, bare or one-sided: trained on rightly

FULL = row([5] * 20, [6] * (MAX_LENGTH - 23), labels={3: 7})
ODD: dict[str, tuple[list[Fields], list[Fields], list[str]]] = {
    "a single row": ([row([5, 3], [6], labels={2: 7})], [row([3, 5], [7], labels={1: 6})], WORDS),
    "fewer rows than a batch": ([row([5, 3], [6], labels={2: 7})] * 5, [row([3], [7], labels={1: 6})] * 2, WORDS),
    "all rows next": ([row([5, 3], [6], labels={2: 7})] * 20, [row([3], [7], labels={1: 6})] * 3, WORDS),
    "no row next": (
        [row([5, 3], [6], is_next=0, labels={2: 7})] * 20,
        [row([3], [7], is_next=0, labels={1: 6})] * 3,
        WORDS,
    ),
    "rows of one token": (
        [row([3], [], labels={1: 5}), row([], [3], labels={2: 5})] * 9,
        [row([3], [], labels={1: 6})],
        WORDS,
    ),
    "rows as long as they may be": ([FULL] * 18, [FULL], WORDS),
    "a vocabulary of six": ([row([5, 3], [5], labels={2: 5})] * 18, [row([3], [5], labels={1: 5})], SIX),
}


@pytest.mark.parametrize("name", ODD)
def test_small_and_one_sided_data_are_trained_on(tiny: Params, tmp_path: Path, name: str) -> None:
    train, test, vocabulary = ODD[name]
    found = run_all(tiny, tmp_path, convert(tmp_path, train, test, vocabulary), draw=len(train) == 1, epochs=1)
    steps = -(-len(train) // tiny.train.batch_size)
    assert found.trained["steps"] == int(found.history[-1]["step"]) == steps
    assert found.metrics["mlm"]["tokens"] == found.metrics["nsp"]["rows"] == len(test)  # one label a row
    model, nsp = found.metrics["mlm"]["model"], found.metrics["nsp"]
    assert 0 <= model["top1_accuracy"] <= model["top5_accuracy"] <= 1
    assert sum(nsp["model"]["confusion"].values()) == len(test)
    assert None not in (nsp["model"]["loss"], nsp["sentence_b_alone"]["accuracy"], nsp["word_overlap"]["accuracy"])
    assert found.metrics["mlm"]["constant"]["loss"] > 0


def test_a_row_longer_than_it_may_be_loses_tokens_and_one_as_long_does_not(tmp_path: Path) -> None:
    longer = row([5] * 20, [6] * (MAX_LENGTH - 22))
    data = convert(tmp_path, [FULL, longer], [FULL])
    counts = strict_json(data / "summary.json")["splits"]["train"]
    assert (counts["longest_row"], counts["rows_cut"], counts["tokens_cut"]) == (MAX_LENGTH, 1, 1)


# No label anywhere

BARE = [row([5], [6]), row([7], [8], is_next=0)]
UNLABELLED = {
    "no word at all": ([row([], []), row([], [], is_next=0)] * 8, [row([], [])], WORDS, {}),
    "nothing masked": (BARE * 8, BARE, WORDS, {"mode": "static"}),
    "no word in the vocabulary": (
        [row([4], [4]), row([4, 4], [4], is_next=0)] * 8,
        [row([4], [4])],
        list(SPECIAL_TOKENS),
        {},
    ),
}


@pytest.mark.parametrize("name", UNLABELLED)
def test_data_without_any_label_train_the_next_sentence_and_have_no_mlm_figure(
    tiny: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    train, test, vocabulary, masking = UNLABELLED[name]
    told: list[Progress] = []
    found = run_all(
        tiny, tmp_path, convert(tmp_path, train, test, vocabulary), draw=True, masking=masking, on_progress=told.append
    )
    for line in found.history:
        assert line["mlm_loss"] == ""
        assert line["loss"] == line["nsp_loss"]
    for line in found.epochs:
        assert (line["mlm_loss"], line["mlm_top1_accuracy"]) == ("", "")
        assert line["loss"] == line["nsp_loss"]
    assert (found.trained["train_mlm_loss"], found.trained["test_mlm_loss"]) == (None, None)
    assert told[-1].detail.startswith("MLM -  NSP ")
    mlm = found.metrics["mlm"]
    assert mlm["tokens"] == 0
    assert {figure for who in ("model", "constant", "two_neighbours") for figure in mlm[who].values()} == {None}
    assert found.metrics["nsp"]["model"]["loss"] > 0
    assert len(found.pictures) == 8
    results.show_metrics(found.metrics)
    results.show_facts(found.trained, "Trained")
    shown = capsys.readouterr().out
    assert "nan" not in shown.lower()
    assert "Masked-language modelling, 0 tokens" in shown


def test_without_any_label_the_next_sentence_is_learned(tiny: Params, tmp_path: Path) -> None:
    data = convert(tmp_path, BARE * 16, BARE)
    found = train_on(tiny, tmp_path, data, masking={"mode": "static"}, model={"dropout": 0.0}, epochs=10)
    assert found["train_nsp_loss"] < 0.1 < math.log(2)
    assert found["test_nsp_accuracy"] == 1.0


def test_a_batch_without_labels_weighs_nothing_in_the_history(tiny: Params, tmp_path: Path) -> None:
    # Rows of 5 and of 7 tokens do not share a batch of four: one of the two has no label. The rate is as good as zero.
    labelled, bare = row([3], [6], labels={1: 5}), row([5, 6], [7, 8])
    changes: dict[str, Any] = {
        "masking": {"mode": "static"}, "model": {"dropout": 0.0}, "epochs": 1, "batch_size": 4, "history_every": 9,
        "learning_rate": 1e-30,
    }  # fmt: skip
    data = convert(tmp_path, [labelled] * 4 + [bare] * 4, [labelled])
    train_on(tiny, tmp_path, data, **changes)
    (both,), (test,) = table(tmp_path / "history.csv"), table(tmp_path / "epochs.csv")
    assert float(both["mlm_loss"]) == pytest.approx(float(test["mlm_loss"]), rel=1e-6)


# Vocabularies with hardly a word


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_random_words_are_words_that_exist(tiny: Params, unit: MaskingUnit) -> None:
    always = dataclasses.replace(tiny.masking, unit=unit, rate=1 - 1e-9, mask_share=0.0, random_share=1.0)
    tokens = np.tile(np.array([1, 5, 4, 5, 2, 5, 2, 0], dtype=np.int32), (50, 1))
    done = Masking.of(always, word_level_tokenizer(SIX)).corrupt(
        tokens, np.arange(50)[:, None], np.arange(8)[None, :], seed=1, epoch=1
    )
    assert np.array_equal(done.chosen, tokens == 5)
    assert np.array_equal(done.inputs, tokens)  # the one word there is


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_without_words_nothing_is_chosen_and_nothing_drawn(tiny: Params, unit: MaskingUnit) -> None:
    always = dataclasses.replace(tiny.masking, unit=unit, rate=1 - 1e-9, mask_share=0.0, random_share=1.0)
    tokens = np.array([[1, 4, 2, 4, 2, 0]], dtype=np.int32)
    done = Masking.of(always, word_level_tokenizer(SPECIAL_TOKENS)).corrupt(
        tokens, np.zeros((1, 1), dtype=np.int64), np.arange(6)[None, :], seed=1, epoch=1
    )
    assert not done.chosen.any()
    assert np.array_equal(done.inputs, tokens)


def test_the_first_five_of_six_leave_one_out() -> None:
    # Training labels 5, 4, 3, 2, 1 once each: the first five guesses are these, and id 0 is never a label.
    train = pair_dataset([Pair(first=[5] * 5, second=[5], masks={at: (3, at) for at in range(1, 6)})])
    test = pair_dataset([Pair(first=[5, 5], second=[5], masks={1: (3, 5), 2: (3, 1)})])
    found = constant(Splits(train=train, test=test, tokenizer=word_level_tokenizer(SPECIAL_TOKENS), vocab_size=6))
    assert (found["top1_accuracy"], found["top5_accuracy"]) == (0.5, 1.0)  # of equals the smallest id first
    assert found["loss"] == pytest.approx(-math.log(2 / 11))


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json"])
def test_prepare_refuses_a_vocabulary_without_words(prepare: Prepare, tmp_path: Path, name: str) -> None:
    word_level_tokenizer(SPECIAL_TOKENS).save(tmp_path / "tokenizer.json")
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL_TOKENS), encoding="utf-8")
    text = folder_of(tmp_path / "text", [f"The dog ran {n} times. The cat sat." for n in range(9)])
    with pytest.raises(DataError, match=rf"{name} has no token but \[PAD\] .* every word would be \[UNK\]; add words"):
        prepare(text, tmp_path / "out", tokenizer=str(tmp_path / name))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("counts", [[0] * 6, [0, 0, 7, 0, 0, 1], [10**15, 0, 0, 0, 0, 0]])
def test_words_that_were_never_seen_start_at_a_finite_bias(counts: list[int]) -> None:
    bert = tiny_bert(vocab_size=6)
    bert.init_mlm_bias(torch.tensor(counts))
    expected = [math.log((count + 1) / (sum(counts) + 6)) for count in counts]
    assert bert.mlm_decoder.bias.tolist() == pytest.approx(expected, rel=1e-6)


# Splits that nobody can train on: told before any time is spent


def in_place(data: Path, split: str, change: Callable[[pa.Table], pa.Table]) -> None:
    path = data / f"{split}.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    (data / RECORDS_NAME).unlink(missing_ok=True)  # else the file is refused for its size


def both_stages(params: Params, folder: Path, data: Path) -> list[Callable[[Callable[[Progress], None]], object]]:
    """Return training and evaluation, as functions that take a watcher."""
    return [
        lambda watch: train_on(params, folder, data, on_progress=watch),
        lambda watch: run_evaluate(
            params.evaluate,
            params.runtime,
            model=folder / "model",
            data=data,
            out=folder / "metrics.json",
            on_progress=watch,
        ),
    ]


def refused_by_both(params: Params, folder: Path, data: Path, match: str) -> None:
    """Assert that training and evaluation refuse data with one message, before anything is told or written."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for stage in both_stages(params, folder, data):
        told: list[Progress] = []
        with pytest.raises(DataError, match=match):
            stage(told.append)
        assert told == []
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.fixture
def with_model(tiny: Params, tmp_path: Path) -> Path:
    """Return data for which there is a model beside them."""
    data = convert(tmp_path, [row([5, 3], [6, 8], labels={2: 7})] * 20, [row([3], [7], labels={1: 6})] * 3)
    save_model_for(tmp_path, data)
    return data


def save_model_for(folder: Path, data: Path) -> Bert:
    from bertpipe.model.store import save_model

    bert = tiny_bert(vocab_size=len(WORDS), max_positions=MAX_LENGTH)
    save_model(folder / "model", bert, data / "tokenizer.json", facts={})
    return bert


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_without_rows_is_refused(tiny: Params, tmp_path: Path, with_model: Path, split: str) -> None:
    in_place(with_model, split, lambda rows: rows.slice(0, 0))
    refused_by_both(tiny, tmp_path, with_model, rf"{split}\.parquet has no rows: .* run `bertpipe convert` again")


def of_two(**changes: Sequence[int]) -> pa.Table:
    """Return two rows, a good one and one with other numbers."""
    good = pair_dataset([Pair(first=[5, 6], second=[7], masks={1: (3, 5)})] * 2)
    table = table_of(dataclasses.replace(good, row=np.arange(2)))
    for name, values in changes.items():
        at = table.column_names.index(name)
        kind = table.schema.field(name)
        old = table.column(name).to_pylist()
        table = table.set_column(at, kind, pa.array([old[0], values], type=kind.type))
    return table


def frame(tokens: Sequence[int]) -> dict[str, Any]:
    return {
        "token_ids": tokens,
        "length": len(tokens),
        "second_segment_start": 2,
        "masked_positions": [],
        "masked_inputs": [],
        "masked_labels": [],
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (frame([]), "the length 0 is not in 3 to"),
        (frame([1]), "the length 1 is not in 3 to"),
        (frame([1, 2]), "the length 2 is not in 3 to"),
        ({"token_ids": [1, 9, 6, 2, 7, 2]}, "the token id 9 is not in 0 to 8"),
        ({"token_ids": [1, -1, 6, 2, 7, 2]}, "the token id -1 is not in 0 to 8"),
        ({"second_segment_start": 1}, "second_segment_start 1 is not in 2 to 5"),
        ({"second_segment_start": 6}, "second_segment_start 6 is not in 2 to 5"),
        ({"masked_positions": [0]}, "the masked position 0 is not in 1 to 4"),
        ({"masked_positions": [5]}, "the masked position 5 is not in 1 to 4"),
        ({"masked_inputs": [9]}, "the masked input 9 is not in 0 to 8"),
        ({"masked_labels": [9]}, "the masked label 9 is not in 0 to 8"),
        ({"masked_labels": [-1]}, "the masked label -1 is not in 0 to 8"),
    ],
)
@pytest.mark.parametrize("split", SPLITS)
def test_a_row_out_of_its_limits_is_refused_by_its_number(
    tiny: Params, tmp_path: Path, with_model: Path, split: str, changes: dict[str, Any], said: str
) -> None:
    in_place(with_model, split, lambda _: of_two(**changes))
    refused_by_both(tiny, tmp_path, with_model, rf"{split}\.parquet, row 1: {said}")


def test_rows_at_their_limits_are_taken(tiny: Params, tmp_path: Path, with_model: Path) -> None:
    shortest = of_two(**frame([1, 2, 2]))
    ends = of_two(token_ids=[0, 8, 6, 2, 7, 8], masked_positions=[4], masked_inputs=[8], masked_labels=[8])
    for split, rows in zip(SPLITS, (shortest, ends), strict=True):
        in_place(with_model, split, lambda _, rows=rows: rows)  # type: ignore[misc]
    assert train_on(tiny, tmp_path, with_model, epochs=1)["steps"] == 1


# Losses and gradients that are not finite, or too large

Spoil = Callable[[Losses], Losses]


def scaled(loss: Tensor, by: float) -> Tensor:
    """Return a loss of the same value whose gradient is multiplied."""
    return loss.detach() + by * (loss - loss.detach())


# Each of them is alone: a loss that is not finite has the gradient it would have had.
SPOILED: dict[str, tuple[Spoil, str]] = {
    "MLM loss NaN": (lambda losses: dataclasses.replace(losses, mlm=losses.mlm + math.nan), "the MLM loss nan"),
    "MLM loss infinite": (lambda losses: dataclasses.replace(losses, mlm=losses.mlm + math.inf), "the MLM loss inf"),
    "NSP loss NaN": (lambda losses: dataclasses.replace(losses, nsp=losses.nsp + math.nan), "the NSP loss nan"),
    "NSP loss infinite": (lambda losses: dataclasses.replace(losses, nsp=losses.nsp + math.inf), "the NSP loss inf"),
    "gradients NaN": (
        lambda losses: dataclasses.replace(losses, mlm=scaled(losses.mlm, math.nan)),
        "gradient norm nan",
    ),
    "gradients finite, their norm not": (
        lambda losses: dataclasses.replace(losses, nsp=scaled(losses.nsp, 1e25)),
        "gradient norm inf",
    ),
}


def spoil(monkeypatch: pytest.MonkeyPatch, change: Spoil, *, at: int) -> None:
    """Let the losses of optimizer step `at` be others."""
    forward, steps = PretrainingObjective.forward, iter(range(1, 10**9))

    def spoiled(self: PretrainingObjective, batch: Batch, counts: Tensor | None = None) -> Losses:
        losses = forward(self, batch, counts)
        return change(losses) if next(steps) == at else losses

    monkeypatch.setattr(PretrainingObjective, "forward", spoiled)


STEPS = 3
"""Of an epoch of the rows below, with the batches of params/tiny.yaml."""


@pytest.fixture
def forty_rows(tmp_path: Path) -> Path:
    rows = [row([5 + i % 3, 3], [6, 5 + i % 4], is_next=i % 2, labels={2: 7}) for i in range(40)]
    return convert(tmp_path, rows, rows[:3])


@pytest.mark.parametrize("history_every", [1, 100])
@pytest.mark.parametrize("name", SPOILED)
def test_a_number_that_is_none_stops_the_run_and_the_earlier_model_stays(
    tiny: Params, tmp_path: Path, forty_rows: Path, monkeypatch: pytest.MonkeyPatch, name: str, history_every: int
) -> None:
    change, said = SPOILED[name]
    spoil(monkeypatch, change, at=STEPS + 2)
    expected = (
        rf"step {STEPS + 2} has .*{said}.* at learning rate 0\.\d+: lower .*; the model of epoch 1 is at {tmp_path}"
    )
    with pytest.raises(TrainingError, match=expected):
        train_on(tiny, tmp_path, forty_rows, history_every=history_every)
    stored = load_model(tmp_path / "model")
    assert stored.facts["epochs_done"] == 1
    assert all(bool(parameter.isfinite().all()) for parameter in stored.bert.parameters())
    assert [line["epoch"] for line in table(tmp_path / "epochs.csv")] == ["1"]


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 1e6}, {"learning_rate": 1e300}, {"weight_decay": 1e300}, {"nsp_weight": 1e300},
        {"nsp_weight": 1e25},
    ],
    ids=str,
)  # fmt: skip
def test_params_that_diverge_name_step_and_rate(
    tiny: Params, tmp_path: Path, forty_rows: Path, changes: dict[str, float]
) -> None:
    with pytest.raises(TrainingError, match=r"step \d+ .*learning rate .*no epoch was completed"):
        train_on(tiny, tmp_path, forty_rows, **changes)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 1e-300},
        {"learning_rate": 100.0},  # far too large, and still numbers
        {"max_grad_norm": 1e-300},
        {"max_grad_norm": 1e300},
        {"batch_size": 10**12},
        {"model": {"dropout": 1 - 2**-53}},
        {"model": {"dropout": 1 - 2**-53, "architecture": "notebook"}},
    ],
    ids=str,
)
def test_params_at_their_limits_train_to_finite_numbers(
    tiny: Params, tmp_path: Path, forty_rows: Path, changes: dict[str, Any]
) -> None:
    found = run_all(tiny, tmp_path, forty_rows, **changes)
    assert math.isfinite(found.trained["train_mlm_loss"])
    assert math.isfinite(found.metrics["mlm"]["model"]["loss"])


def test_a_spike_moves_the_weights_no_further_than_clipping_lets_it(tiny: Params) -> None:
    """One batch of eight has losses a million times larger: PyTorch's own clipping and AdamW go as far."""
    train = dataclasses.replace(tiny.train, epochs=1, batch_size=1, learning_rate=3e-3, max_grad_norm=0.5)
    pairs = [Pair(first=[5 + i, 6], second=[7 + i], is_next=i % 2 == 0, masks={1: (3, 5 + i)}) for i in range(8)]
    batcher = Batcher(dataset=pair_dataset(pairs), masking=None, seed=1)
    ours, plain = (tiny_bert(vocab_size=29, dropout=0.0).double() for _ in range(2))
    factors = [1.0] * 3 + [1e6] + [1.0] * 4

    class Spiking(PretrainingObjective):
        def __init__(self, bert: Bert) -> None:
            super().__init__(bert)
            self.factors = iter(factors)

        def forward(self, batch: Batch, counts: Tensor | None = None) -> Losses:
            losses, factor = super().forward(batch, counts), next(self.factors)
            return dataclasses.replace(losses, mlm=factor * losses.mlm, nsp=factor * losses.nsp)

    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in plain.parameters() if p.dim() > 1], "weight_decay": train.weight_decay},
            {"params": [p for p in plain.parameters() if p.dim() <= 1], "weight_decay": 0.0},
        ],
        betas=(train.adam_beta1, train.adam_beta2),
        eps=train.adam_epsilon,
    )
    reference = Spiking(plain)
    norms = []
    steps = train_steps(Spiking(ours), make_optimizer(ours, train), batcher, train, device=CPU)
    for report, batch in zip(steps, batcher.epoch(1, batch_size=1), strict=True):
        before = [parameter.clone() for parameter in plain.parameters()]
        reference(batch).total(nsp_weight=train.nsp_weight).backward()
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), train.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = report.learning_rate
        optimizer.step()
        optimizer.zero_grad()
        assert report.gradient_norm.item() == pytest.approx(norm.item(), rel=1e-6)
        norms.append(norm.item())
        moved = max((new - old).abs().max().item() for new, old in zip(plain.parameters(), before, strict=True))
        assert moved < 10 * report.learning_rate  # Adam's steps are of the size of the rate
        for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)
    assert len(norms) == len(factors)
    assert norms[3] > 1e5 * max(norms[:3] + norms[4:])


def test_the_history_shows_a_spike_and_the_run_goes_on(
    tiny: Params, tmp_path: Path, forty_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(
        monkeypatch,
        lambda losses: dataclasses.replace(losses, mlm=1e6 * losses.mlm, nsp=1e6 * losses.nsp),
        at=STEPS + 1,
    )
    found = run_all(tiny, tmp_path, forty_rows, history_every=1)
    norms = [float(line["gradient_norm"]) for line in found.history]
    assert len(norms) == 2 * STEPS
    assert max(norms) == norms[STEPS] > 1e4 * sorted(norms)[-2]
    assert float(found.epochs[1]["loss"]) < float(found.epochs[0]["loss"]) + 1


# Models whose answers are not finite


def with_weight(bert: Bert, value: float) -> Bert:
    """Give `[CLS]`, which stands in every row, an embedding with a strange number in it."""
    with torch.no_grad():
        bert.embeddings.token.weight[1, 0] = value
    return bert


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_model_whose_losses_are_no_numbers_has_no_metrics(
    tiny: Params, tmp_path: Path, with_model: Path, value: float
) -> None:
    save_changed(tmp_path / "model", with_weight(load_model(tmp_path / "model").bert, value))
    (tmp_path / "metrics.json").write_text("the earlier ones", encoding="utf-8")
    said = (
        r"model has the MLM loss nan and the NSP loss nan on .*data: its weights are not finite, or too large; train it"
    )
    with pytest.raises(ModelError, match=said):
        run_evaluate(
            tiny.evaluate, tiny.runtime, model=tmp_path / "model", data=with_model, out=tmp_path / "metrics.json"
        )
    assert (tmp_path / "metrics.json").read_text(encoding="utf-8") == "the earlier ones"


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
@pytest.mark.parametrize("task", ["nsp", "mlm"])
def test_a_model_whose_answer_is_no_number_says_so(tmp_path: Path, with_model: Path, value: float, task: str) -> None:
    save_changed(tmp_path / "model", with_weight(load_model(tmp_path / "model").bert, value))
    predictor = load_predictor(str(tmp_path / "model"))
    with pytest.raises(ModelError, match=r"the output of .*model is not finite: its weights are damaged or too large"):
        _ = predictor.next_sentence("a b", "c") if task == "nsp" else predictor.fill_masks("a [MASK]", 3)


@pytest.mark.parametrize("task", ["nsp", "mlm"])
def test_one_number_that_is_none_among_the_others_is_enough(tmp_path: Path, with_model: Path, task: str) -> None:
    bert = load_model(tmp_path / "model").bert
    head = bert.nsp_head if task == "nsp" else bert.mlm_decoder
    with torch.no_grad():
        head.bias[1] = math.inf
    save_changed(tmp_path / "model", bert)
    predictor = load_predictor(str(tmp_path / "model"))
    with pytest.raises(ModelError, match=r"the output of .* is not finite"):
        _ = predictor.next_sentence("a b", "c") if task == "nsp" else predictor.fill_masks("a [MASK]", 3)


def test_an_example_asked_of_such_a_model_is_null_beside_the_reason(tmp_path: Path, with_model: Path) -> None:
    network = save_tiny_huggingface(tmp_path / "theirs")
    with torch.no_grad():
        network.bert.embeddings.word_embeddings.weight[2, 0] = math.nan  # [CLS]
    network.save_pretrained(tmp_path / "theirs")
    asked = MlmExample(task="mlm", text="the [MASK]", model=str(tmp_path / "theirs"))
    infer = InferParams(top_k=3, examples=(asked, dataclasses.replace(asked, text="a [MASK]", model=None)))
    result = run_infer_examples(infer, model=tmp_path / "model", out=tmp_path / "examples.json")
    theirs, own = strict_json(tmp_path / "examples.json")
    assert (result["asked"], result["answered"]) == (2, 1)
    assert theirs["answer"] is None
    assert "is not finite" in theirs["reason"]
    assert len(own["answer"]["masks"][0]["candidates"]) == 3
