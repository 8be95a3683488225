"""The pretraining objective: BERT with its two losses, each a sum divided by a count; and its compilation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertpipe.core.errors import ParamsError
from bertpipe.core.params import CompileMode, Parallel, TrainParams
from bertpipe.data.batching import IGNORED, Batch
from bertpipe.model.bert import Bert, Wanted

_MOST_SHAPES = 256
"""PyTorch's own limit is 8, fewer than a corpus of long rows has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What some rows add to the mean losses of a step, in nats; all the rows of the step together, the means.

    All four are scalars on the device.
    """

    mlm: Tensor
    """Of the mean over supervised tokens; zero where there are none."""
    mlm_tokens: Tensor
    """How many tokens that mean is over."""
    nsp: Tensor
    """Of the mean over rows."""
    nsp_rows: Tensor
    """How many rows that mean is over."""

    def total(self, *, nsp_weight: float) -> Tensor:
        """Return the loss that is trained on: MLM loss + `nsp_weight` times NSP loss."""
        return self.mlm + nsp_weight * self.nsp

    def detach(self) -> "Losses":
        """Return the losses without their graph."""
        return Losses(mlm=self.mlm.detach(), mlm_tokens=self.mlm_tokens, nsp=self.nsp.detach(), nsp_rows=self.nsp_rows)


class PretrainingObjective(nn.Module):
    """Wraps `Bert`; its forward gives the losses of a batch."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, batch: Batch, counts: Tensor | None = None) -> Losses:
        """Return the losses; last layer and heads run at `[CLS]` and at supervised positions only.

        Args:
            batch: the rows.
            counts: what the means are over where the rows are some of a step's: `Batch.counts` of all of them together.
                None takes the batch's own.
        """
        tokens, rows, _ = (batch.counts if counts is None else counts).unbind()
        wanted = Wanted(positions=batch.head_positions, slots=batch.head_slots)
        hidden = self.bert(batch.token_ids, batch.lengths, batch.second_segment_start, wanted, padded=batch.padded)
        mlm = self.bert.mlm_loss(
            hidden[batch.rows :],
            batch.masked_labels,
            scale=1 / tokens.clamp(min=1).double(),
            some_ignored=batch.filled_up,
        )
        logits = self.bert.nsp_logits(hidden[: batch.rows, None])
        nsp = F.cross_entropy(logits, batch.is_next, reduction="sum", ignore_index=IGNORED)
        return Losses(mlm=mlm, mlm_tokens=tokens, nsp=nsp / rows.clamp(min=1).to(nsp.dtype), nsp_rows=rows)


def compile_objective(
    objective: PretrainingObjective,
    mode: CompileMode,
    parallel: Parallel | None,
    *,
    backend: str | Callable[..., Any] = "inductor",
) -> None:
    """Have the objective's passes compiled, once for each shape of a batch; names of its parameters stay.

    To be called before `wrap_parallel`, as PyTorch's documentation has it ("Where to apply torch.compile"): DDP then
    cuts the compiled backward pass at its buckets, so that gradients travel while others are computed. `fsdp` brings a
    layer's weights together just before the layer is computed, so there each layer is compiled by itself.

    Args:
        objective: is changed; takes batches of fixed shapes, see `bertpipe.data.fixed_batch`.
        mode: `reduce-overhead` replays CUDA graphs; see `check_compile`.
        parallel: how several processes train; None for one process.
        backend: what compiles, as `torch.compile` takes it.
    """
    if mode == "none":
        return
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_SHAPES)
    modules = objective.bert.encoder_layers() if parallel == "fsdp" else [objective]
    for module in modules:
        # A graph break would be an error: each is a place where the host waits or works.
        module.compile(mode=mode, backend=backend, fullgraph=True, dynamic=False)


def check_compile(mode: CompileMode, train: TrainParams, parallel: Parallel | None) -> None:
    """Refuse what replayed CUDA graphs would get wrong: their memory is one pass's, and the next overwrites it.

    Raises:
        ParamsError: `reduce-overhead` is asked for where CUDA graphs do not go.
    """
    if mode != "reduce-overhead":
        return
    if train.micro_batch_size != "all":  # https://github.com/pytorch/pytorch/issues/169545
        raise ParamsError(
            f"runtime.compile is reduce-overhead, which takes a step in one pass, and train.micro_batch_size is "
            f"{train.micro_batch_size}: set it to all, or runtime.compile to default"
        )
    if parallel == "fsdp":
        raise ParamsError(
            "runtime.compile is reduce-overhead, which needs weights that stay in place, and runtime.parallel is fsdp: "
            "set it to ddp, or runtime.compile to default"
        )
