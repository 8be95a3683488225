"""Peak memory of whole processes: the notebook's loop and bertpipe on the notebook's network."""

from pathlib import Path
from typing import Any

from benchmarks.engine import NOTEBOOK_VOCAB
from benchmarks.sides import NotebookNetwork
from benchmarks.workers import workers

CASES = ((3, 30, 0.3), (32, 3, 0.06))
"""Rows a step, steps a turn, and the goal."""


def peak_memory(work: Path) -> list[dict[str, Any]]:
    """Return the peak memory of both sides, one process after the other, at two batch sizes."""
    return [_batch(work, batch_size, steps, goal) for batch_size, steps, goal in CASES]


def _batch(work: Path, batch_size: int, steps: int, goal: float) -> dict[str, Any]:
    network = NotebookNetwork(work=work, vocab_size=NOTEBOOK_VOCAB, batch_size=batch_size, steps=steps)
    with workers(theirs=network.theirs) as sides:
        theirs = sides["theirs"].peak_bytes()
    with workers(ours=network.ours) as sides:
        ours = sides["ours"].peak_bytes()
    return {
        "work": f"the notebook's network, {batch_size} rows, {NOTEBOOK_VOCAB:,} words",
        "theirs_gb": theirs / 1e9,
        "ours_gb": ours / 1e9,
        "share": ours / theirs,
        "goal": goal,
    }
