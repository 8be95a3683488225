"""On a GPU: tokens a second, model FLOPs utilisation (MFU), busy time and host waits of a training step in bfloat16.

`python -m benchmarks.gpu --rows data/parquet/train.parquet` needs torch, NumPy and pyarrow alone. The rows' tokens are
packed into rows of one length, so that every shape trains on full rows.
"""

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.measure import machine
from benchmarks.peers.huggingface import HuggingFaceLoop
from benchmarks.rows import bert_masking, huggingface_batch
from benchmarks.sides import bert_shape, train_params
from bertpipe.core.params import CompileMode, ModelParams, TrainParams
from bertpipe.data.batching import Batcher
from bertpipe.data.device_batcher import DeviceBatcher
from bertpipe.data.pair_dataset import PairDataset, read_dataset
from bertpipe.data.tokenization.tokenizer import CLS_ID, SEP_ID
from bertpipe.model.bert import Bert
from bertpipe.model.device import pick_device
from bertpipe.model.flops import peak_flops, published_peak_flops
from bertpipe.training.loop import StepReport, train_steps
from bertpipe.training.objective import PretrainingObjective, compile_objective
from bertpipe.training.optim import make_optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A network, and the step it is trained by."""

    name: str
    width: int
    layers: int
    heads: int
    rows: int
    """Rows a step."""
    goal: float
    """Tokens a second that are hoped for."""
    length: int = 128
    """Tokens of each row."""
    vocab: int = 30_522

    @property
    def model(self) -> ModelParams:
        """The network's params."""
        return replace(bert_shape(width=self.width, layers=self.layers, heads=self.heads), max_positions=self.length)

    @property
    def train(self) -> TrainParams:
        """The run's params: it never comes to its end."""
        return replace(train_params(batch_size=self.rows), precision="bfloat16", epochs=1000)


SHAPES = (
    Shape(name="BERT-base", width=768, layers=12, heads=12, rows=256, goal=725_000),
    Shape(name="17M", width=256, layers=7, heads=4, rows=512, goal=2_000_000),
)
WARM_UP_STEPS, STEPS, PROFILED_STEPS, WATCHED_STEPS = 10, 30, 5, 5


def main() -> None:
    """Measure every shape, print JSON, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="A Parquet split of bertpipe's.")
    parser.add_argument("--out", type=Path, help="Where to write the JSON.")
    parser.add_argument("--compile", choices=get_args(CompileMode), default="none", help="As runtime.compile.")
    parser.add_argument("--peer", action="store_true", help="Time Hugging Face's network in a plain loop too.")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU here")
    device = pick_device("cuda")
    data = read_dataset(given.rows)
    shapes = [measure(shape, data, device=device, mode=given.compile, peer=given.peer) for shape in SHAPES]
    text = json.dumps({**machine(), "compile": given.compile, "shapes": shapes}, indent=2)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


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
    shape: Shape, data: PairDataset, *, device: torch.device, mode: CompileMode = "none", peer: bool = False
) -> dict[str, Any]:
    """Return the figures of one shape; those that only a GPU has are None elsewhere."""
    torch.manual_seed(1)
    bert = Bert(shape.model, shape.vocab).to(device)
    host = Batcher(dataset=packed(data, shape.vocab, shape.length), masking=bert_masking(shape.vocab), seed=1)
    objective = PretrainingObjective(bert)
    compile_objective(objective, mode, None)
    steps = train_steps(
        objective,
        make_optimizer(objective, shape.train),
        DeviceBatcher(host=host, device=device, max_positions=shape.length),
        shape.train,
        device=device,
    )
    _take(steps, WARM_UP_STEPS, device)
    reports, elapsed_s = _take(steps, STEPS, device)
    peak, published = peak_flops(device, torch.bfloat16), published_peak_flops(device, torch.bfloat16)
    flops = sum(float(report.flops) for report in reports) / elapsed_s
    on_gpu = device.type == "cuda"
    return {
        "shape": shape.name,
        "parameters": sum(parameter.numel() for parameter in bert.parameters()),
        "rows_a_step": shape.rows,
        "tokens_per_second": sum(int(report.tokens) for report in reports) / elapsed_s,
        "goal_tokens_per_second": shape.goal,
        "tflop_per_second": flops / 1e12,
        "measured_peak_tflop_per_second": peak / 1e12,
        "share_of_measured_peak": flops / peak,
        "mfu": None if published is None else flops / published,
        "gpu_busy_share": _busy_share(steps, device) if on_gpu else None,
        "host_waits": _host_waits(steps) if on_gpu else None,
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else None,
        "last_mlm_loss": reports[-1].losses.mlm.item(),
        **({"peer_tokens_per_second": _peer_rate(shape, host)} if peer else {}),
    }


def _take(steps: Iterator[StepReport], count: int, device: torch.device) -> tuple[list[StepReport], float]:
    """Return the reports of some steps, and the seconds until the device was done with them."""
    _finish(device)
    started_at = time.perf_counter()
    reports = [next(steps) for _ in range(count)]
    _finish(device)
    return reports, time.perf_counter() - started_at


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _busy_share(steps: Iterator[StepReport], device: torch.device) -> float:
    """Return the share of the time in which the GPU computes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        _, elapsed_s = _take(steps, PROFILED_STEPS, device)
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6 / elapsed_s


def _host_waits(steps: Iterator[StepReport]) -> list[str]:
    """Return where the host waited for the GPU in some steps, one line a wait: none, if the steps are as they should.

    PyTorch warns of each. A window's first batch waits once; a window has 65,536 rows.
    """
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(WATCHED_STEPS):
                next(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [f"{found.filename}:{found.lineno}" for found in caught if "synchroniz" in str(found.message)]


def _peer_rate(shape: Shape, host: Batcher) -> float:
    loop = HuggingFaceLoop(
        vocab_size=shape.vocab, width=shape.width, layers=shape.layers, heads=shape.heads, longest=shape.length,
        device="cuda",
    )  # fmt: skip
    batches = host.epoch(1, batch_size=shape.rows)
    prepared = [next(batches) for _ in range(WARM_UP_STEPS)]
    for batch in prepared:
        loop.step(huggingface_batch(batch))
    torch.cuda.synchronize()
    started_at = time.perf_counter()
    for batch in prepared:
        loop.step(huggingface_batch(batch))
    torch.cuda.synchronize()
    return sum(batch.tokens for batch in prepared) / (time.perf_counter() - started_at)


if __name__ == "__main__":
    main()
