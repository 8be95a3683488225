"""On a GPU: tokens a second, model FLOPs utilisation (MFU) and GPU busy time of a training step in bfloat16.

`python -m benchmarks.gpu --rows data/parquet/train.parquet` needs torch, NumPy and pyarrow alone. The rows' tokens are
packed into rows of one length, so that every shape trains on full rows.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import machine
from benchmarks.peers.huggingface import HuggingFaceLoop
from benchmarks.rows import bert_masking, huggingface_batch
from benchmarks.sides import bert_shape, train_params
from bertpipe.data.batching import Batcher
from bertpipe.data.dataset import PairDataset, read_dataset
from bertpipe.data.tokenization import CLS_ID, SEP_ID
from bertpipe.model.bert import Bert
from bertpipe.params import ModelParams
from bertpipe.training.loop import StepReport, train_steps
from bertpipe.training.objective import PretrainingObjective
from bertpipe.training.optim import make_optimizer
from bertpipe.training.throughput import peak_flops

VOCAB, LENGTH = 30_522, 128
SHAPES = {  # name: (width, layers, heads, rows a step, goal in tokens/s)
    "BERT-base": (768, 12, 12, 256, 725_000),
    "17M": (256, 7, 4, 512, 2_000_000),
}
PUBLISHED_PEAK = {"H100": 989e12, "H200": 989e12}  # dense bfloat16, SXM, from NVIDIA's data sheets
WARM_UP_STEPS, STEPS, PROFILED_STEPS = 10, 30, 5


def main() -> None:
    """Measure every shape, print JSON, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="A Parquet split of bertpipe's.")
    parser.add_argument("--out", type=Path, help="Where to write the JSON.")
    parser.add_argument("--peer", action="store_true", help="Time Hugging Face's network in a plain loop too.")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU here")
    rows = packed(read_dataset(given.rows), VOCAB, LENGTH)
    result = {**machine(), "shapes": [measure(name, rows, peer=given.peer) for name in SHAPES]}
    text = json.dumps(result, indent=2)
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


def measure(name: str, rows: PairDataset, *, peer: bool) -> dict[str, Any]:
    """Return the figures of one shape."""
    width, layers, heads, batch_size, goal = SHAPES[name]
    device = torch.device("cuda")
    model = replace(bert_shape(width=width, layers=layers, heads=heads), max_positions=LENGTH)
    torch.manual_seed(1)
    bert = Bert(model, VOCAB).to(device)
    train = replace(train_params(batch_size=batch_size), precision="bfloat16", epochs=1000)
    batcher = Batcher(dataset=rows, masking=bert_masking(VOCAB), seed=1)
    steps = train_steps(PretrainingObjective(bert), make_optimizer(bert, train), batcher, train, device=device)

    def take(count: int) -> tuple[list[StepReport], float]:
        torch.cuda.synchronize()
        started_at = time.perf_counter()
        reports = [next(steps) for _ in range(count)]
        torch.cuda.synchronize()
        return reports, time.perf_counter() - started_at

    take(WARM_UP_STEPS)
    reports, elapsed_s = take(STEPS)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        _, profiled_s = take(PROFILED_STEPS)
    busy_s = sum(event.self_device_time_total for event in profile.key_averages()) / 1e6
    peak = peak_flops(device, torch.bfloat16)
    flops = sum(float(report.flops) for report in reports) / elapsed_s
    return {
        "shape": name,
        "parameters": sum(parameter.numel() for parameter in bert.parameters()),
        "rows_a_step": batch_size,
        "tokens_per_second": sum(int(report.tokens) for report in reports) / elapsed_s,
        "goal_tokens_per_second": goal,
        "tflop_per_second": flops / 1e12,
        "measured_peak_tflop_per_second": peak / 1e12,
        "share_of_measured_peak": flops / peak,
        "mfu": next(
            (flops / rate for gpu, rate in PUBLISHED_PEAK.items() if gpu in torch.cuda.get_device_name()), None
        ),
        "gpu_busy_share": busy_s / profiled_s,
        "last_mlm_loss": reports[-1].losses.mlm.item(),
        **({"peer_tokens_per_second": _peer_rate(model, batcher, batch_size)} if peer else {}),
    }


def _peer_rate(model: ModelParams, batcher: Batcher, batch_size: int) -> float:
    loop = HuggingFaceLoop(
        vocab_size=VOCAB, width=model.embedding_dim, layers=model.layers, heads=model.heads, longest=LENGTH,
        device="cuda",
    )  # fmt: skip
    batches = batcher.epoch(1, batch_size=batch_size)
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
