"""What trackers write of a run, read back by their own libraries where these are installed."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bertpipe.core.params import Params
from bertpipe.tracking import trackers
from bertpipe.tracking.trackers import GuardedTracker, flat
from runs import crash_in, results, train
from test_training import table


class Recorder:
    """A tracker that keeps what it is given, or fails at a step."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.closed = 0

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        if self.fails_at is not None and step >= self.fails_at:
            raise ConnectionError("the server has gone\nfor good")
        self.logged.append((step, dict(figures)))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recorder]:
    """Return what puts a recorder in place of TensorBoard."""

    def put(**options: Any) -> Recorder:  # noqa: ANN401
        recorder = Recorder(**options)
        monkeypatch.setattr(trackers, "_TRACKERS", {"tensorboard": lambda *_: recorder})
        return recorder

    return put


def test_a_tracker_gets_the_figures_of_the_tables_and_changes_no_result(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path, recorded: Callable[..., Recorder]
) -> None:
    recorder = recorded()
    train(tiny, tmp_path, parquet, runtime={"tracking": "tensorboard"})
    assert results(tmp_path) == results(trained)
    for_each_interval = [(step, figures) for step, figures in recorder.logged if "train/loss" in figures]
    rows = table(tmp_path / "history.csv")
    assert [step for step, _ in for_each_interval] == [int(row["step"]) for row in rows]
    for (_, figures), row in zip(for_each_interval, rows, strict=True):
        for name in ("mlm_loss", "nsp_loss", "gradient_norm", "learning_rate"):
            assert figures[f"train/{name}"] == pytest.approx(float(row[name]), rel=1e-8)
        assert figures["train/tokens_per_second"] > 0
    for_each_epoch = [(step, figures) for step, figures in recorder.logged if "test/loss" in figures]
    assert [step for step, _ in for_each_epoch] == [int(row["step"]) for row in table(tmp_path / "epochs.csv")]
    assert all(0 <= figures["test/mlm_top1_accuracy"] <= 1 for _, figures in for_each_epoch)
    assert recorder.closed == 1


@pytest.mark.parametrize("fails_at", [0, 7])
def test_a_tracker_that_fails_is_said_once_and_stops_nothing(
    tiny: Params, parquet: Path, trained: Path, tmp_path: Path, recorded: Callable[..., Recorder], fails_at: int
) -> None:
    notes: list[str] = []
    recorder = recorded(fails_at=fails_at)
    train(tiny, tmp_path, parquet, runtime={"tracking": "tensorboard"}, options={"on_note": notes.append})
    assert [note for note in notes if "tracking" in note] == [
        "runtime.tracking tensorboard has failed (the server has gone): the training goes on without it"
    ]
    assert all(step < fails_at for step, _ in recorder.logged)
    assert results(tmp_path) == results(trained)


def test_a_run_that_breaks_off_closes_its_tracker(
    tiny: Params, parquet: Path, tmp_path: Path, recorded: Callable[..., Recorder]
) -> None:
    recorder = recorded()
    crash_in("epoch 2", tiny, tmp_path, parquet, runtime={"tracking": "tensorboard", "log_every": 1})
    assert recorder.closed == 1


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow", "wandb"])
def test_a_library_that_is_not_there_is_said_how_to_install(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    for module in ("torch.utils.tensorboard", "mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    notes: list[str] = []
    tracker = GuardedTracker(kind, "bert", {}, step=0, on_note=notes.append)
    tracker.log(1, {"train/loss": 1.0})
    tracker.close()
    (note,) = notes
    assert f"install it with `pip install 'bertpipe[{kind}]'`" in note


def test_params_have_one_name_each() -> None:
    assert flat({"model": {"layers": 2}, "train": {"betas": (0.9, 0.98)}}) == {
        "model.layers": 2,
        "train.betas": (0.9, 0.98),
    }


# Read back by their own libraries

FIGURES = [(4, {"train/loss": 3.5, "train/mlm_loss": None}), (8, {"train/loss": 2.25, "test/loss": 2.5})]
WRITTEN = {"train/loss": [(4, 3.5), (8, 2.25)], "test/loss": [(8, 2.5)]}


def write(kind: Any, *, resumed: bool) -> list[str]:  # noqa: ANN401
    """Write the figures in one go, or in two with a step in between that the first one lost; return the notes."""
    notes: list[str] = []
    facts = {"model": {"layers": 2}, "train": {"init": "x" * 900}}
    first = GuardedTracker(kind, "bert-0123", facts, step=0, on_note=notes.append)
    first.log(*FIGURES[0])
    if resumed:
        first.close()
        first = GuardedTracker(kind, "bert-0123", facts, step=4, on_note=notes.append)
    first.log(*FIGURES[1])
    first.close()
    return notes


@pytest.mark.slow
@pytest.mark.parametrize("resumed", [False, True])
def test_tensorboard_reads_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumed: bool) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.chdir(tmp_path)
    assert write("tensorboard", resumed=resumed) == []
    found = accumulator.EventAccumulator(str(tmp_path / "runs" / "bert-0123")).Reload()
    assert {
        name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]
    } == WRITTEN
    assert "params/text_summary" in found.Tags()["tensors"]


@pytest.mark.slow
@pytest.mark.parametrize("resumed", [False, True])
def test_mlflow_reads_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumed: bool) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    assert write("mlflow", resumed=resumed) == []
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("bertpipe").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["model.layers"] == "2"
    for name, figures in WRITTEN.items():
        assert [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)] == figures


@pytest.mark.slow
@pytest.mark.parametrize("resumed", [False, True])
def test_wandb_writes_the_figures_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumed: bool
) -> None:
    wandb = pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert write("wandb", resumed=resumed) == []
    wandb.teardown()  # as at the end of a process: only then the last of its records are on the disk
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb")):
        for data in records_of(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            for name in items.keys() & WRITTEN.keys():
                found.setdefault(name, []).append((record.history.step.num, items[name]))
    assert found == WRITTEN


def records_of(content: bytes) -> Iterator[bytes]:
    """Yield the records of a log in LevelDB's format: blocks of 32 KiB, records in parts, a header of 7 bytes."""
    at, block, parts = 7, 32 * 1024, b""
    while at + 7 <= len(content):
        if block - at % block < 7:  # no room for a header before the next block
            at += block - at % block
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:  # whole, or the last part
            yield parts
            parts = b""
