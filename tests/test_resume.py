"""A run stopped at any step, in any way, ends with the bytes of one that was not."""

import functools
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from bertpipe.core.artifacts import RECORDS_NAME, ROWS_PER_GROUP, SPLITS
from bertpipe.core.errors import BusyError, StoppedError
from bertpipe.core.locks import exclusive_lock
from bertpipe.core.params import Params
from bertpipe.data.pair_dataset import PairFile
from bertpipe.model import store
from bertpipe.model.bert import Bert
from bertpipe.training.checkpoint import CheckpointClock, Checkpoints, checkpoints_in
from bertpipe.training.optim import Optimizer
from bertpipe.training.signals import stop_requests
from models import tiny_bert
from runs import EACH_STEP, SMALL, STEPS, Crash, at_step, crash, crash_in, results, train
from torture.forks import FULL

pytestmark = [pytest.mark.promise("Exact resume"), pytest.mark.thorough]

SIGNALS = [signal.SIGINT, signal.SIGTERM]
SIGNALLED = range(1, STEPS) if FULL else (1, 6, 8, 11)
"""The first step, the last of an epoch, one within an interval of the history, and the last but one of all."""
CRASHED = range(1, STEPS + 1) if FULL else (1, 2, 6, 7, 12)
"""Before and after the first checkpoint, before and after the end of an epoch, and the last step."""


# At any step


@pytest.mark.parametrize(
    ("number", "step"),
    [(number, step) for step in SIGNALLED for number in SIGNALS if FULL or number == SIGNALS[step % 2]],
)
def test_a_signal_after_any_step_saves_and_the_run_goes_on_to_equal_bytes(
    tiny: Params, parquet: Path, tmp_path: Path, whole: dict[str, bytes], number: int, step: int
) -> None:
    said = rf"stopped by .* after step {step} of {STEPS}; run the same command again to resume"
    with at_step(step, lambda: signal.raise_signal(number)), pytest.raises(StoppedError, match=said) as stopped:
        train(tiny, tmp_path, parquet, **SMALL)
    assert stopped.value.exit_code == 128 + number
    assert train(tiny, tmp_path, parquet, **SMALL)["resumed_after_step"] == step
    assert results(tmp_path) == whole


@pytest.mark.parametrize("step", CRASHED)
def test_a_crash_after_any_step_goes_on_from_the_one_before(
    tiny: Params, parquet: Path, tmp_path: Path, whole: dict[str, bytes], step: int
) -> None:
    with at_step(step, crash), pytest.raises(Crash):
        train(tiny, tmp_path, parquet, runtime=EACH_STEP, **SMALL)
    assert train(tiny, tmp_path, parquet, **SMALL)["resumed_after_step"] == step - 1
    assert results(tmp_path) == whole


