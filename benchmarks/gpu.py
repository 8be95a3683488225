"""On a GPU: a training step of bertpipe, of Hugging Face's BERT and of bare matrix products, side by side in bfloat16.

`python -m benchmarks.gpu --rows data/parquet/train.parquet` needs torch, NumPy and pyarrow, and transformers for the
peer. The rows' tokens are packed into rows of one length, so that every shape trains on full rows. The sides take
turns in one process: bertpipe as it is, bertpipe compiled, and `BertForPreTraining` with SDPA, compiled. A shape that
would begin after `--limit-s` is named as not measured. `--device cpu` runs the same on a tiny network in float32, to
check the script where there is no GPU.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Turns, Work, alternate, machine, ratio
from benchmarks.peers.huggingface import HuggingFaceLoop
from benchmarks.rows import bert_masking, huggingface_batch
from benchmarks.sides import DROPOUT, bert_shape, train_params
from bertpipe.core.params import CompileMode, ModelParams, TrainParams
from bertpipe.data.batching import Batch, Batcher
from bertpipe.data.device.batcher import DeviceBatcher
from bertpipe.data.pair_dataset import PairDataset, read_dataset
from bertpipe.data.tokenization.tokenizer import CLS_ID, SEP_ID
from bertpipe.model.bert import Bert
from bertpipe.model.device import pick_device
from bertpipe.model.flops import peak_flops, published_peak_flops
from bertpipe.training.loop import StepReport, train_steps
from bertpipe.training.objective import PretrainingObjective, compile_objective
from bertpipe.training.optim import make_optimizer

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A network, and the step it is trained by."""

    name: str
    width: int
    layers: int
    heads: int
    rows: int
    """Rows a step."""
    goal: float | None = None
    """Tokens a second that are hoped for."""
    length: int = 128
    """Tokens of each row."""
    vocab: int = 30_522
    dropout: float = DROPOUT

    @property
    def model(self) -> ModelParams:
        """The network's params."""
        shape = bert_shape(width=self.width, layers=self.layers, heads=self.heads)
        return replace(shape, max_positions=self.length, dropout=self.dropout)

    def train(self, precision: Precision) -> TrainParams:
        """Return the run's params: it never comes to its end."""
        return replace(train_params(batch_size=self.rows), precision=precision, epochs=1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured."""

    rounds: int = 5
    """Turns of each side."""
    steps: int = 6
    """Steps of a turn."""
    watched: int = 5
    """Steps in which busy time and host waits are looked for."""
    backend: str | Callable[..., Any] = "inductor"
    """Of torch.compile."""


SHAPES = (
    Shape(name="BERT-base, 128 tokens", width=768, layers=12, heads=12, rows=256, goal=725_000),
    Shape(name="7 layers of width 256, 128 tokens", width=256, layers=7, heads=4, rows=512, goal=2_000_000),
    Shape(name="12 layers of width 384, 128 tokens", width=384, layers=12, heads=6, rows=512),
    Shape(name="BERT-base, 512 tokens", width=768, layers=12, heads=12, rows=64, length=512),
)
TINY = (Shape(name="tiny", width=64, layers=2, heads=2, rows=16, length=64, vocab=1000, dropout=0.0),)
"""What a CPU checks the script on; its dropout draws with NumPy, which torch.compile does not take."""
GOAL_OVER_PEER = 1.5
COMPARED_ROWS = 16
"""Rows on which the losses are compared with the CPU's."""
TOLERANCE: Mapping[Precision, float] = {"float32": 1e-5, "bfloat16": 1e-2}
"""Relative differences of the losses that are allowed."""


def main() -> None:
    """Measure every shape, print JSON after each, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True, help="A Parquet split of bertpipe's.")
    parser.add_argument("--out", type=Path, help="Where to write the JSON.")
    parser.add_argument("--compile", choices=get_args(CompileMode), default="default", help="As runtime.compile.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--limit-s", type=float, default=420.0, help="No shape begins later than this.")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU here; --device cpu checks the script on a tiny network")
    started_at = time.perf_counter()
    device = pick_device(given.device)
    data = read_dataset(given.rows)
    results: dict[str, Any] = {**machine(), "compile": given.compile, "shapes": []}
    for shape in SHAPES if given.device == "cuda" else TINY:
        if time.perf_counter() - started_at > given.limit_s:
            results["shapes"].append({"shape": shape.name, "not_measured": f"after {given.limit_s:.0f} s"})
            continue
        results["shapes"].append(measure(shape, data, device=device, mode=given.compile))
        print(json.dumps(results["shapes"][-1], indent=2), flush=True)
        if given.out:  # after each shape: what was measured stays if the run is stopped
            given.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def packed(rows: PairDataset, vocab_size: int, length: int) -> PairDataset:
    """Return the rows' words as pairs of one length, ids folded into the vocabulary."""
    words = rows.token_ids[rows.token_ids > SEP_ID] % (vocab_size - 5) + 5
    words_a_row = length - 3
    count = len(words) // words_a_row
    half = words_a_row // 2
    table = np.empty((count, length), dtype=np.int32)
    table[:, 0], table[:, half + 1], table[:, -1] = CLS_ID, SEP_ID, SEP_ID
    body = words[: count * words_a_row].reshape(count, words_a_row)
    table[:, 1 : half + 1], table[:, half + 2 : -1] = body[:, :half], body[:, half:]
    none, offsets = np.zeros(0, dtype=np.int32), np.zeros(count + 1, dtype=np.int64)
    return replace(
        rows,
        token_ids=table.reshape(-1),
        offsets=np.arange(count + 1) * length,
        row=np.arange(count),
        second_segment_start=np.full(count, half + 2, dtype=np.int32),
        is_next=np.arange(count) % 2 == 0,
        document=np.arange(count, dtype=np.int32),
        masked_offsets=offsets,
        masked_positions=none,
        masked_inputs=none,
        masked_labels=none,
    )


def measure(
    shape: Shape, data: PairDataset, *, device: torch.device, mode: CompileMode, effort: Effort | None = None
) -> dict[str, Any]:
    """Return the figures of one shape; those that only a GPU has are None elsewhere."""
    effort = effort or Effort()
    host = Batcher(dataset=packed(data, shape.vocab, shape.length), masking=bert_masking(shape.vocab), seed=1)
    sides: dict[str, Ours | Peer] = {"bertpipe": Ours(shape, host, device, "none", effort)}
    if mode != "none":
        sides["bertpipe, compiled"] = Ours(shape, host, device, mode, effort)
    if find_spec("transformers") is not None:
        sides["Hugging Face, SDPA, compiled"] = Peer(shape, host, device, effort)
    turns = alternate({name: side.turn for name, side in sides.items()}, rounds=effort.rounds)
    published = published_peak_flops(device, torch.bfloat16)
    best = max((name for name in sides if name.startswith("bertpipe")), key=lambda name: turns[name].rate("tokens"))
    return {
        "shape": shape.name,
        "parameters": sum(parameter.numel() for parameter in sides["bertpipe"].module.parameters()),
        "rows_a_step": shape.rows,
        "tokens_a_row": shape.length,
        "measured_peak_tflop_per_second": peak_flops(device, _dtype(device)) / 1e12,
        "sides": {name: _figures(side, turns[name], published) for name, side in sides.items()},
        "matrix_products_tokens_per_second": products_rate(shape, device),
        "best": best,
        "goal_tokens_per_second": shape.goal,
        "reaches_goal": None if shape.goal is None else turns[best].rate("tokens") >= shape.goal,
        "over_peer": {
            name: ratio(turns[best], turns[name], "tokens") for name in sides if not name.startswith("bertpipe")
        },
        "goal_over_peer": GOAL_OVER_PEER,
        "losses_as_on_the_cpu": {precision: losses_compared(shape, host, device, precision) for precision in TOLERANCE},
    }


class Ours:
    """bertpipe's loop on rows that stay on the device."""

    def __init__(self, shape: Shape, host: Batcher, device: torch.device, mode: CompileMode, effort: Effort) -> None:
        torch.manual_seed(1)
        self.device, self.effort = device, effort
        self.module = Bert(shape.model, shape.vocab).to(device)
        objective = PretrainingObjective(self.module)
        compile_objective(objective, mode, None, backend=effort.backend)
        train = shape.train("float32" if device.type == "cpu" else "bfloat16")
        self.steps: Iterator[StepReport] = train_steps(
            objective,
            make_optimizer(objective, train),
            DeviceBatcher(host=host, device=device, max_positions=shape.length),
            train,
            device=device,
        )
        self.first_step_s, self.memory = _first(lambda: self.take(1), device)

    def take(self, count: int) -> list[StepReport]:
        """Take some steps, and wait until the device is done with them."""
        reports = list(islice(self.steps, count))
        _finish(self.device)
        return reports

    def turn(self) -> Work:
        """Take the steps of a turn."""
        reports = self.take(self.effort.steps)
        return Work(
            tokens=sum(int(report.tokens) for report in reports), flops=sum(float(report.flops) for report in reports)
        )

    def go(self) -> None:
        """Take a step without waiting for it."""
        next(self.steps)


class Peer:
    """Hugging Face's network in a plain compiled loop, on batches that are on the device beforehand."""

    def __init__(self, shape: Shape, host: Batcher, device: torch.device, effort: Effort) -> None:
        torch.manual_seed(1)
        self.device, self.effort = device, effort
        self.loop = HuggingFaceLoop(
            vocab_size=shape.vocab, width=shape.width, layers=shape.layers, heads=shape.heads, longest=shape.length,
            device=device.type, compile_backend=effort.backend,
        )  # fmt: skip
        self.module = self.loop.model
        self.tokens = shape.rows * shape.length
        made = islice(host.epoch(1, batch_size=shape.rows), effort.steps)
        self.batches = cycle([huggingface_batch(batch).to(device) for batch in made if batch.rows == shape.rows])
        self.first_step_s, self.memory = _first(self.go, device)

    def turn(self) -> Work:
        """Take the steps of a turn."""
        for _ in range(self.effort.steps):
            self.go()
        _finish(self.device)
        return Work(tokens=self.effort.steps * self.tokens)

    def go(self) -> None:
        """Take a step without waiting for it."""
        self.loop.step(next(self.batches))


def _first(step: Callable[[], object], device: torch.device) -> tuple[float, int | None]:
    """Return the seconds of the first step, with its compilation, and the bytes that the GPU held most in it."""
    _finish(device)
    on_gpu = device.type == "cuda"
    held = torch.cuda.memory_allocated(device) if on_gpu else 0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    started_at = time.perf_counter()
    step()
    _finish(device)
    elapsed_s = time.perf_counter() - started_at
    return elapsed_s, torch.cuda.max_memory_allocated(device) - held if on_gpu else None


def _figures(side: Ours | Peer, turns: Turns, published: float | None) -> dict[str, Any]:
    on_gpu = side.device.type == "cuda"
    step_s = sorted(turns.elapsed_s)[len(turns.elapsed_s) // 2] / side.effort.steps
    flops = turns.rate("flops") or None
    return {
        "tokens_per_second": turns.rate("tokens"),
        "tflop_per_second": flops and flops / 1e12,
        "mfu": flops / published if flops and published else None,
        "step_s": step_s,
        "first_step_s": side.first_step_s,
        "compiling_s": side.first_step_s - step_s,
        "gpu_busy_share": _busy_share(side) if on_gpu else None,
        "host_waits": _host_waits(side) if on_gpu else None,
        "first_step_peak_bytes": side.memory,
    }


def _dtype(device: torch.device) -> torch.dtype:
    """Return the type that the sides multiply in: on a CPU Hugging Face's loop takes no autocast either."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _busy_share(side: Ours | Peer) -> float:
    """Return the share of the time in which the GPU computes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        started_at = time.perf_counter()
        for _ in range(side.effort.watched):
            side.go()
        _finish(side.device)
        elapsed_s = time.perf_counter() - started_at
    busy_us: float = sum(event.self_device_time_total for event in profile.key_averages())
    return busy_us / 1e6 / elapsed_s


def _host_waits(side: Ours | Peer) -> list[str]:
    """Return where the host waited for the GPU in some steps, one line a wait: none, if the steps are as they should.

    PyTorch warns of each. A window's first batch waits once; a window has 65,536 rows.
    """
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(side.effort.watched):
                side.go()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [f"{found.filename}:{found.lineno}" for found in caught if "synchroniz" in str(found.message)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A matrix product of a step: [rows, inner] by [inner, columns], `times` over, `batch` of them at once."""

    rows: int
    inner: int
    columns: int
    times: int = 1
    batch: int = 1


def products(shape: Shape) -> list[Product]:
    """Return the matrix products of a forward pass that `training_flops` counts, at 15 % supervised tokens."""
    tokens, width, head = shape.rows * shape.length, shape.width, shape.width // shape.heads
    masked = tokens * 15 // 100
    read, per_row = masked + shape.rows, masked // shape.rows + 1
    lower, groups = shape.layers - 1, shape.rows * shape.heads
    return [
        Product(rows=tokens, inner=width, columns=3 * width, times=lower),
        Product(rows=tokens, inner=width, columns=2 * width),
        Product(rows=tokens, inner=width, columns=width, times=lower),
        Product(rows=read, inner=width, columns=width, times=3),  # the last queries, their output, both heads
        Product(rows=tokens, inner=width, columns=4 * width, times=lower),
        Product(rows=tokens, inner=4 * width, columns=width, times=lower),
        Product(rows=read, inner=width, columns=4 * width),
        Product(rows=read, inner=4 * width, columns=width),
        Product(rows=shape.length, inner=head, columns=shape.length, times=lower, batch=groups),
        Product(rows=shape.length, inner=shape.length, columns=head, times=lower, batch=groups),
        Product(rows=per_row, inner=head, columns=shape.length, batch=groups),
        Product(rows=per_row, inner=shape.length, columns=head, batch=groups),
        Product(rows=masked, inner=width, columns=shape.vocab),
    ]


def products_rate(shape: Shape, device: torch.device) -> float:
    """Return the tokens per second of a step that consists of its matrix products alone, forward and backward."""
    total_s = sum(product.times * _product_s(product, device) for product in products(shape))
    return shape.rows * shape.length / total_s


def _product_s(product: Product, device: torch.device) -> float:
    """Return the seconds of a product and of the two of its backward pass."""

    def ones(*sizes: int) -> Tensor:
        return torch.ones(product.batch, *sizes, device=device, dtype=_dtype(device))

    left, right, out = (
        ones(product.rows, product.inner), ones(product.inner, product.columns), ones(product.rows, product.columns)
    )  # fmt: skip
    elapsed_s = []
    for _ in range(4):
        _finish(device)
        started_at = time.perf_counter()
        torch.bmm(left, right)
        torch.bmm(out, right.transpose(1, 2))
        torch.bmm(left.transpose(1, 2), out)
        _finish(device)
        elapsed_s.append(time.perf_counter() - started_at)
    return min(elapsed_s)


def losses_compared(shape: Shape, host: Batcher, device: torch.device, precision: Precision) -> dict[str, Any]:
    """Return the losses of the same rows and weights on the device and on the CPU in float32, without dropout."""
    torch.manual_seed(1)
    objective = PretrainingObjective(Bert(shape.model, shape.vocab)).eval()
    batch = next(iter(host.epoch(1, batch_size=COMPARED_ROWS)))
    here = DeviceBatcher(host=host, device=device, max_positions=shape.length)
    there = next(iter(here.epoch(1, batch_size=COMPARED_ROWS)))
    with torch.no_grad():
        expected = [loss.item() for loss in _losses(objective, batch)]
        objective.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            found = [loss.item() for loss in _losses(objective, there)]
    difference = max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))
    return {
        "mlm_nsp": found,
        "on_the_cpu": expected,
        "relative_difference": difference,
        "allowed": TOLERANCE[precision],
        "equal": difference <= TOLERANCE[precision],
    }


def _losses(objective: PretrainingObjective, batch: Batch) -> tuple[Tensor, Tensor]:
    losses = objective(batch)
    return losses.mlm, losses.nsp


if __name__ == "__main__":
    main()
