"""What checkpoints cost a training at the default settings: their share of its time."""

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.rows import bert_masking, load_rows, with_vocabulary
from benchmarks.sides import Bertpipe, bert_shape, train_params
from bertpipe.data.pair_dataset import PairDataset
from bertpipe.training.checkpoint import CheckpointClock, Checkpoints

_VOCAB, _BATCH = 30_522, 32
_TRAINED_S = 100.0
"""Seconds of each training: three checkpoints or so."""


def checkpoint_cost(work: Path) -> list[dict[str, Any]]:
    """Return, for two sizes of BERT, the share of a training's time that its checkpoints take."""
    rows = with_vocabulary(load_rows(work).train, _VOCAB)
    return [_cost(work, rows, width, layers) for width, layers in ((64, 2), (256, 4))]


def _cost(work: Path, rows: PairDataset, width: int, layers: int) -> dict[str, Any]:
    model, masking = bert_shape(width=width, layers=layers), bert_masking(_VOCAB)
    side = Bertpipe(model, _VOCAB, train_params(batch_size=_BATCH), rows, masking)
    side.turn()  # the first steps make room in memory
    saves_s: list[float] = []
    with TemporaryDirectory(dir=work) as folder:
        checkpoints, clock = Checkpoints(directory=Path(folder), keep=2, run={}), CheckpointClock("auto")
        step, started_at = 1, time.perf_counter()
        while time.perf_counter() - started_at < _TRAINED_S:
            side.turn()
            step += 1
            if clock.due():
                begun = time.perf_counter()
                checkpoints.save(step, side.bert, side.optimizer.tensors(), {})
                saves_s.append(time.perf_counter() - begun)
                clock.saved(saves_s[-1])
        elapsed_s = time.perf_counter() - started_at
        size = sum(file.stat().st_size for file in max(Path(folder).glob("step-*")).iterdir())
    return {
        "work": f"BERT, dim {width}, {layers} layers, {_VOCAB:,} words",
        "checkpoint_mb": size / 1e6,
        "checkpoints": len(saves_s),
        "save_ms": 1000 * statistics.median(saves_s),
        "trained_s": elapsed_s,
        "share": sum(saves_s) / elapsed_s,
        "goal": 0.01,
    }
