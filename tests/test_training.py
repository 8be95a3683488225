"""The training run: equal bytes, exact resume, and errors that keep the last good model."""

import csv
import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bertpipe.core.artifacts import EPOCHS_COLUMNS, HISTORY_COLUMNS, TIMING_COLUMNS
from bertpipe.core.errors import DataError, MissingInputError, ModelError, ParamsError, TrainingError, WriteError
from bertpipe.core.params import Params, TrainParams
from bertpipe.core.progress import Progress
from bertpipe.data.batching import Batcher
from bertpipe.data.pair_dataset import read_dataset
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS, load_tokenizer
from bertpipe.evaluation.evaluate import Evaluation, evaluate
from bertpipe.model import store
from bertpipe.model.store import load_model
from bertpipe.stages.convert import run_convert
from bertpipe.training import history as history_module
from bertpipe.training.history import History
from bertpipe.training.inputs import read_training_data
from bertpipe.training.loop import StepReport, StepSchedule, train_steps
from bertpipe.training.objective import PretrainingObjective
from bertpipe.training.optim import Optimizer, learning_rate, make_optimizer
from bertpipe.training.trainer import Trainer
from datasets import GOOD, Pair, pair_dataset, row_fields, write_zip
from defaults import DEFAULTS
from models import save_tiny_model, tiny_bert
from runs import crash_in, results, train


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def steps_an_epoch(params: Params, data: Path) -> int:
    dataset = read_dataset(data / "train.parquet")
    return StepSchedule.of(Batcher(dataset=dataset, masking=None, seed=params.train.seed), params.train).steps[0]


# Equal bytes


def test_two_runs_give_equal_bytes(tiny: Params, parquet: Path, trained: Path, tmp_path: Path) -> None:
    train(tiny, tmp_path, parquet)
    assert results(tmp_path) == results(trained)


def test_a_number_of_steps_ends_the_training_and_spreads_the_schedule_over_them(
    tiny: Params, parquet: Path, tmp_path: Path
) -> None:
    steps = steps_an_epoch(tiny, parquet)
    found = train(tiny, tmp_path, parquet, steps=steps + 2, epochs=50, history_every=1)
    assert (found["steps"], found["epochs"]) == (steps + 2, 2)
    history, epochs = table(tmp_path / "history.csv"), table(tmp_path / "epochs.csv")
    assert [int(row["step"]) for row in epochs] == [steps, steps + 2]
    assert len(history) == steps + 2
    expected = [learning_rate(step, steps + 2, tiny.train) for step in range(1, steps + 3)]
    assert [float(row["learning_rate"]) for row in history] == pytest.approx(expected)
    # More steps than the epochs have leave it at the epochs.
    assert train(tiny, tmp_path / "all", parquet, steps=10**6)["steps"] == tiny.train.epochs * steps


@pytest.mark.thorough
@pytest.mark.parametrize("changes", [{"optimizer": "muon"}, {"optimizer": "muon", "decay": "cosine"}])
def test_muon_gives_equal_bytes_after_a_crash(
    tiny: Params, parquet: Path, tmp_path: Path, changes: dict[str, str]
) -> None:
    modern = replace(tiny, model=replace(tiny.model, architecture="modern", initialization="mimetic"))
    train(modern, tmp_path / "whole", parquet, **changes)
    crash_in("epoch 2", modern, tmp_path / "parts", parquet, **changes)
    train(modern, tmp_path / "parts", parquet, **changes)
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


def test_the_training_rate_is_that_of_dynamic_masks_alone(tiny: Params, parquet: Path) -> None:
    data = read_training_data(parquet)
    masking = replace(tiny.masking, mode="dynamic", rate=0.15)
    same, other = (data.masks(replace(masking, training_rate=rate)) for rate in ("same", 0.4))
    assert same is not None
    assert other is not None
    assert (same.rate, other.rate) == (0.15, 0.4)
    assert data.masks(replace(masking, mode="static", training_rate=0.4)) is None
    rows = data.train.read(data.train.layout.groups)
    words = len(rows.token_ids) - 3 * len(rows)  # without [CLS] and two [SEP]
    batcher = Batcher(dataset=rows, masking=other, seed=1)
    chosen = sum(len(batch.masked_labels) for batch in batcher.epoch(1, batch_size=32))
    assert chosen / words == pytest.approx(0.4, abs=4 * math.sqrt(0.4 * 0.6 / words))


