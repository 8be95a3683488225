"""Training steps: bertpipe against the notebook's loop, and against Hugging Face's network in a plain loop."""

import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Turns, alternate, ratio
from benchmarks.rows import IMDB_VOCAB
from benchmarks.sides import BertNetwork, Bertpipe, MatrixProduct, NotebookNetwork, bert_shape
from benchmarks.workers import workers
from bertpipe.core.params import MaskingUnit, ModelParams

NOTEBOOK_VOCAB, BERT_VOCAB = 147_161, 30_522
NOTEBOOK_BATCH, FREE_BATCH, BERT_BATCH = 3, 64, 32
ROUNDS = 7
_LOADED: tuple[tuple[int, int, int, MaskingUnit], ...] = (
    (64, 2, 60, "token"), (64, 2, 60, "word"), (64, 2, 60, "span"), (256, 4, 20, "token"),
)  # fmt: skip
"""Width, layers, steps a turn and unit of masking of each BERT whose share of loading is measured."""
_MASKS = {"token": "dynamic masks", "word": "dynamic masks of whole words", "span": "dynamic masks of spans"}


def against_notebook(work: Path) -> list[dict[str, Any]]:
    """Time the notebook's network on the notebook's rows, in sequences a second.

    Both sides take turns; then each works with no other process beside it, as its users run it. Beside a process that
    waits the notebook's loop is slower.
    """

    def network(vocab_size: int, batch_size: int, steps: int) -> NotebookNetwork:
        return NotebookNetwork(work=work, vocab_size=vocab_size, batch_size=batch_size, steps=steps)

    ours = {
        "same_batch": (network(NOTEBOOK_VOCAB, NOTEBOOK_BATCH, 40), 12),
        "free_batch": (network(NOTEBOOK_VOCAB, FREE_BATCH, 6), 25),
        "right_vocabulary": (network(IMDB_VOCAB, FREE_BATCH, 6), 35),
    }
    theirs = network(NOTEBOOK_VOCAB, NOTEBOOK_BATCH, 6).theirs
    with workers(theirs=theirs, **{name: side.ours for name, (side, _) in ours.items()}) as sides:
        turns = alternate(sides, rounds=ROUNDS)
    rows = [
        _notebook_row(side, turns[name], turns["theirs"], ratio(turns[name], turns["theirs"], "sequences"), goal)
        for name, (side, goal) in ours.items()
    ]
    side, goal = ours["same_batch"]
    alone = {}
    for name, make_side in (("theirs", theirs), ("ours", side.ours)):
        with workers(**{name: make_side}) as sides:
            alone |= alternate(sides, rounds=ROUNDS)
    by_itself = alone["ours"].rate("sequences") / alone["theirs"].rate("sequences")
    row = _notebook_row(side, alone["ours"], alone["theirs"], by_itself, goal)
    return [*rows, {**row, "work": f"{row['work']}, each side by itself"}]


def _notebook_row(side: NotebookNetwork, ours: Turns, theirs: Turns, times: float, goal: float) -> dict[str, Any]:
    return {
        "work": f"the notebook's network, {side.batch_size} rows per step, {side.vocab_size:,} words",
        "unit": "sequences/s",
        "peer": f"the notebook's loop, {NOTEBOOK_BATCH} rows, {NOTEBOOK_VOCAB:,} words",
        "theirs": theirs.rate("sequences"),
        "ours": ours.rate("sequences"),
        "ratio": times,
        "goal": goal,
    }


def against_hugging_face(work: Path) -> list[dict[str, Any]]:
    """Time BERT at three sizes, in real tokens a second; both sides mask 15 % of the same rows."""
    sizes = ((64, 2, 40, 12), (128, 4, 20, 10), (256, 4, 10, 7))
    return [_size(work, bert_shape(width=width, layers=layers), steps, goal) for width, layers, steps, goal in sizes]


def _size(work: Path, model: ModelParams, steps: int, goal: float) -> dict[str, Any]:
    network = BertNetwork(work=work, model=model, vocab_size=BERT_VOCAB, batch_size=BERT_BATCH, steps=steps)
    with workers(ours=network.ours, peak=MatrixProduct, theirs=network.theirs) as sides:
        turns = alternate(sides, rounds=ROUNDS)
    peak = turns["peak"].median("flops")
    return {
        "work": f"BERT, dim {model.embedding_dim}, {model.layers} layers, {BERT_BATCH} rows, {BERT_VOCAB:,} words",
        "unit": "real tokens/s",
        "peer": "BertForPreTraining, plain loop",
        "theirs": turns["theirs"].rate("tokens"),
        "ours": turns["ours"].rate("tokens"),
        "ratio": ratio(turns["ours"], turns["theirs"], "tokens"),
        "goal": goal,
        "share_of_peak": turns["ours"].rate("flops") / peak,
        "peak_gflops": peak / 1e9,
    }


def loader_share(work: Path) -> list[dict[str, Any]]:
    """Measure which share of a step goes into choosing, padding and masking its rows."""
    notebook = NotebookNetwork(work=work, vocab_size=NOTEBOOK_VOCAB, batch_size=NOTEBOOK_BATCH, steps=60).ours()
    berts = [
        BertNetwork(
            work=work,
            model=bert_shape(width=width, layers=layers),
            vocab_size=BERT_VOCAB,
            batch_size=BERT_BATCH,
            steps=steps,
            unit=unit,
        ).ours()
        for width, layers, steps, unit in _LOADED
    ]
    return [
        _loader_share(side, batch_size)
        for side, batch_size in ((notebook, NOTEBOOK_BATCH), *((bert, BERT_BATCH) for bert in berts))
    ]


def _loader_share(side: Bertpipe, batch_size: int) -> dict[str, Any]:
    side.turn()
    started_at = time.perf_counter()
    side.turn()
    step_s = (time.perf_counter() - started_at) / side.steps
    batches = side.batcher.epoch(1, batch_size=batch_size)
    next(batches)
    started_at = time.perf_counter()
    for _ in range(side.steps):
        next(batches)
    loading_s = (time.perf_counter() - started_at) / side.steps
    masks = "stored masks" if side.batcher.masking is None else _MASKS[side.batcher.masking.unit]
    return {
        "work": f"dim {side.bert.params.embedding_dim}, {batch_size} rows, {masks}",
        "step_ms": 1000 * step_s,
        "loading_ms": 1000 * loading_s,
        "share": loading_s / step_s,
        "goal": 0.02,
    }
