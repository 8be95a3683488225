"""The record of a run: intervals of steps, evaluations after epochs, and timings apart."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bertpipe.artifacts import EPOCHS_COLUMNS, HISTORY_COLUMNS, TIMING_COLUMNS, write_csv
from bertpipe.errors import TrainingError
from bertpipe.training.loop import StepReport

Rows = list[Sequence[float | int | None]]


@dataclass(slots=True)
class History:
    """Rows of `history.csv`, `epochs.csv` and `timing.csv`, and the interval that is being filled."""

    history_every: int
    nsp_weight: float
    intervals: Rows = field(default_factory=list)
    epochs: Rows = field(default_factory=list)
    timings: Rows = field(default_factory=list)
    train_s: float = 0.0
    """Seconds of training; evaluation and saving are left out."""
    tokens: int = 0
    sequences: int = 0
    flops: float = 0.0
    _pending: list[StepReport] = field(default_factory=list)
    _started_at: float = field(default_factory=time.perf_counter)

    def restart_clock(self) -> None:
        """Leave out the time since the last step, spent on something else than training."""
        self._started_at = time.perf_counter()

    def add(self, report: StepReport) -> bool:
        """Add a step; return whether it completed an interval, which an epoch's end does too.

        Raises:
            TrainingError: a loss of the interval is not finite.
        """
        self._pending.append(report)
        if len(self._pending) < self.history_every and not report.ends_epoch:
            return False
        self._close_interval()
        return True

    def add_evaluation(
        self, report: StepReport, *, mlm: tuple[float | None, float | None], nsp: tuple[float | None, float | None]
    ) -> None:
        """Add the evaluation after an epoch whose last step was `report`: loss and accuracy of each task."""
        loss = (mlm[0] or 0.0) + self.nsp_weight * (nsp[0] or 0.0)
        self.epochs.append([report.epoch, report.step, *mlm, *nsp, loss])

    def records(self) -> dict[str, Any]:
        """Return everything as JSON content, for a checkpoint."""
        return {name: getattr(self, name) for name in _RECORDED}

    def restore(self, records: Mapping[str, Any]) -> None:
        """Take over what `records` returned."""
        for name in _RECORDED:
            setattr(self, name, records[name])

    def write(self, *, history: Path, epochs: Path, timing: Path) -> None:
        """Write the three tables."""
        write_csv(history, HISTORY_COLUMNS, self.intervals)
        write_csv(epochs, EPOCHS_COLUMNS, self.epochs)
        write_csv(timing, TIMING_COLUMNS, self.timings)

    def _close_interval(self) -> None:
        steps, self._pending = self._pending, []
        # One read for the whole interval: each read makes a GPU wait.
        mlm = torch.stack([step.losses.mlm for step in steps]).tolist()
        nsp = torch.stack([step.losses.nsp for step in steps]).tolist()
        norms = torch.stack([step.gradient_norm for step in steps]).tolist()
        for step, *values in zip(steps, mlm, nsp, norms, strict=True):
            if not all(math.isfinite(value) for value in values):
                raise TrainingError(
                    f"step {step.step} has the MLM loss {values[0]}, the NSP loss {values[1]} and the gradient "
                    f"norm {values[2]} at learning rate {step.learning_rate:.3g}: lower train.learning_rate or "
                    f"train.max_grad_norm, or raise train.warmup_share"
                )
        mlm_loss = _mean(mlm, [step.losses.mlm_tokens for step in steps])
        nsp_loss = _mean(nsp, [step.losses.nsp_rows for step in steps])
        last = steps[-1]
        self.intervals.append(
            [
                last.step, last.epoch, last.learning_rate, mlm_loss, nsp_loss,
                mlm_loss + self.nsp_weight * nsp_loss, sum(norms) / len(norms),
            ]
        )  # fmt: skip
        self._time_interval(steps)

    def _time_interval(self, steps: Sequence[StepReport]) -> None:
        now = time.perf_counter()
        interval_s, self._started_at = now - self._started_at, now
        tokens = sum(step.tokens for step in steps)
        sequences = sum(step.losses.nsp_rows for step in steps)
        self.train_s += interval_s
        self.tokens += tokens
        self.sequences += sequences
        self.flops += sum(step.flops for step in steps)
        rates = [tokens / interval_s, sequences / interval_s]
        self.timings.append([steps[-1].step, self.train_s, tokens, *rates])


_RECORDED = ("intervals", "epochs", "timings", "train_s", "tokens", "sequences", "flops")


def _mean(means: Sequence[float], counts: Sequence[int]) -> float:
    """Return the mean over everything that the steps' means are over."""
    return sum(mean * count for mean, count in zip(means, counts, strict=True)) / max(sum(counts), 1)