def test_a_run_stopped_at_every_step_one_after_the_other(
    tiny: Params, parquet: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    for step in range(1, STEPS):
        with at_step(step, lambda: signal.raise_signal(signal.SIGTERM)), pytest.raises(StoppedError):
            train(tiny, tmp_path, parquet, **SMALL)
    assert train(tiny, tmp_path, parquet, **SMALL)["resumed_after_step"] == STEPS - 1
    assert results(tmp_path) == whole


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_in_an_evaluation_ends_it_at_once(
    tiny: Params, parquet: Path, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch,
    number: int, epoch: int,
) -> None:  # fmt: skip
    asked = []
    forward = Bert.forward

    def forward_and_signal(self: Bert, *args: Any, **options: Any) -> torch.Tensor:  # noqa: ANN401
        if not self.training:
            asked.append(1)
            if len(asked) == 1 + 2 * epoch:  # two forward passes an evaluation
                signal.raise_signal(number)
                raise AssertionError
        return forward(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Bert, "forward", forward_and_signal)
        with pytest.raises(StoppedError, match=f"after step {6 * epoch} of"):
            train(tiny, tmp_path, parquet, **SMALL, evaluation={"batch_size": 32})
    whole_of_these = tmp_path / "whole"
    train(tiny, whole_of_these, parquet, **SMALL, evaluation={"batch_size": 32})
    assert train(tiny, tmp_path, parquet, **SMALL, evaluation={"batch_size": 32})["resumed_after_step"] == 6 * epoch
    assert results(tmp_path) == results(whole_of_these)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_crash_between_an_evaluation_and_the_models_place(
    tiny: Params, parquet: Path, tmp_path: Path, whole: dict[str, bytes], epoch: int
) -> None:
    def save_all_but_one(
        directory: Path, bert: Bert, tokenizer_file: Path, facts: dict[str, Any], **options: Callable[[], None]
    ) -> None:
        if facts["epochs_done"] == epoch:
            raise Crash
        store.save_model(directory, bert, tokenizer_file, facts, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertpipe.training.trainer.save_model", save_all_but_one)
        with pytest.raises(Crash):
            train(tiny, tmp_path, parquet, runtime=EACH_STEP, **SMALL)
    assert train(tiny, tmp_path, parquet, **SMALL)["resumed_after_step"] == 6 * epoch
    assert results(tmp_path) == whole


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_between_the_passes_of_a_step_ends_the_run_after_the_step(
    tiny: Params, parquet: Path, tmp_path: Path, number: int
) -> None:
    passes_of: list[int] = [0]  # of each step
    forward, update = Bert.forward, Optimizer.step

    def forward_and_signal(self: Bert, *args: Any, **options: Any) -> torch.Tensor:  # noqa: ANN401
        passes_of[-1] += 1
        if passes_of[3:] == [2]:
            signal.raise_signal(number)
        return forward(self, *args, **options)

    def update_and_count(self: Optimizer, **options: Any) -> torch.Tensor:  # noqa: ANN401
        passes_of.append(0)
        return update(self, **options)

    accumulating = SMALL | {"micro_batch_size": 7}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bert, "forward", forward_and_signal)
        patch.setattr(Optimizer, "step", update_and_count)
        with pytest.raises(StoppedError, match="after step 4 of 12"):
            train(tiny, tmp_path, parquet, **accumulating)
    assert passes_of[3] > 2
    train(tiny, tmp_path / "whole", parquet, **accumulating)
    assert train(tiny, tmp_path, parquet, **accumulating)["resumed_after_step"] == 4
    assert results(tmp_path) == results(tmp_path / "whole")


def test_a_second_signal_does_not_wait() -> None:
    with stop_requests(os.getppid()) as request:
        signal.raise_signal(signal.SIGTERM)
        assert str(request.interruption) == "stopped by SIGTERM"
        with pytest.MonkeyPatch.context() as patch:
            died = []
            patch.setattr(signal, "raise_signal", died.append)
            request.receive(signal.SIGTERM, None)
            assert died == [signal.SIGTERM]
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is not request.receive


def test_torchruns_own_signal_on_top_of_one_to_all_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    with stop_requests(os.getppid()) as request:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        assert str(request.interruption) == "stopped by Ctrl-C"
        assert signal.getsignal(signal.SIGTERM) == request.receive


def test_a_signal_before_the_first_step_takes_nothing_away(
    tiny: Params, parquet: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    with at_step(5, lambda: signal.raise_signal(signal.SIGTERM)), pytest.raises(StoppedError):
        train(tiny, tmp_path, parquet, **SMALL)

    def note(_: str) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(StoppedError, match="after step 5 of 12"):
        train(tiny, tmp_path, parquet, **SMALL, options={"on_note": note})
    assert train(tiny, tmp_path, parquet, **SMALL)["resumed_after_step"] == 5
    assert results(tmp_path) == whole


def test_the_end_of_dvc_stops_a_run_that_dvc_waits_for(
    tiny: Params, parquet: Path, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = iter([4711] * 6)
    with monkeypatch.context() as patch:
        patch.setenv("DVC_STAGE", "train")
        patch.setattr("bertpipe.training.signals.os.getppid", lambda: next(parents, 1))
        with pytest.raises(StoppedError, match="stopped by the end of the DVC process") as stopped:
            train(tiny, tmp_path, parquet, **SMALL)
    assert stopped.value.exit_code == 143
    assert train(tiny, tmp_path, parquet, **SMALL)["resumed_after_step"] > 0
    assert results(tmp_path) == whole


def test_dvc_may_end_while_the_run_is_still_being_made(
    tiny: Params, parquet: Path, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "train")
    with pytest.raises(StoppedError, match=r"waited for it before the first step; .* start over"):
        train(tiny, tmp_path, parquet, **SMALL, options={"parent": os.getppid() + 1})
    train(tiny, tmp_path, parquet, **SMALL, options={"parent": os.getppid()})
    assert results(tmp_path) == whole


def test_the_end_of_the_terminal_saves_as_well_unless_it_is_to_be_ignored(
    tiny: Params, parquet: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what `nohup` does
    try:
        with at_step(3, lambda: signal.raise_signal(signal.SIGHUP)):
            train(tiny, tmp_path / "nohup", parquet, **SMALL)
    finally:
        signal.signal(signal.SIGHUP, earlier)
    assert results(tmp_path / "nohup") == whole
    said = r"stopped by the end of the terminal \(SIGHUP\) after step 3"
    with at_step(3, lambda: signal.raise_signal(signal.SIGHUP)), pytest.raises(StoppedError, match=said) as stopped:
        train(tiny, tmp_path, parquet, **SMALL)
    assert stopped.value.exit_code == 129
    assert train(tiny, tmp_path, parquet, **SMALL)["resumed_after_step"] == 3


def test_without_dvc_a_run_outlives_its_parent(
    tiny: Params, parquet: Path, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = iter([4711] * 3)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.setattr("bertpipe.training.signals.os.getppid", lambda: next(parents, 1))
    train(tiny, tmp_path, parquet, **SMALL)
    assert results(tmp_path) == whole


@pytest.mark.parametrize("change", [{"processes": 2}, {"log_every": 1}, {"keep_checkpoints": 1}])
def test_the_machines_settings_may_change_in_between(
    tiny: Params, parquet: Path, tmp_path: Path, whole: dict[str, bytes], change: dict[str, Any]
) -> None:
    with at_step(5, crash), pytest.raises(Crash):
        train(tiny, tmp_path, parquet, runtime=EACH_STEP, **SMALL)
    assert train(tiny, tmp_path, parquet, runtime=change, **SMALL)["resumed_after_step"] == 4
    assert results(tmp_path) == whole


@pytest.fixture
def small_windows(parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let training read its data in windows of 64 rows, and return data of that form."""
    shutil.copytree(parquet, tmp_path / "small-groups")
    (tmp_path / "small-groups" / RECORDS_NAME).unlink()
    for split in SPLITS:
        path = tmp_path / "small-groups" / f"{split}.parquet"
        pq.write_table(pq.read_table(path), path, row_group_size=32)
    smaller = functools.partial(PairFile, rows_per_group=32, groups_per_window=2)
    monkeypatch.setattr("bertpipe.training.inputs.PairFile", smaller)
    return tmp_path / "small-groups"


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_over_many_windows_resumes_to_equal_bytes(
    tiny: Params, small_windows: Path, trained: Path, tmp_path: Path, epoch: int
) -> None:
    layout = PairFile(small_windows / "train.parquet", rows_per_group=32, groups_per_window=2).layout
    assert len(layout.windows(layout.groups)) > 4
    steps = train(tiny, tmp_path / "whole", small_windows)["steps"]
    middle = steps * (2 * epoch - 1) // 4
    with at_step(middle, lambda: signal.raise_signal(signal.SIGTERM)), pytest.raises(StoppedError):
        train(tiny, tmp_path / "stopped", small_windows)
    assert train(tiny, tmp_path / "stopped", small_windows)["resumed_after_step"] == middle
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")
    # Another order than in one window: the comparison above is of a run that really went window by window.
    assert results(tmp_path / "whole")["history.csv"] != results(trained)["history.csv"]


# What is not resumed


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.005},
        {"epochs": 3},
        {"masking": {"rate": 0.2}},
        {"evaluation": {"batch_size": 7}},
        {"model": {"dropout": 0.2}},
    ],
    ids=str,
)
def test_a_run_on_other_params_does_not_go_on_from_this_ones_state(
    tiny: Params, parquet: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    crash_in("epoch 2/2", tiny, tmp_path, parquet, **SMALL)
    assert train(tiny, tmp_path, parquet, **{**SMALL, **change})["resumed_after_step"] == 0
    assert train(tiny, tmp_path, parquet, **SMALL)["resumed_after_step"] > 0


def test_a_run_goes_on_with_other_threads_and_says_that_rounding_differs(
    tiny: Params, parquet: Path, tmp_path: Path
) -> None:
    crash_in("epoch 2/2", tiny, tmp_path, parquet, **SMALL)
    threads, said = torch.get_num_threads(), list[str]()
    try:
        changed = {**SMALL, "runtime": {"threads": 2}, "options": {"on_note": said.append}}
        assert train(tiny, tmp_path, parquet, **changed)["resumed_after_step"] == 10
    finally:
        torch.set_num_threads(threads)
    (note,) = said
    assert note.endswith("; threads 1 before and 2 now: results may differ in rounding and in dropout's masks")


@pytest.mark.parametrize("changed", ["data", "sources"])
def test_a_run_on_other_data_or_code_does_not_go_on_from_this_ones_state(
    tiny: Params, parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    crash_in("epoch 2/2", tiny, tmp_path / "run", parquet, **SMALL)
    shutil.copytree(parquet, tmp_path / "data")
    if changed == "data":  # behind the back of its summary
        (tmp_path / "data" / RECORDS_NAME).unlink()
        path = tmp_path / "data" / "train.parquet"
        rows = pq.read_table(path)
        pq.write_table(rows.take(list(range(len(rows)))[::-1]), path, row_group_size=ROWS_PER_GROUP)
    else:
        monkeypatch.setattr("bertpipe.stages.train.source_digest", lambda _: "0" * 64)
    assert train(tiny, tmp_path / "run", tmp_path / "data", **SMALL)["resumed_after_step"] == 0


def test_no_resume_begins_anew(tiny: Params, parquet: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    crash_in("epoch 2/2", tiny, tmp_path, parquet, **SMALL)
    assert train(tiny, tmp_path, parquet, **SMALL, options={"resume": False})["resumed_after_step"] == 0
    assert results(tmp_path) == whole


# What is kept


def test_state_goes_away_once_the_model_is_there(tiny: Params, parquet: Path, tmp_path: Path, crashed: Path) -> None:
    shutil.copytree(crashed, tmp_path / "run")
    (run,) = (tmp_path / "run" / "state").iterdir()
    (run / ".step-000000099.bertpipe-partial").mkdir()  # a process was ended while it wrote this one
    train(tiny, tmp_path / "run", parquet, **SMALL)
    assert list((tmp_path / "run" / "state").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "answers.json", "epochs.csv", "history.csv", "model", "state", "timing.csv",
    ]  # fmt: skip


def test_what_an_ended_process_was_writing_is_removed_with_its_lock(tmp_path: Path) -> None:
    (tmp_path / ".step-000000099.bertpipe-partial").mkdir()
    for name in (".step-000000099.bertpipe-partial.lock", "lock"):
        (tmp_path / name).touch()
    Checkpoints(directory=tmp_path, keep=1, run={}).clear(partials_only=True)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_run_that_fails_before_its_first_checkpoint_leaves_no_state(
    tiny: Params, parquet: Path, tmp_path: Path
) -> None:
    with at_step(3, crash), pytest.raises(Crash):
        train(tiny, tmp_path, parquet, **SMALL)
    assert [path.name for path in tmp_path.rglob("*")] == ["state"]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_checkpoints_are_kept(tmp_path: Path, keep: int) -> None:
    checkpoints = Checkpoints(directory=tmp_path / "state", keep=keep, run={})
    bert = tiny_bert(vocab_size=11)
    optimizer = Optimizer(torch.optim.AdamW(bert.parameters()))
    for parameter in bert.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(learning_rate=0.1, max_grad_norm=1.0)
    for step in range(1, 6):
        checkpoints.save(step, bert, optimizer.tensors(), {"step": step})
        assert len(checkpoints_in(tmp_path / "state")) == min(step, keep)
    restored = checkpoints.load_newest(bert, on_note=pytest.fail)
    assert restored is not None
    assert (restored.step, restored.records) == (5, {"step": 5})
    checkpoints.clear()
    assert checkpoints.load_newest(bert, on_note=pytest.fail) is None


def test_the_clock_lets_checkpoints_take_a_hundredth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("bertpipe.training.checkpoint.time.monotonic", lambda: now)
    clock = CheckpointClock("auto")
    spent, begun = 0.0, now
    for _ in range(100_000):
        now += 0.25
        if clock.due():
            now += 2.0
            spent += 2.0
            clock.saved(2.0)
    assert spent > 0
    assert 0.009 < spent / (now - begun) <= 0.0101 + 2.0 / (now - begun)
    assert CheckpointClock(0.0).due()
    assert not CheckpointClock(0.5).due()


# Two at once


def test_a_second_training_into_the_same_place_is_refused(
    tiny: Params, parquet: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    refused = []

    def begin_another() -> None:
        for change in ({}, {"learning_rate": 0.005}):
            with pytest.raises(BusyError, match=r"a training into .*model is already under way \(process \d+ on "):
                train(tiny, tmp_path, parquet, **{**SMALL, **change})
            refused.append(change)

    with at_step(3, begin_another):
        train(tiny, tmp_path, parquet, **SMALL)
    assert len(refused) == 2
    assert results(tmp_path) == whole


def test_a_second_training_of_the_same_run_into_another_place_is_refused_too(
    tiny: Params, parquet: Path, tmp_path: Path
) -> None:
    crash_in("epoch 2/2", tiny, tmp_path, parquet, **SMALL)
    (run,) = (tmp_path / "state").iterdir()
    with (
        exclusive_lock(run / "lock", what="x"),
        pytest.raises(BusyError, match="the same params and data is already under way"),
    ):
        train(tiny, tmp_path, parquet, **SMALL)
    assert train(tiny, tmp_path, parquet, **SMALL)["resumed_after_step"] > 0


def test_a_lock_left_by_a_dead_process_does_not_block(
    tiny: Params, parquet: Path, tmp_path: Path, crashed: Path, whole: dict[str, bytes]
) -> None:
    shutil.copytree(crashed, tmp_path / "run")
    (run,) = (tmp_path / "run" / "state").iterdir()
    for lock in (run / "lock", tmp_path / "run" / ".model.bertpipe-training.lock"):
        lock.write_text(json.dumps({"process": 1, "host": "x", "since": "y"}), encoding="utf-8")
    assert train(tiny, tmp_path / "run", parquet, **SMALL)["resumed_after_step"] == 7
    assert results(tmp_path / "run") == whole


def test_the_key_is_of_what_decides_the_result(tiny: Params, parquet: Path, tmp_path: Path) -> None:
    crash_in("epoch 2/2", tiny, tmp_path / "a", parquet, **SMALL)
    crash_in("epoch 2/2", tiny, tmp_path / "b", parquet, **SMALL)
    (a,), (b,) = ((tmp_path / name / "state").iterdir() for name in "ab")
    assert a.name == b.name
    newest = max(path.name for path in a.glob("step-*"))
    for name in ("weights.safetensors", "optimizer.safetensors"):
        assert (a / newest / name).read_bytes() == (b / newest / name).read_bytes()