def test_another_seed_gives_another_model(tiny: Params, parquet: Path, trained: Path, tmp_path: Path) -> None:
    train(tiny, tmp_path, parquet, seed=tiny.train.seed + 1)
    assert results(tmp_path)["model/model.safetensors"] != results(trained)["model/model.safetensors"]


def test_how_often_progress_is_told_does_not_change_the_result(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path
) -> None:
    often = dataclasses.replace(tiny, runtime=dataclasses.replace(tiny.runtime, log_every=1))
    train(often, tmp_path, parquet)
    assert results(tmp_path) == results(trained)


def test_the_process_own_random_state_does_not_matter(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path
) -> None:
    torch.manual_seed(99)
    train(tiny, tmp_path, parquet)
    assert results(tmp_path) == results(trained)


def test_a_place_where_something_else_stands_is_refused_at_once(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("precious", encoding="utf-8")
    with pytest.raises(WriteError, match=r"model holds config\.json, which bertpipe did not write"):
        train(tiny, tmp_path, parquet, options={"on_progress": pytest.fail})
    assert (tmp_path / "model" / "config.json").read_text(encoding="utf-8") == "precious"
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "config.json"]


# What a run leaves


def test_the_tables_have_a_row_an_interval_and_a_row_an_epoch(tiny: Params, parquet: Path, trained: Path) -> None:
    history, epochs, timing = (table(trained / f"{name}.csv") for name in ("history", "epochs", "timing"))
    assert (tuple(history[0]), tuple(epochs[0]), tuple(timing[0])) == (
        HISTORY_COLUMNS, EPOCHS_COLUMNS, TIMING_COLUMNS
    )  # fmt: skip
    steps, every = steps_an_epoch(tiny, parquet), tiny.train.history_every
    ends = [*range(every, steps, every), steps]
    expected = [*ends, *(steps + end for end in ends)]
    assert [int(row["step"]) for row in history] == [int(row["step"]) for row in timing] == expected
    assert [int(row["epoch"]) for row in history] == [1] * len(ends) + [2] * len(ends)
    assert [(int(row["epoch"]), int(row["step"])) for row in epochs] == [(1, steps), (2, 2 * steps)]
    tokens = len(read_dataset(parquet / "train.parquet").token_ids)
    assert sum(int(row["tokens"]) for row in timing) == 2 * tokens
    assert all(0 < float(row["share_of_peak"]) < 1.5 for row in timing)
    for row in history:
        total = float(row["mlm_loss"]) + tiny.train.nsp_weight * float(row["nsp_loss"])
        assert float(row["loss"]) == pytest.approx(total, rel=1e-8)


def test_the_run_learns(trained: Path) -> None:
    history = table(trained / "history.csv")
    assert float(history[-1]["mlm_loss"]) < float(history[0]["mlm_loss"]) - 0.5


def test_the_model_is_the_last_epochs_and_answers_as_the_table_says(tiny: Params, parquet: Path, trained: Path) -> None:
    stored = load_model(trained / "model")
    test = Batcher(dataset=read_dataset(parquet / "test.parquet"), masking=None, seed=0)
    result = Evaluation.of(evaluate(stored.bert, test, batch_size=7, device=torch.device("cpu")))
    last = table(trained / "epochs.csv")[-1]
    assert result.mlm_loss == pytest.approx(float(last["mlm_loss"]), rel=1e-5)
    assert result.nsp_accuracy == pytest.approx(float(last["nsp_accuracy"]), rel=1e-5)
    assert stored.facts["epochs_done"] == tiny.train.epochs
    assert stored.facts["params"]["train"]["learning_rate"] == tiny.train.learning_rate
    assert stored.facts["overrides"] == {}


def test_a_model_stands_there_after_each_epoch(tiny: Params, parquet: Path, trained: Path, tmp_path: Path) -> None:
    crash_in("epoch 2/2", tiny, tmp_path, parquet)
    stored = load_model(tmp_path / "model")
    assert stored.facts["epochs_done"] == 1
    assert (tmp_path / "epochs.csv").read_text(encoding="utf-8").splitlines() == (
        (trained / "epochs.csv").read_text(encoding="utf-8").splitlines()[:2]
    )


