"""What the recipes learn of IMDB's reviews, and what Hugging Face's networks learn of the same rows in the same time.

The text is prepared once, with a validation split of which a peer's learning rate is chosen; every figure is of the
whole test split with its stored masks, which no choice saw. Time is training alone.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.peers.huggingface import HuggingFaceBatch, bert_for_pretraining, modernbert_for_masked_lm
from benchmarks.rows import VARIABLE, huggingface_batch
from benchmarks.sides import DEFAULTS, random_batches
from bertpipe.data.batching import Batcher
from bertpipe.data.pair_dataset import PairDataset, read_dataset
from bertpipe.training.inputs import read_training_data

ROOT = Path(__file__).parent.parent
SEEDS = {"1min": 3, "3min": 1, "10min": 1}
"""How many runs each recipe gets."""
PEER_RECIPE, PEER_S, PEER_BATCH = "10min", 300.0, 32
RATES, RATE_S = (5e-4, 1e-3, 2e-3), 60.0
"""A peer's learning rates, and the time of the runs that choose one of them."""
WARMUP_SHARE = 0.05
_CALIBRATION_STEPS = 60
_VALIDATION_ROWS = 2000

Peer = Callable[[int], torch.nn.Module]
PEERS: dict[str, Peer] = {
    "BertForPreTraining": partial(bert_for_pretraining, width=128, layers=3, heads=2, longest=128),
    "ModernBertForMaskedLM": partial(modernbert_for_masked_lm, width=128, layers=3, heads=2, longest=128),
}
"""Hugging Face's networks by name, each of the size of the recipe that they are compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a network makes of the stored masks of a split."""

    loss: float
    top1: float


def recipe(work: Path, *, name: str) -> list[dict[str, Any]]:
    """Return what one of `params/recipes` learns, a row for each seed."""
    return [{"recipe": name, **_bertpipe(work, name, seed=seed)} for seed in range(1, SEEDS[name] + 1)]


def against_plain_loops(work: Path) -> list[dict[str, Any]]:
    """Return what each side learns in the same time on the same rows, each peer at the best of three learning rates."""
    calibration = _bertpipe(work, PEER_RECIPE, seed=1, steps=_CALIBRATION_STEPS, test=False)
    steps = int(PEER_S / calibration["trained_s"] * _CALIBRATION_STEPS)
    rows = [{"side": f"bertpipe, {PEER_RECIPE}.yaml", **_bertpipe(work, PEER_RECIPE, seed=1, steps=steps)}]
    for name in PEERS:
        tried = {rate: _in_a_process(_peer, _data(work), name, rate, RATE_S)["validation_loss"] for rate in RATES}
        rate = min(tried, key=lambda rate: tried[rate])
        learned = _in_a_process(_peer, _data(work), name, rate, PEER_S)
        rows.append({"side": f"{name}, plain loop, learning rate {rate:g}", **learned, "rates": tried})
    return rows


def _data(work: Path) -> Path:
    """Return the directory of IMDB's sentence pairs, prepared the first time."""
    out = work / "quality"
    if not out.is_dir():
        _run(
            "prepare",
            "--params",
            str(ROOT / "params" / "imdb_text.yaml"),
            "--text",
            os.environ[VARIABLE],
            "--out",
            str(out),
        )
    return out


def _bertpipe(work: Path, name: str, *, seed: int, steps: int | None = None, test: bool = True) -> dict[str, Any]:
    """Train by a recipe and evaluate, by the commands that users type."""
    data = _data(work)
    with TemporaryDirectory(dir=work) as directory:
        out = Path(directory)
        params = out / "params.yaml"
        train = {"seed": seed} if steps is None else {"seed": seed, "steps": steps}
        overlay = {"extends": str(ROOT / "params" / "recipes" / f"{name}.yaml"), "train": train}
        params.write_text(json.dumps(overlay), encoding="utf-8")  # YAML too
        common = ["--params", str(params), "--data", str(data), "--json"]
        files = [f"--{kind}={out / kind}.csv" for kind in ("history", "epoch-history", "timing")]
        trained = _run("train", *common, "--out", str(out / "model"), *files, cwd=out)
        row = {
            "seed": seed,
            "steps": trained["steps"],
            "trained_s": trained["elapsed_s"],
            "tokens_per_s": trained["tokens_per_second"],
            "share_of_peak": trained["share_of_peak"],
            "validation_loss": trained["validation_mlm_loss"],
            "validation_top1": trained["validation_mlm_top1_accuracy"],
        }
        if not test:
            return row
        metrics = _run("evaluate", *common, "--model", str(out / "model"), "--out", str(out / "metrics.json"))
        mlm, nsp = metrics["mlm"], metrics["nsp"]
        return {
            **row,
            "loss": mlm["model"]["loss"],
            "top1": mlm["model"]["top1_accuracy"],
            "two_neighbours": mlm["two_neighbours"]["top1_accuracy"],
            "nsp": nsp["model"]["accuracy"],
            "word_overlap": nsp["word_overlap"]["accuracy"],
        }


