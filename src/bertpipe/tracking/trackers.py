"""Trackers: TensorBoard, MLflow and Weights & Biases, each through its own library and without a network."""

import os
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from bertpipe.core.errors import first_line
from bertpipe.core.params import Tracking

PROJECT = "bertpipe"
"""The experiment of MLflow, and the project of Weights & Biases."""

Facts = Mapping[str, Any]
"""Sections of params by their names."""


class Tracker(Protocol):
    """What takes the figures of a run."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take figures by their names, such as `train/mlm_loss`."""

    def close(self) -> None:
        """Write what is still in memory."""


class GuardedTracker:
    """A tracker that never stops a training: its first error becomes a note, and then it is left alone."""

    def __init__(self, kind: Tracking, name: str, facts: Facts, *, step: int, on_note: Callable[[str], None]) -> None:
        """Start or resume the record of a run.

        Args:
            kind: `runtime.tracking`.
            name: the run's; a resumed run has that of the interrupted one.
            facts: what to show as the run's params.
            step: the step that the run resumes after; 0 for a new one.
            on_note: gets what fails.
        """
        self._kind, self._on_note = kind, on_note
        self._tracker: Tracker | None = None
        if kind != "none":
            self._attempt(lambda: setattr(self, "_tracker", _TRACKERS[kind](name, facts, step)))

    def log(self, step: int, figures: Mapping[str, float | None]) -> None:
        """Take figures by their names, without those that are None."""
        if (tracker := self._tracker) is not None:
            known = {name: figure for name, figure in figures.items() if figure is not None}
            self._attempt(lambda: tracker.log(step, known))

    def close(self) -> None:
        """Write what is still in memory."""
        if (tracker := self._tracker) is not None:
            self._attempt(tracker.close)
            self._tracker = None

    def _attempt(self, do: Callable[[], object]) -> None:
        try:
            with warnings.catch_warnings():  # theirs are not for whoever trains a model
                warnings.simplefilter("ignore")
                do()
        except ImportError as error:
            self._give_up(f"{first_line(error):.200}; install it with `pip install 'bertpipe[{self._kind}]'`")
        except Exception as error:
            self._give_up(f"{first_line(error):.300}")

    def _give_up(self, reason: str) -> None:
        self._tracker = None
        self._on_note(f"runtime.tracking {self._kind} has failed ({reason}): the training goes on without it")


class _TensorBoard:
    """Writes event files to `runs/NAME`, where `tensorboard --logdir runs` finds them."""

    def __init__(self, name: str, facts: Facts, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(f"runs/{name}", purge_step=step + 1 if step else None, flush_secs=5)
        lines = [f"    {key}: {value}" for key, value in flat(facts).items()]  # Markdown, which keeps these as they are
        self._writer.add_text("params", "\n".join(lines), step)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, figure in figures.items():
            self._writer.add_scalar(name, figure, step)

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    """Writes to MLFLOW_TRACKING_URI; where that is not set, to `mlflow.db`, where `mlflow ui` looks."""

    def __init__(self, name: str, facts: Facts, _: int) -> None:
        from mlflow import MlflowClient  # noqa: PLC0415
        from mlflow.entities import Metric, Param  # noqa: PLC0415

        self._client, self._metric = MlflowClient(), Metric
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = self._client.create_experiment(PROJECT) if found is None else found.experiment_id
        runs = self._client.search_runs([experiment], f"attributes.run_name = '{name}'", max_results=1)
        if runs:
            self._run = runs[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            self._run = self._client.create_run(experiment, run_name=name).info.run_id
            params = [Param(key, str(value)[:500]) for key, value in flat(facts).items()]
            self._client.log_batch(self._run, params=params)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(name, figure, now, step) for name, figure in figures.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._run)


class _Wandb:
    """Writes to `wandb/`, for `wandb sync`; WANDB_MODE=online sends the figures at once."""

    def __init__(self, name: str, facts: Facts, _: int) -> None:
        import wandb  # noqa: PLC0415

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=name, id=name, resume="allow",
            mode=mode, config=dict(facts),
            settings=wandb.Settings(silent=True, console="off"),
        )  # fmt: skip

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


_TRACKERS: Mapping[Tracking, Callable[[str, Facts, int], Tracker]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": _Wandb,
}


def flat(facts: Facts, prefix: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by names such as `train.epochs`."""
    found: dict[str, Any] = {}
    for name, value in facts.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
