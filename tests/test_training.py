"""The training run: equal bytes, exact resume, and errors that keep the last good model."""

import csv
import dataclasses
import functools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from bertpipe.artifacts import EPOCHS_COLUMNS, HISTORY_COLUMNS, SPLITS, TIMING_COLUMNS, Progress, ignore_progress
from bertpipe.data.batching import Batcher
from bertpipe.data.dataset import PairFile, read_dataset
from bertpipe.data.tokenization import SPECIAL_TOKENS, load_tokenizer
from bertpipe.errors import DataError, MissingInputError, ModelError, ParamsError, TrainingError
from bertpipe.evaluation import evaluate
from bertpipe.model import store
from bertpipe.model.bert import Bert
from bertpipe.model.store import load_model
from bertpipe.params import ConvertParams, Params, TrainParams
from bertpipe.stages.convert import run_convert
from bertpipe.stages.train import run_train
from bertpipe.training.checkpoint import Checkpoints
from bertpipe.training.history import History
from bertpipe.training.loop import plan, train_steps
from bertpipe.training.objective import PretrainingObjective
from bertpipe.training.optim import AdamW, learning_rate, make_optimizer
from datasets import GOOD, Pair, pair_dataset, row_fields, write_zip
from models import save_tiny_model, tiny_bert
from runs import paths_in, results


class StopRequested(Exception):  # noqa: N818 - no error: the test's own way to stop a run
    pass


def train(
    params: Params,
    folder: Path,
    data: Path,
    *,
    on_progress: Callable[[Progress], None] = ignore_progress,
    resume: bool = True,
    model: dict[str, Any] | None = None,
    masking: dict[str, Any] | None = None,
    **changes: Any,  # noqa: ANN401
) -> dict[str, Any]:
    """Run a training with changes to its section."""
    return run_train(
        dataclasses.replace(params.model, **(model or {})),
        dataclasses.replace(params.train, **changes),
        dataclasses.replace(params.masking, **(masking or {})),
        params.evaluate,
        params.runtime,
        paths=paths_in(folder, data),
        resume=resume,
        on_progress=on_progress,
    )


def stop_in(label: str) -> Callable[[Progress], None]:
    """Return a watcher that stops the run once it is told of an epoch."""

    def watch(progress: Progress) -> None:
        if progress.label.startswith(label):
            raise StopRequested

    return watch


def stop(params: Params, folder: Path, data: Path, label: str, **changes: Any) -> None:  # noqa: ANN401
    with pytest.raises(StopRequested):
        train(params, folder, data, on_progress=stop_in(label), **changes)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def steps_an_epoch(params: Params, data: Path) -> int:
    dataset = read_dataset(data / "train.parquet")
    return plan(Batcher(dataset=dataset, masking=None, seed=params.train.seed), params.train).steps[0]


# Equal bytes


def test_two_runs_give_equal_bytes(tiny: Params, parquet: Path, trained: Path, tmp_path: Path) -> None:
    train(tiny, tmp_path, parquet)
    assert results(tmp_path) == results(trained)


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


# Resume


@pytest.mark.parametrize("epoch", [2, 3])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    tiny: Params, parquet: Path, tmp_path: Path, epoch: int
) -> None:
    train(tiny, tmp_path / "whole", parquet, epochs=3)
    stop(tiny, tmp_path / "stopped", parquet, f"epoch {epoch}/3", epochs=3)
    summary = train(tiny, tmp_path / "stopped", parquet, epochs=3)
    assert summary["resumed_after_epoch"] == epoch - 1
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")


def test_a_run_stopped_in_its_first_epoch_begins_anew(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path
) -> None:
    stop(tiny, tmp_path, parquet, "epoch 1/2")
    assert not (tmp_path / "model").exists()
    assert train(tiny, tmp_path, parquet)["resumed_after_epoch"] == 0
    assert results(tmp_path) == results(trained)


def test_a_run_stopped_twice_ends_as_one_that_was_not(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path
) -> None:
    stop(tiny, tmp_path, parquet, "epoch 2/2")
    stop(tiny, tmp_path, parquet, "epoch 2/2")
    train(tiny, tmp_path, parquet)
    assert results(tmp_path) == results(trained)