def _run(*arguments: str, cwd: Path = ROOT) -> dict[str, Any]:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "bertpipe", *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout) if "--json" in arguments else {}
    return result


def _in_a_process(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return what the function returns in a process of its own, with PyTorch as it comes."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def _peer(data: Path, name: str, learning_rate: float, seconds: float) -> dict[str, Any]:
    """Train one of Hugging Face's networks for that long: fused AdamW, clipped, warm-up, linear decay, 15 % masked."""
    torch.manual_seed(1)
    inputs = read_training_data(data)
    model = PEERS[name](inputs.tokenizer.vocab_size)
    train = read_dataset(data / "train.parquet")
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, fused=True)
    batches = random_batches(train, inputs.masks(DEFAULTS.masking), batch_size=PEER_BATCH)
    model.train()
    steps, tokens, started_at = 0, 0, time.perf_counter()
    while (share := (time.perf_counter() - started_at) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(share / WARMUP_SHARE, (1 - share) / (1 - WARMUP_SHARE))
        batch = next(batches)
        model(**_inputs(model, huggingface_batch(batch))).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps, tokens = steps + 1, tokens + batch.tokens
    trained_s = time.perf_counter() - started_at
    validation = _scores(model, read_dataset(data / "validation.parquet").take(np.arange(_VALIDATION_ROWS)))
    if seconds < PEER_S:
        return {"validation_loss": validation.loss}
    test = _scores(model, read_dataset(data / "test.parquet"))
    return {
        "seed": 1,
        "steps": steps,
        "trained_s": trained_s,
        "tokens_per_s": tokens / trained_s,
        "validation_loss": validation.loss,
        "validation_top1": validation.top1,
        "loss": test.loss,
        "top1": test.top1,
    }


def _inputs(model: torch.nn.Module, batch: HuggingFaceBatch) -> dict[str, torch.Tensor]:
    """Return the arguments of the network's forward pass; ModernBERT has no segments and no NSP."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.labels}
    if hasattr(model, "bert"):
        inputs |= {"token_type_ids": batch.token_type_ids, "next_sentence_label": batch.next_sentence_label}
    return inputs


def _scores(model: torch.nn.Module, rows: PairDataset) -> Scores:
    """Score a network with its vocabulary head at supervised positions alone: at all of them it would take minutes."""
    loss, right, tokens = 0.0, 0, 0
    with _evaluating(model), torch.inference_mode():
        for batch in Batcher(dataset=rows, masking=None, seed=1).in_length_order(batch_size=64):
            inputs = _inputs(model, huggingface_batch(batch))
            inputs.pop("labels")
            inputs.pop("next_sentence_label", None)
            encoder, head = _parts(model)
            logits = head(encoder(**inputs).last_hidden_state.flatten(0, 1)[batch.masked_positions])
            loss += F.cross_entropy(logits, batch.masked_labels, reduction="sum").item()
            right += int((logits.argmax(dim=1) == batch.masked_labels).sum())
            tokens += len(batch.masked_labels)
    return Scores(loss=loss / tokens, top1=right / tokens)


def _parts(model: Any) -> tuple[torch.nn.Module, Callable[[torch.Tensor], torch.Tensor]]:  # noqa: ANN401
    if hasattr(model, "bert"):
        return model.bert, model.cls.predictions
    return model.model, lambda hidden: model.decoder(model.head(hidden))


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    model.eval()
    try:
        yield
    finally:
        model.train()
