"""What a training in several processes should take: operations, bytes and messages of a step, from its sizes alone.

`python -m benchmarks.cost_model` prints the tables of docs/explanation/scaling.md.
"""

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.sides import bert_shape
from bertpipe.core.params import ModelParams
from bertpipe.data.batching import Batch, Batcher
from bertpipe.data.pair_dataset import PairDataset
from bertpipe.data.tokenization.tokenizer import CLS_ID, SEP_ID
from bertpipe.model.bert import Bert
from bertpipe.model.flops import training_flops

_FLOAT32_BYTES = 4
_STATE_BYTES = 16
"""Of each parameter, in float32: itself, its gradient, and AdamW's two means."""
_BACKWARD_SHARE = 2 / 3
"""Of a step's operations; messages travel while they are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A network, and the rows that it reads."""

    model: ModelParams
    vocab_size: int
    length: int
    """Tokens a row, none of them padding."""
    masked_share: float = 0.15

    @property
    def parameters(self) -> int:
        """Numbers of the network; a tied matrix counts once."""
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in Bert(self.model, self.vocab_size).parameters())

    @property
    def flops_per_token(self) -> float:
        """Floating-point operations of a training step for each token."""
        batch = self._batch()
        return training_flops(self.model, self.vocab_size, batch).item() / batch.tokens

    def _batch(self, rows: int = 64) -> Batch:
        half = self.length // 2
        words = np.full((rows, self.length), 5, dtype=np.int32)
        words[:, 0], words[:, half], words[:, -1] = CLS_ID, SEP_ID, SEP_ID
        asked = round(self.masked_share * (self.length - 3))
        data = PairDataset(
            token_ids=words.reshape(-1),
            offsets=np.arange(rows + 1) * self.length,
            row=np.arange(rows),
            second_segment_start=np.full(rows, half + 1, dtype=np.int32),
            is_next=np.ones(rows, dtype=np.bool_),
            document=np.zeros(rows, dtype=np.int32),
            masked_offsets=np.arange(rows + 1) * asked,
            masked_positions=np.tile(np.arange(1, asked + 1, dtype=np.int32), rows),
            masked_inputs=np.full(rows * asked, 4, dtype=np.int32),
            masked_labels=np.full(rows * asked, 5, dtype=np.int32),
        )
        return Batcher(dataset=data, masking=None, seed=1).assemble(data, np.arange(rows), epoch=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """What trains: processes of one rate, and what joins them."""

    processes: int
    flops_per_second: float
    """Of each process, on this network."""
    bytes_per_second: float
    """Of the narrowest link that the bytes of all processes pass, one after the other in a ring."""
    overlaps: bool = True
    """Whether messages travel while the backward pass computes: between GPUs, not where both need the same cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one optimizer step takes, in each process."""

    compute_s: float
    sent_bytes: float
    messages_s: float
    elapsed_s: float
    tokens_per_second: float
    """Of all processes."""
    state_bytes: float
    """Weights, gradients and optimizer; activations come on top."""


def step_of(shape: Shape, machines: Machines, *, tokens: int, parallel: str) -> Step:
    """Return what a step of `tokens` tokens, over all processes, takes.

    A ring sends each byte that is added up twice, but for one part in as many as there are processes: once to add, once
    to hand the sums round (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of
    workstations"). `fsdp` sends the weights for the forward and again for the backward pass, and the gradients once.
    """
    processes, size = machines.processes, _FLOAT32_BYTES * shape.parameters
    compute_s = tokens / processes * shape.flops_per_token / machines.flops_per_second
    times = {"ddp": 2, "fsdp": 3}[parallel]
    sent_bytes = times * (processes - 1) / processes * size
    messages_s = sent_bytes / machines.bytes_per_second
    hidden_s = _BACKWARD_SHARE * compute_s if machines.overlaps else 0.0
    elapsed_s = compute_s + max(0.0, messages_s - hidden_s)
    return Step(
        compute_s=compute_s,
        sent_bytes=sent_bytes,
        messages_s=messages_s,
        elapsed_s=elapsed_s,
        tokens_per_second=tokens / elapsed_s,
        state_bytes=_STATE_BYTES * shape.parameters / (processes if parallel == "fsdp" else 1),
    )


H100_FLOPS, ASSUMED_MFU = 989e12, 0.4
"""Dense bfloat16, from NVIDIA's data sheet; and the share of it that is taken for granted, measured by nobody here."""
NVLINK, ONE_CARD = 300e9, 100e9 / 8
"""Bytes a second: of NVLink between the GPUs of a machine, two thirds of the 450 GB/s of the data sheet; and of a
network card of 100 Gbit/s. NCCL lets several rings use all cards of a machine: eight of 400 Gbit/s are no narrower
than NVLink; one card is what all of a machine's bytes pass."""
TEXT_TOKENS = 1e12 / 4.45
"""WordPiece tokens of a terabyte of English text: IMDB's reviews have 4.45 bytes for each of a vocabulary of 30,522."""
SETUPS = (
    ("1 GPU", 1, NVLINK),
    ("8 GPUs, NVLink", 8, NVLINK),
    ("64 machines, a card of 400 Gbit/s a GPU", 512, NVLINK),
    ("64 machines, a card of 100 Gbit/s each", 512, ONE_CARD),
)
NETWORKS = (("BERT-base", 768, 12, 12, 128, 128), ("BERT-large", 1024, 24, 16, 512, 64))
"""Name, width, layers, heads, tokens a row, rows per step for each GPU."""


def table(parallel: str) -> str:
    """Return what the model says of each network on each set of machines, in Markdown."""
    lines = [
        "| | GPUs | rows per step | compute | sent by each | messages | step | tokens/s | state | 1 TB of text |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, width, layers, heads, length, rows in NETWORKS:
        model = bert_shape(width=width, layers=layers, heads=heads)
        shape = Shape(model=model, vocab_size=30_522, length=length)
        lines.append(f"| **{name}**, {shape.parameters / 1e6:.0f} M, rows of {length} | | | | | | | | | |")
        for setup, processes, link in SETUPS:
            machines = Machines(processes=processes, flops_per_second=ASSUMED_MFU * H100_FLOPS, bytes_per_second=link)
            step = step_of(shape, machines, tokens=processes * rows * length, parallel=parallel)
            lines.append(
                f"| {setup} | {processes} | {processes * rows:,} | {1e3 * step.compute_s:.0f} ms "
                f"| {step.sent_bytes / 1e6:,.0f} MB | {1e3 * step.messages_s:.1f} ms | {1e3 * step.elapsed_s:.0f} ms "
                f"| {step.tokens_per_second / 1e6:.2f} M | {step.state_bytes / 1e6:,.0f} MB "
                f"| {_hours(TEXT_TOKENS / step.tokens_per_second)} |"
            )
    return "\n".join(lines) + "\n"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    for way in ("ddp", "fsdp"):
        print(f"{way}\n\n{table(way)}")
