"""The objective through `torch.compile`."""

from collections.abc import Callable
from typing import Any

import torch

from bertpipe.core.errors import ParamsError
from bertpipe.core.params import CompileMode, TrainParams
from bertpipe.training.objective import PretrainingObjective
from bertpipe.training.parallel import Parallel

_MOST_SHAPES = 256
"""PyTorch's own limit is 8, fewer than a corpus of long rows has."""


def compile_objective(
    objective: PretrainingObjective,
    mode: CompileMode,
    parallel: Parallel | None,
    *,
    backend: str | Callable[..., Any] = "inductor",
) -> None:
    """Have the objective's passes compiled, once for each shape of a batch; names of its parameters stay.

    To be called before `spread`, as PyTorch's documentation has it ("Where to apply torch.compile"): DDP then still
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