def test_the_summary_is_that_of_the_tables(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    summary = train(tiny, tmp_path, parquet, options={"on_progress": told.append})
    history, epochs = table(tmp_path / "history.csv"), table(tmp_path / "epochs.csv")
    assert summary["steps"] == int(history[-1]["step"]) == told[-1].completed == told[-1].total
    assert summary["train_mlm_loss"] == pytest.approx(float(history[-1]["mlm_loss"]), rel=1e-8)
    assert summary["test_nsp_loss"] == pytest.approx(float(epochs[-1]["nsp_loss"]), rel=1e-8)
    rows = 2 * len(read_dataset(parquet / "train.parquet"))
    assert summary["sequences_per_second"] == pytest.approx(rows / summary["elapsed_s"], rel=1e-9)
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert summary["parameters"] == sum(tensor.numel() for tensor in weights.values())  # tied: written once
    assert math.isfinite(summary["tokens_per_second"])


def test_a_loss_of_the_history_is_a_mean_over_tokens_not_over_batches(tiny: Params) -> None:
    # Two steps of one interval with 1 and 3 supervised tokens, learning rate as good as zero.
    pairs = [
        Pair(first=[5], second=[6], masks={1: (3, 5)}),
        Pair(first=[7, 8], second=[9, 10], masks={1: (3, 7), 4: (3, 9), 5: (3, 10)}),
    ]
    params = dataclasses.replace(tiny.train, epochs=1, batch_size=1, learning_rate=1e-30, history_every=2)
    bert = tiny_bert(vocab_size=11, dropout=0.0)
    batcher = Batcher(dataset=pair_dataset(pairs), masking=None, seed=1)
    expected = Evaluation.of(evaluate(bert, batcher, batch_size=2, device=torch.device("cpu")))
    history = History(2, 1.0)
    steps = train_steps(
        PretrainingObjective(bert), make_optimizer(bert, params), batcher, params, device=torch.device("cpu")
    )
    assert [history.add(report) for report in steps] == [False, True]
    (row,) = history.intervals
    assert row[3] == pytest.approx(expected.mlm_loss, rel=1e-6)
    assert row[4] == pytest.approx(expected.nsp_loss, rel=1e-6)


def test_gradients_are_scaled_down_to_the_largest_norm(tiny: Params) -> None:
    pairs = [Pair(first=[5, 6], second=[7, 8], masks={1: (3, 5)})]
    batcher = Batcher(dataset=pair_dataset(pairs), masking=None, seed=1)
    params = dataclasses.replace(tiny.train, epochs=1, max_grad_norm=0.25)
    asked: list[float] = []

    class Watching(Optimizer):
        def step(self, *, learning_rate: float, max_grad_norm: float) -> torch.Tensor:
            asked.append(max_grad_norm)
            return super().step(learning_rate=learning_rate, max_grad_norm=max_grad_norm)

    bert = tiny_bert(vocab_size=11, dropout=0.0)
    optimizer = Watching(torch.optim.AdamW(bert.parameters(), betas=(0.0, 0.0), fused=True))
    (report,) = train_steps(PretrainingObjective(bert), optimizer, batcher, params, device=torch.device("cpu"))
    assert report.gradient_norm.item() > 1
    assert asked == [0.25]
    # With no memory of other steps, the second moment is the square of the scaled gradient.
    squares = sum(float(state["exp_avg_sq"].sum()) for state in optimizer.inner[0].state.values())
    assert math.sqrt(squares) == pytest.approx(0.25, rel=1e-4)


# Errors


@pytest.mark.parametrize("rate", [1e30, 1e38])
def test_a_loss_that_is_not_finite_names_step_and_rate(
    tiny: Params, parquet: Path, tmp_path: Path, rate: float
) -> None:
    with pytest.raises(TrainingError, match=r"step \d+ .*learning rate .*e\+.*no epoch was completed") as caught:
        train(tiny, tmp_path, parquet, learning_rate=rate)
    assert "lower train.learning_rate" in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_a_run_that_breaks_later_keeps_the_earlier_epochs_model(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_an_epoch(tiny, parquet)

    def rate_that_jumps(step: int, total_steps: int, train: TrainParams) -> float:
        return 1e38 if step > steps else learning_rate(step, total_steps, train)

    monkeypatch.setattr("bertpipe.training.loop.learning_rate", rate_that_jumps)
    with pytest.raises(TrainingError, match=rf"step {steps + 2} .*1e\+38.*; the model of epoch 1 is at {tmp_path}"):
        train(tiny, tmp_path, parquet)
    stored = load_model(tmp_path / "model")
    assert stored.facts["epochs_done"] == 1
    assert all(torch.isfinite(parameter).all() for parameter in stored.bert.parameters())
    for name in ("history.csv", "epochs.csv"):
        whole = (trained / name).read_text(encoding="utf-8")
        assert whole.startswith((tmp_path / name).read_text(encoding="utf-8"))


def test_an_evaluation_that_is_not_finite_stops_the_run_too(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    # One step an epoch: its loss is finite, the weights it leaves are not.
    with pytest.raises(TrainingError, match=r"step 1 .*learning rate 1e\+38.*no epoch was completed"):
        train(tiny, tmp_path, parquet, learning_rate=1e38, batch_size=4096, warmup_share=0.0, decay_share=0.0)
    assert not (tmp_path / "model").exists()


def test_a_vocabulary_too_small_for_the_ids_is_refused(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    size = json.loads((parquet / "summary.json").read_text(encoding="utf-8"))["vocabulary"]["size"]
    with pytest.raises(DataError, match=rf"ids up to {size - 1}, which do not fit model\.vocab_size {size - 1}"):
        train(tiny, tmp_path, parquet, model={"vocab_size": size - 1})


def test_a_larger_vocabulary_is_taken(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    train(tiny, tmp_path, parquet, model={"vocab_size": 2003}, epochs=1)
    assert load_model(tmp_path / "model").bert.vocab_size == 2003


def test_rows_longer_than_the_positions_are_refused(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    lengths = [read_dataset(parquet / f"{split}.parquet").lengths.max() for split in ("train", "test")]
    longest = int(max(lengths))
    with pytest.raises(DataError, match=rf"rows of {longest} tokens, model\.max_positions is {longest - 1}"):
        train(tiny, tmp_path, parquet, model={"max_positions": longest - 1})
    train(tiny, tmp_path, parquet, model={"max_positions": longest}, epochs=1)


@pytest.fixture
def without_truth(tmp_path: Path) -> Path:
    """Return Parquet files of a zip as the notebook's, which does not tell what stands under its masks."""
    rows = [row_fields([1, 5, 3, 2, 6 + i % 3, 2], [0, 0, 7, 0, 0, 0], [1, 1, 1, 1, 2, 2], i % 2) for i in range(40)]
    run_convert(
        replace(DEFAULTS.convert, subset="full", max_length=16, max_reject_rate=0.0, recover="nothing"),
        zip_file=write_zip(tmp_path / "x.zip", rows, [GOOD]),
        out=tmp_path / "parquet",
        rejects_report=tmp_path / "rejects.parquet",
    )
    return tmp_path / "parquet"


def test_dynamic_masks_are_refused_where_the_truth_is_unknown(
    tiny: Params, without_truth: Path, tmp_path: Path
) -> None:
    with pytest.raises(ParamsError, match=r"masking\.mode is dynamic, .* use auto or static"):
        train(tiny, tmp_path, without_truth, masking={"mode": "dynamic"})


def test_auto_takes_stored_masks_where_the_truth_is_unknown(tiny: Params, without_truth: Path, tmp_path: Path) -> None:
    for mode in ("auto", "static"):
        train(tiny, tmp_path / mode, without_truth, masking={"mode": mode})
    auto, static = results(tmp_path / "auto"), results(tmp_path / "static")
    assert auto["model/model.safetensors"] == static["model/model.safetensors"]


def test_auto_takes_new_masks_where_the_truth_is_known(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path
) -> None:
    for mode in ("dynamic", "static"):
        train(tiny, tmp_path / mode, parquet, masking={"mode": mode})
    auto, dynamic, static = (
        results(folder)["history.csv"] for folder in (trained, tmp_path / "dynamic", tmp_path / "static")
    )
    assert auto == dynamic
    assert auto != static


def test_another_unit_of_masking_trains_on_other_masks(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path
) -> None:
    for unit in ("word", "span"):
        train(tiny, tmp_path / unit, parquet, masking={"unit": unit})
    token, word, span = (results(folder)["history.csv"] for folder in (trained, tmp_path / "word", tmp_path / "span"))
    assert word == token  # the sample's vocabulary is of whole words
    assert span != token


def test_missing_data_name_the_command_that_makes_them(tiny: Params, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="run `bertpipe convert` or `bertpipe prepare` first"):
        train(tiny, tmp_path, tmp_path / "none")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    params = dataclasses.replace(tiny, runtime=dataclasses.replace(tiny.runtime, device="cuda"))
    with pytest.raises(ParamsError, match=r"runtime\.device is cuda, but PyTorch sees no GPU"):
        train(params, tmp_path, parquet)


# The model directory


@pytest.mark.parametrize("architecture", ["bert", "notebook"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_model_reads_back_as_it_was_saved(tmp_path: Path, architecture: str, tied: bool) -> None:
    saved = save_tiny_model(tmp_path / "model", architecture=architecture, tied=tied)
    stored = load_model(tmp_path / "model")
    assert not stored.bert.training
    assert load_tokenizer(stored.tokenizer_file).tokens([0, 5]) == [SPECIAL_TOKENS[0], "the"]
    for name, tensor in saved.state_dict().items():
        assert torch.equal(tensor, stored.bert.state_dict()[name])
    assert (stored.bert.mlm_decoder.weight is stored.bert.embeddings.token.weight) is tied


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_damaged_model_is_refused(tmp_path: Path, name: str) -> None:
    save_tiny_model(tmp_path / "model")
    content = bytearray((tmp_path / "model" / name).read_bytes())
    content[-2] ^= 1
    (tmp_path / "model" / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} is damaged"):
        load_model(tmp_path / "model")


def test_a_model_that_lacks_a_file_is_refused(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(MissingInputError, match=r"model\.safetensors does not exist: run `bertpipe train` first"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("config", [None, "{", "[]", '{"format": "other"}'])
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(ModelError, match="is not a bertpipe model directory"):
        load_model(tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    with pytest.raises(ModelError, match="does not fit the model"):
        store.load_weights(weights, tiny_bert(vocab_size=99))
    weights.write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="cannot be read"):
        store.load_weights(weights, tiny_bert(vocab_size=13))


def test_a_model_takes_the_place_of_an_earlier_one_whole(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    before = sorted(path.name for path in (tmp_path / "model").iterdir())
    shutil.copytree(tmp_path / "model", tmp_path / "copy")
    save_tiny_model(tmp_path / "model", layers=1)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == before
    assert load_model(tmp_path / "copy").bert.params.layers == 2
    assert load_model(tmp_path / "model").bert.params.layers == 1


# While it trains


def at_each_step(monkeypatch: pytest.MonkeyPatch, do: Callable[[int], None]) -> None:
    """Call something after each step, once the step's figures are in the history."""
    after = Trainer._after_step

    def watched(trainer: Trainer, report: StepReport) -> None:
        after(trainer, report)
        do(report.step)

    monkeypatch.setattr(Trainer, "_after_step", watched)


def test_the_history_grows_with_the_run_and_ends_as_without(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertpipe.training.history._LIVE_EVERY_S", 0.0)
    seen: list[list[str]] = []

    def look(_: int) -> None:
        for name in ("history", "timing"):
            file = tmp_path / f"{name}.csv"
            if file.exists():
                seen.append([row["step"] for row in table(file)])

    at_each_step(monkeypatch, look)
    train(tiny, tmp_path, parquet)
    assert results(tmp_path) == results(trained)
    whole = [row["step"] for row in table(tmp_path / "history.csv")]
    assert all(steps == whole[: len(steps)] for steps in seen)
    first = len([steps for steps in seen if len(steps) < len(whole) / 2])
    assert first > 2  # before the first epoch's end


def test_a_history_that_cannot_be_written_is_said_once_and_the_run_goes_on(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertpipe.training.history._LIVE_EVERY_S", 0.0)
    notes: list[str] = []
    with monkeypatch.context() as patch:

        def full(path: Path, *_: object) -> None:
            raise WriteError(f"{path} cannot be written: no space left on device")

        write = history_module.write_csv
        patch.setattr(history_module, "write_csv", full)

        def relieved(trainer: Trainer) -> None:
            patch.setattr(history_module, "write_csv", write)
            end(trainer)

        end = Trainer._end_epoch
        patch.setattr(Trainer, "_end_epoch", relieved)
        train(tiny, tmp_path, parquet, options={"on_note": notes.append})
    assert [note for note in notes if "history.csv" in note] == [
        f"the run cannot be followed in {tmp_path}/history.csv: {tmp_path}/history.csv cannot be written: no space "
        "left on device"
    ]
    assert results(tmp_path) == results(trained)
