"""What checkpoints cost a training at the default settings: their share of its time, and its speed without them."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure import Work, alternate, ratio
from benchmarks.rows import bert_masking, load_rows, with_vocabulary
from benchmarks.sides import Bertpipe, bert_shape, train_params
from bertpipe.training.checkpoint import CheckpointClock, Checkpoints

_VOCAB, _BATCH = 30_522, 32
_TURN_S = 45.0
"""Seconds of a turn: more than the least time between two checkpoints."""
_ROUNDS = 3


@dataclass
class _Saving:
    """A training that writes a checkpoint when the clock says so, in turns of some seconds."""

    side: Bertpipe
    checkpoints: Checkpoints | None
    clock: CheckpointClock = field(default_factory=lambda: CheckpointClock("auto"))
    saves_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0
    step: int = 0

    def turn(self) -> Work:
        started_at = time.perf_counter()
        sequences = tokens = 0
        while time.perf_counter() - started_at < _TURN_S:
            work = self.side.turn()
            sequences, tokens, self.step = sequences + work.sequences, tokens + work.tokens, self.step + self.side.steps
            if self.checkpoints is not None and self.clock.due():
                self._save(self.checkpoints)
        self.elapsed_s += time.perf_counter() - started_at
        return Work(sequences=sequences, tokens=tokens)

    def _save(self, checkpoints: Checkpoints) -> None:
        begun = time.perf_counter()
        checkpoints.save(self.step, self.side.bert, self.side.optimizer, {})
        self.saves_s.append(time.perf_counter() - begun)
        self.clock.saved(self.saves_s[-1])


def checkpoint_cost(work: Path) -> list[dict[str, Any]]:
    """Return, for two sizes, the share of the time that checkpoints take, and the speed with them by that without."""
    rows = with_vocabulary(load_rows(work).train, _VOCAB)
    return [_cost(work, partial(_side, rows, width, layers), width, layers) for width, layers in ((64, 2), (256, 4))]


def _side(rows: Any, width: int, layers: int) -> Bertpipe:  # noqa: ANN401
    model, masking = bert_shape(width=width, layers=layers), bert_masking(_VOCAB)
    return Bertpipe(model, _VOCAB, train_params(batch_size=_BATCH), rows, masking)


def _cost(work: Path, make_side: Callable[[], Bertpipe], width: int, layers: int) -> dict[str, Any]:
    with TemporaryDirectory(dir=work) as folder:
        saving = _Saving(make_side(), Checkpoints(directory=Path(folder), keep=2))
        plain = _Saving(make_side(), None)
        turns = alternate({"saving": saving.turn, "plain": plain.turn}, rounds=_ROUNDS)
        newest = max(Path(folder).glob("step-*"))
        size = sum(file.stat().st_size for file in newest.iterdir())
    return {
        "work": f"BERT, dim {width}, {layers} layers, {_VOCAB:,} words",
        "checkpoint_mb": size / 1e6,
        "save_ms": 1000 * statistics.median(saving.saves_s),
        "checkpoints": len(saving.saves_s),
        "share": sum(saving.saves_s) / saving.elapsed_s,
        "speed_by_that_without": ratio(turns["saving"], turns["plain"], "tokens"),
        "goal": 0.01,
    }
