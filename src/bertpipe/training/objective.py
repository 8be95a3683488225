"""The pretraining objective: BERT with its two losses; and its compilation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertpipe.core.errors import ParamsError
from bertpipe.core.params import CompileMode, Parallel, TrainParams
from bertpipe.data.batching import IGNORE_INDEX, Batch
from bertpipe.model.bert import Bert
from bertpipe.model.encoder import QueryPositions

_MAX_SHAPES = 256
"""PyTorch's default is 8, fewer than the batches of long rows have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What some rows contribute to a step's mean losses, in nats; scalars on the device."""

    mlm: Tensor
    """Contribution to the mean over supervised tokens; zero if there are none."""
    mlm_tokens: Tensor
    """How many tokens that mean is over."""
    nsp: Tensor
    """Contribution to the mean over rows."""
    nsp_rows: Tensor
    """How many rows that mean is over."""

    def total(self, *, nsp_weight: float) -> Tensor:
        """Return the loss that is trained on: MLM loss + `nsp_weight` times NSP loss."""
        return self.mlm + nsp_weight * self.nsp


class PretrainingObjective(nn.Module):
    """`Bert` with its losses: the forward pass returns those of a batch."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, batch: Batch, counts: Tensor | None = None) -> Losses:
        """Return the losses; the last layer and the heads run at `[CLS]` and supervised positions only.

        `counts` is `Batch.counts` of all rows of the step, if the batch has only some of them.
        """
        tokens, rows, _ = (batch.counts if counts is None else counts).unbind()
        queries = QueryPositions(positions=batch.query_positions, flat_index=batch.query_flat_index)
        hidden = self.bert(batch.token_ids, batch.lengths, batch.second_segment_start, queries, padded=batch.padded)
        mlm = self.bert.mlm_loss(
            hidden[batch.rows :],
            batch.masked_labels,
            scale=1 / tokens.clamp(min=1).double(),
            some_ignored=batch.some_ignored,
        )
        logits = self.bert.nsp_logits(hidden[: batch.rows, None])
        nsp = F.cross_entropy(logits, batch.is_next, reduction="sum", ignore_index=IGNORE_INDEX)
        return Losses(mlm=mlm, mlm_tokens=tokens, nsp=nsp / rows.clamp(min=1).to(nsp.dtype), nsp_rows=rows)


def compile_objective(
    objective: PretrainingObjective,
    mode: CompileMode,
    parallel: Parallel | None,
    *,
    backend: str | Callable[..., Any] = "inductor",
) -> None:
    """Have the objective's passes compiled, once per shape of a batch; its parameters keep their names.

    Call it before `wrap_parallel` (PyTorch's documentation, "Where to apply torch.compile"): DDP then cuts the compiled
    backward pass at its buckets, so that gradients are sent while others are computed. `fsdp` gathers a layer's weights
    just before the layer runs, so each layer is compiled on its own.
    """
    if mode == "none":
        return
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MAX_SHAPES)
    modules = objective.bert.encoder_layers() if parallel == "fsdp" else [objective]
    for module in modules:
        # fullgraph: at each graph break the host would wait or work.
        module.compile(mode=mode, backend=backend, fullgraph=True, dynamic=False)


def check_compile(mode: CompileMode, train: TrainParams, parallel: Parallel | None) -> None:
    """Refuse `reduce-overhead` where CUDA graphs do not work: a replayed graph reuses the memory of the last pass.

    Raises:
        ParamsError: `reduce-overhead` with micro-batches or `fsdp`.
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
