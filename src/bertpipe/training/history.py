"""The record of a run: intervals of steps, evaluations after epochs, and timings in a table of their own."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertpipe.core.artifacts import EPOCHS_COLUMNS, HISTORY_COLUMNS, TIMING_COLUMNS, write_csv
from bertpipe.core.errors import BusyError, TrainingError, WriteError
from bertpipe.evaluation.questions import Answer
from bertpipe.training.loop import StepReport

_LIVE_EVERY_S = 5.0
"""Shortest time between two writes of the tables while an epoch goes on."""

Rows = list[Sequence[float | int | None]]
_Step = Sequence[float]
"""MLM loss, NSP loss, gradient norm, supervised tokens, rows, tokens and floating-point operations of a step."""


@dataclass(slots=True)
class History:
    """Rows of `history.csv`, `epochs.csv` and `timing.csv`, and the current interval."""

    history_every: int
    nsp_weight: float
    intervals: Rows = field(default_factory=list)
    epochs: Rows = field(default_factory=list)
    timings: Rows = field(default_factory=list)
    answers: list[tuple[int, int, Sequence[Answer]]] = field(default_factory=list)
    """After each epoch: its number, its last step, and the answers to the run's questions."""
    peak_flops: float = math.inf
    """Operations per second that the machine can do, of all processes together."""
    train_s: float = 0.0
    """Seconds of training, without evaluation and saving."""
    tokens: int = 0
    sequences: int = 0
    flops: float = 0.0
    open_steps: list[_Step] = field(default_factory=list)
    """Steps of the current interval, as numbers."""
    open_s: float = 0.0
    """Seconds of the current interval before the clock was last stopped."""
    _unread: list[StepReport] = field(default_factory=list)
    """Its later steps, whose losses may still be on a GPU."""
    _started_at: float = field(default_factory=time.perf_counter)
    _written_at: float = field(default_factory=time.monotonic)

    def stop_clock(self) -> None:
        """Count the time until now as training time."""
        self.open_s += time.perf_counter() - self._started_at

    def restart_clock(self) -> None:
        """Count the time from now on."""
        self._started_at = time.perf_counter()

    def add(self, report: StepReport) -> bool:
        """Add a step; return whether it completed an interval, as the end of an epoch does too.

        Raises:
            TrainingError: a loss of the interval is not finite.
        """
        self._unread.append(report)
        if len(self.open_steps) + len(self._unread) < self.history_every and not report.ends_epoch:
            return False
        self._close_interval()
        return True

    def add_evaluation(self, *, mlm: tuple[float | None, float | None], nsp: tuple[float | None, float | None]) -> None:
        """Add the evaluation after the epoch that the last interval ended: loss and accuracy of each task."""
        step, epoch = self.intervals[-1][:2]
        loss = (mlm[0] or 0.0) + self.nsp_weight * (nsp[0] or 0.0)
        self.epochs.append([epoch, step, *mlm, *nsp, loss])

    def records(self) -> dict[str, Any]:
        """Return everything as JSON content, for a checkpoint; stop the clock first.

        Raises:
            TrainingError: a loss of the open interval is not finite.
        """
        self._read()
        return {name: getattr(self, name) for name in _RECORDED}

    def restore(self, records: Mapping[str, Any]) -> None:
        """Set everything to what `records` returned."""
        for name in _RECORDED:
            setattr(self, name, records[name])

    def write(self, *, history: Path, epochs: Path, timing: Path) -> None:
        """Write the three tables."""
        write_csv(history, HISTORY_COLUMNS, self.intervals)
        write_csv(epochs, EPOCHS_COLUMNS, self.epochs)
        write_csv(timing, TIMING_COLUMNS, self.timings)

    def write_live(self, *, history: Path, timing: Path, on_note: Callable[[str], None]) -> None:
        """Write the tables of a run in progress, every few seconds at most, whole at each moment.

        Where that fails a note says so, and the tables come at the end of the epoch.
        """
        if time.monotonic() - self._written_at < _LIVE_EVERY_S:
            return
        try:
            write_csv(history, HISTORY_COLUMNS, self.intervals)
            write_csv(timing, TIMING_COLUMNS, self.timings)
            self._written_at = time.monotonic()
        except (BusyError, WriteError) as error:
            on_note(f"the run cannot be followed in {history}: {error}")
            self._written_at = math.inf

    def _read(self) -> None:
        """Read the losses of all steps so far, in one go: each read waits for a GPU."""
        reports, self._unread = self._unread, []
        if not reports:
            return
        columns = zip(*map(_figures, reports), strict=True)
        figures = [torch.stack(column).tolist() for column in columns]
        for report, *values in zip(reports, *figures, strict=True):
            if not all(math.isfinite(value) for value in values):
                raise TrainingError(
                    f"step {report.step} has the MLM loss {values[0]}, the NSP loss {values[1]} and the gradient "
                    f"norm {values[2]} at learning rate {report.learning_rate:.3g}: lower train.learning_rate or "
                    f"train.max_grad_norm, or raise train.warmup_share"
                )
            self.open_steps.append(values)

    def _close_interval(self) -> None:
        last = self._unread[-1]
        self._read()
        mlm, nsp, norms, mlm_tokens, nsp_rows, tokens, flops = zip(*self.open_steps, strict=True)
        self.open_steps = []
        mlm_loss = _mean(mlm, mlm_tokens) if any(mlm_tokens) else None  # not 0.0 for a loss over nothing
        nsp_loss = _mean(nsp, nsp_rows)
        loss = (mlm_loss or 0.0) + self.nsp_weight * nsp_loss
        self.intervals.append(
            [last.step, last.epoch, last.learning_rate, mlm_loss, nsp_loss, loss, sum(norms) / len(norms)]
        )
        self.stop_clock()
        self.restart_clock()
        interval_s, self.open_s = self.open_s, 0.0
        self.train_s += interval_s
        self.tokens += int(sum(tokens))
        self.sequences += int(sum(nsp_rows))
        self.flops += sum(flops)
        rates = [sum(tokens) / interval_s, sum(nsp_rows) / interval_s, sum(flops) / interval_s / self.peak_flops]
        self.timings.append([last.step, self.train_s, int(sum(tokens)), *rates])


_RECORDED = (
    "intervals", "epochs", "timings", "answers", "train_s", "tokens", "sequences", "flops", "open_steps", "open_s"
)  # fmt: skip


def _figures(report: StepReport) -> tuple[Tensor, ...]:
    """Return the numbers of a `_Step`, still on the device."""
    losses = report.losses
    counts = (losses.mlm_tokens, losses.nsp_rows, report.tokens, report.flops)
    return (losses.mlm, losses.nsp, report.gradient_norm, *counts)


def _mean(means: Sequence[float], counts: Sequence[float]) -> float:
    """Return the mean of the steps' means, weighted by their counts."""
    return sum(mean * count for mean, count in zip(means, counts, strict=True)) / sum(counts)
