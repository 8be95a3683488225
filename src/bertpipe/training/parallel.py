"""The objective over several processes, by PyTorch's DistributedDataParallel (DDP) or `fully_shard` (FSDP2)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket

from bertpipe.core.params import Parallel
from bertpipe.model.bert import Bert
from bertpipe.training.distributed.world import World
from bertpipe.training.objective import PretrainingObjective


def wrap_parallel(objective: PretrainingObjective, world: World, parallel: Parallel) -> nn.Module:
    """Return what trains as `objective` does, with the gradients of all processes added up.

    `ddp` keeps all weights in each process, and gives each the main process's. `fsdp` leaves each process its part of
    every matrix; a layer's are brought together when it is computed. All have to hold equal weights before.
    """
    if world.dp.size == 1:
        return objective
    return _in_copies(objective) if parallel == "ddp" else _in_parts(objective)


def _in_copies(objective: PretrainingObjective) -> nn.Module:
    from torch.nn.parallel import DistributedDataParallel  # noqa: PLC0415

    copies = DistributedDataParallel(objective, gradient_as_bucket_view=True)
    copies.register_comm_hook(None, _add_up)
    return copies


def _add_up(_: object, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Add up a bucket of gradients: losses are shares of the step's means already, see `PretrainingObjective`."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    summed: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return summed


def _in_parts(objective: PretrainingObjective) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

    mesh = init_device_mesh(objective.bert.mlm_decoder.bias.device.type, (dist.get_world_size(),))
    for module in (*objective.bert.encoder_layers(), objective):
        part = fully_shard(module, mesh=mesh)
        part.set_gradient_divide_factor(1.0)  # a sum, see _add_up
        part.set_force_sum_reduction_for_comms(enable=True)  # Gloo multiplies nothing
    return objective


def passes_are_shared(objective: nn.Module) -> bool:
    """Return whether a pass of one process waits for a pass of each other: under `fsdp`, for their weights."""
    return hasattr(objective, "set_requires_gradient_sync")


def needs_warmup_pass(objective: nn.Module) -> bool:
    """Return whether the first pass is unlike the later ones, so that one has to be thrown away.

    DDP groups the gradients anew after its first pass, by the order in which they came. A sum over more than two
    processes is rounded by that grouping, so a run that goes on has to have it as the uninterrupted run does.
    """
    return hasattr(objective, "no_sync")


def unwrapped(objective: nn.Module) -> PretrainingObjective:
    """Return the objective inside what `wrap_parallel` returned."""
    return cast("PretrainingObjective", getattr(objective, "module", objective))


@contextmanager
def gradients_kept(objective: nn.Module, *, until_last: bool) -> Iterator[None]:
    """Keep a pass's gradients in this process where `until_last` says that more passes of the step follow."""
    if hasattr(objective, "no_sync") and until_last:
        with objective.no_sync():  # type: ignore[operator]
            yield
        return
    if passes_are_shared(objective):
        objective.set_requires_gradient_sync(not until_last)  # type: ignore[operator]
    yield


def gather_full(tensor: Tensor) -> Tensor:
    """Return a tensor with all its parts; every process has to ask for it."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def whole_network(objective: nn.Module) -> Bert:
    """Return the network with all its weights: itself, or a copy on the CPU where each process has a part alone.

    Every process has to ask for it.
    """
    bert = unwrapped(objective).bert
    if not any(hasattr(parameter, "full_tensor") for parameter in bert.parameters()):
        return bert
    copy = Bert(bert.params, bert.vocab_size, drawn=False).to(bert.mlm_decoder.weight.dtype)
    copy.load_state_dict({name: gather_full(tensor).cpu() for name, tensor in bert.state_dict().items()})
    return copy
