"""What counts in the end: the loss on held-out rows after so many seconds of training on the whole IMDB zip.

Both sides train in one process, with bertpipe's allocator settings, which favours the peer.

The rows are those of `bert_test_data_sampled` with their stored labels, a quarter of which are random words. Time is
training alone; start-up and evaluation stand apart.
"""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.peers.huggingface import HuggingFaceLoop
from benchmarks.rows import IMDB_VOCAB, Rows, huggingface_batch, load_rows
from benchmarks.sides import Bertpipe, HuggingFace, bert_shape, random_batches, train_params
from bertpipe.core.params import ModelParams
from bertpipe.data.batching import Batcher
from bertpipe.data.pair_dataset import PairDataset
from bertpipe.evaluation.evaluate import Evaluation, evaluate

TARGET, LIMIT_S, GOAL_S = 7.0, 300.0, 120.0
LEARNING_RATE, BATCH, EVERY = 4e-3, 16, 50
FIVE_MINUTES_S, FIVE_MINUTES_BATCH = 300.0, 32
RATES = {"bertpipe": (1e-3, 2e-3, 4e-3), "Hugging Face": (1e-4, 5e-4, 2e-3)}
WARMUP_STEPS = 50


def time_to_loss(work: Path) -> list[dict[str, Any]]:
    """Return the seconds of training until the held-out MLM loss is at most the target."""
    rows, model = load_rows(work), bert_shape(width=64, layers=2)
    started_at = time.perf_counter()
    ours = _start(model, rows, BATCH, LEARNING_RATE)
    start_up_s = time.perf_counter() - started_at
    trained_s, steps, loss = 0.0, 0, float("inf")
    while loss > TARGET and trained_s < LIMIT_S:
        started_at = time.perf_counter()
        for _ in range(EVERY):
            ours.turn()
        trained_s += time.perf_counter() - started_at
        steps += EVERY
        loss = _our_loss(ours, rows.sampled_test)
    return [
        {
            "work": f"dim 64, 2 layers, {BATCH} rows, learning rate {LEARNING_RATE:g}: to {TARGET} nats",
            "start_up_s": start_up_s,
            "trained_s": trained_s,
            "steps": steps,
            "loss": loss,
            "reached": loss <= TARGET,
            "goal_s": GOAL_S,
        }
    ]


def after_five_minutes(work: Path) -> list[dict[str, Any]]:
    """Return the held-out MLM loss after five minutes of training, for each side's three learning rates."""
    rows, model = load_rows(work), bert_shape(width=128, layers=4)
    result = []
    for side, rates in RATES.items():
        for rate in rates:
            if side == "bertpipe":
                ours = _start(model, rows, FIVE_MINUTES_BATCH, rate)
                steps = _train(ours.turn, FIVE_MINUTES_S)
                loss = _our_loss(ours, rows.sampled_test)
            else:
                batches = random_batches(rows.train, None, batch_size=FIVE_MINUTES_BATCH)
                theirs = HuggingFace(model, IMDB_VOCAB, rate, batches)
                steps = _train(theirs.turn, FIVE_MINUTES_S)
                loss = _their_loss(theirs.loop, rows.sampled_test)
            result.append({"side": side, "learning_rate": rate, "steps": steps, "loss": loss})
    return result


def _start(model: ModelParams, rows: Rows, batch_size: int, learning_rate: float) -> Bertpipe:
    run_steps = 100 * len(rows.train) / batch_size
    train = train_params(batch_size=batch_size, learning_rate=learning_rate, warmup_share=WARMUP_STEPS / run_steps)
    return Bertpipe(model, IMDB_VOCAB, train, rows.train)


def _train(step: Callable[[], object], seconds: float) -> int:
    started_at = time.perf_counter()
    for done in itertools.count():
        if time.perf_counter() - started_at >= seconds:
            return done
        step()
    raise AssertionError("count() has no end")


def _our_loss(side: Bertpipe, test: PairDataset) -> float:
    batcher = Batcher(dataset=test, masking=None, seed=1)
    loss = Evaluation.of(evaluate(side.bert, batcher, batch_size=32, device=torch.device("cpu"))).mlm_loss
    assert loss is not None
    return loss


def _their_loss(loop: HuggingFaceLoop, test: PairDataset) -> float:
    """Evaluate as for our side: the vocabulary head at supervised positions only, or it would take minutes."""
    loop.model.eval()
    loss, tokens = 0.0, 0
    with torch.inference_mode():
        for batch in Batcher(dataset=test, masking=None, seed=1).in_length_order(batch_size=32):
            theirs = huggingface_batch(batch)
            hidden = loop.model.bert(
                input_ids=theirs.input_ids, attention_mask=theirs.attention_mask, token_type_ids=theirs.token_type_ids
            ).last_hidden_state
            logits = loop.model.cls.predictions(hidden.flatten(0, 1)[batch.masked_positions])
            loss += F.cross_entropy(logits, batch.masked_labels, reduction="sum").item()
            tokens += len(batch.masked_labels)
    return loss / tokens