def test_a_run_stopped_before_its_last_model_was_published_publishes_it(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_all_but_the_last(directory: Path, bert: Bert, tokenizer_file: Path, facts: dict[str, Any]) -> None:
        if facts["epochs_done"] == tiny.train.epochs:
            raise StopRequested
        store.save_model(directory, bert, tokenizer_file, facts)

    with monkeypatch.context() as patch:
        patch.setattr("bertpipe.stages.train.save_model", save_all_but_the_last)
        with pytest.raises(StopRequested):
            train(tiny, tmp_path, parquet)
    summary = train(tiny, tmp_path, parquet)
    assert summary["resumed_after_epoch"] == tiny.train.epochs
    assert results(tmp_path) == results(trained)


def test_no_resume_begins_anew(tiny: Params, parquet: Path, trained: Path, tmp_path: Path) -> None:
    stop(tiny, tmp_path, parquet, "epoch 2/2")
    assert train(tiny, tmp_path, parquet, resume=False)["resumed_after_epoch"] == 0
    assert results(tmp_path) == results(trained)


@pytest.fixture
def small_windows(parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let training read its data in windows of 64 rows, and return data of that form."""
    shutil.copytree(parquet, tmp_path / "small-groups")
    for split in SPLITS:
        path = tmp_path / "small-groups" / f"{split}.parquet"
        pq.write_table(pq.read_table(path), path, row_group_size=32)
    smaller = functools.partial(PairFile, rows_per_group=32, groups_per_window=2)
    monkeypatch.setattr("bertpipe.stages.train.PairFile", smaller)
    return tmp_path / "small-groups"


def test_a_run_over_many_windows_resumes_to_equal_bytes(
    tiny: Params, small_windows: Path, trained: Path, tmp_path: Path
) -> None:
    layout = PairFile(small_windows / "train.parquet", rows_per_group=32, groups_per_window=2).layout
    assert len(layout.windows(layout.groups)) > 4
    train(tiny, tmp_path / "whole", small_windows)
    stop(tiny, tmp_path / "stopped", small_windows, "epoch 2/2")
    assert train(tiny, tmp_path / "stopped", small_windows)["resumed_after_epoch"] == 1
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")
    # Another order than in one window: the comparison above is of a run that really went window by window.
    assert results(tmp_path / "whole")["history.csv"] != results(trained)["history.csv"]


@pytest.mark.parametrize("change", [{"learning_rate": 0.005}, {"epochs": 3}])
def test_a_run_on_other_params_does_not_go_on_from_this_ones_state(
    tiny: Params, parquet: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    stop(tiny, tmp_path, parquet, "epoch 2/2")
    assert train(tiny, tmp_path, parquet, **change)["resumed_after_epoch"] == 0
    assert train(tiny, tmp_path, parquet)["resumed_after_epoch"] == 1


@pytest.fixture(scope="module")
def three_epochs(tiny: Params, parquet: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the folder of a run of three epochs, and that of one stopped in the third; read only."""
    whole, stopped = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("stopped")
    train(tiny, whole, parquet, epochs=3)
    stop(tiny, stopped, parquet, "epoch 3/3", epochs=3)
    return whole, stopped


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    tiny: Params, parquet: Path, tmp_path: Path, three_epochs: tuple[Path, Path], name: str, damage: str
) -> None:
    whole, stopped = three_epochs
    shutil.copytree(stopped, tmp_path / "run")
    newest = max((tmp_path / "run" / "state").glob("*/epoch-*"))
    assert newest.name == "epoch-000002"
    path = newest / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    assert train(tiny, tmp_path / "run", parquet, epochs=3)["resumed_after_epoch"] == 1
    assert results(tmp_path / "run") == results(whole)


def test_without_any_whole_checkpoint_a_run_begins_anew(
    tiny: Params, parquet: Path, tmp_path: Path, three_epochs: tuple[Path, Path]
) -> None:
    whole, stopped = three_epochs
    shutil.copytree(stopped, tmp_path / "run")
    for manifest in (tmp_path / "run" / "state").rglob("manifest.json"):
        manifest.write_text("[]", encoding="utf-8")
    assert train(tiny, tmp_path / "run", parquet, epochs=3)["resumed_after_epoch"] == 0
    assert results(tmp_path / "run") == results(whole)


def test_state_goes_away_once_the_model_is_there(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    stop(tiny, tmp_path, parquet, "epoch 2/2")
    assert len(list((tmp_path / "state").iterdir())) == 1
    train(tiny, tmp_path, parquet)
    assert list((tmp_path / "state").iterdir()) == []


def test_two_checkpoints_are_kept_at_most(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "state")
    bert = tiny_bert(vocab_size=11)
    optimizer = AdamW([(list(bert.parameters()), 0.0)], betas=(0.9, 0.999), epsilon=1e-8)
    for epoch in range(1, 5):
        checkpoints.save(epoch, bert, optimizer, {"epoch": epoch})
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["epoch-000003", "epoch-000004"]
    assert checkpoints.load_newest(bert, optimizer) == (4, {"epoch": 4})
    checkpoints.clear()
    assert checkpoints.load_newest(bert, optimizer) is None


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
    for row in history:
        total = float(row["mlm_loss"]) + tiny.train.nsp_weight * float(row["nsp_loss"])
        assert float(row["loss"]) == pytest.approx(total, rel=1e-8)


def test_the_run_learns(trained: Path) -> None:
    history = table(trained / "history.csv")
    assert float(history[-1]["mlm_loss"]) < float(history[0]["mlm_loss"]) - 0.5


def test_the_model_is_the_last_epochs_and_answers_as_the_table_says(tiny: Params, parquet: Path, trained: Path) -> None:
    stored = load_model(trained / "model")
    test = Batcher(dataset=read_dataset(parquet / "test.parquet"), masking=None, seed=0)
    result = evaluate(stored.bert, test, batch_size=7, device=torch.device("cpu"))
    last = table(trained / "epochs.csv")[-1]
    assert result.mlm_loss == pytest.approx(float(last["mlm_loss"]), rel=1e-5)
    assert result.nsp_accuracy == pytest.approx(float(last["nsp_accuracy"]), rel=1e-5)
    assert stored.facts["epochs_done"] == tiny.train.epochs
    assert stored.facts["params"]["train"]["learning_rate"] == tiny.train.learning_rate
    assert stored.facts["overrides"] == {}


def test_a_model_stands_there_after_each_epoch(tiny: Params, parquet: Path, trained: Path, tmp_path: Path) -> None:
    stop(tiny, tmp_path, parquet, "epoch 2/2")
    stored = load_model(tmp_path / "model")
    assert stored.facts["epochs_done"] == 1
    assert (tmp_path / "epochs.csv").read_text(encoding="utf-8").splitlines() == (
        (trained / "epochs.csv").read_text(encoding="utf-8").splitlines()[:2]
    )


def test_the_summary_is_that_of_the_tables(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    summary = train(tiny, tmp_path, parquet, on_progress=told.append)
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
    expected = evaluate(bert, batcher, batch_size=2, device=torch.device("cpu"))
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

    class Watching(AdamW):
        def step(self, *, learning_rate: float, max_grad_norm: float) -> torch.Tensor:
            asked.append(max_grad_norm)
            return super().step(learning_rate=learning_rate, max_grad_norm=max_grad_norm)

    bert = tiny_bert(vocab_size=11, dropout=0.0)
    optimizer = Watching([(list(bert.parameters()), 0.0)], betas=(0.0, 0.0), epsilon=1e-8)
    (report,) = train_steps(PretrainingObjective(bert), optimizer, batcher, params, device=torch.device("cpu"))
    assert report.gradient_norm.item() > 1
    assert asked == [0.25]
    # With no memory of other steps, the second moment is the square of the scaled gradient.
    squares = sum(float(state.square.sum()) for state in optimizer.states)
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
        ConvertParams(subset="full", max_length=16, max_reject_rate=0.0, recover="nothing"),
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
    with pytest.raises(MissingInputError, match="run `bertpipe convert` first"):
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
