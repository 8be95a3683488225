"""The objective in several processes, with PyTorch's DistributedDataParallel (DDP) or `fully_shard` (FSDP2)."""

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
    """Return the objective with its gradients summed over all processes.

    `ddp` keeps all weights in each process, those of the main process. `fsdp` keeps a shard of every matrix in each
    process, and gathers a layer's when it runs; all processes need equal weights before.
    """
    if world.dp.size == 1:
        return objective
    return replicate(objective) if parallel == "ddp" else _shard(objective)


def replicate(objective: nn.Module) -> nn.Module:
    """Return a module whose gradients are summed over all processes."""
    from torch.nn.parallel import DistributedDataParallel  # noqa: PLC0415

    replica = DistributedDataParallel(objective, gradient_as_bucket_view=True)
    replica.register_comm_hook(None, _sum_gradients)
    # The group's end waits for threads that may be waiting for the GIL. Python's reference is dropped without the GIL,
    # DDP's own is not (https://github.com/pytorch/pytorch/issues/56297): so this one, set last, is also dropped last.
    vars(replica)["group"] = dist.group.WORLD
    return replica


def _sum_gradients(_: object, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Sum a bucket of gradients: the losses are divided by the step's counts already, see `PretrainingObjective`."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    summed: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return summed


def _shard(objective: PretrainingObjective) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

    mesh = init_device_mesh(objective.bert.mlm_decoder.bias.device.type, (dist.get_world_size(),))
    for module in (*objective.bert.encoder_layers(), objective):
        shard = fully_shard(module, mesh=mesh)
        shard.set_gradient_divide_factor(1.0)  # a sum, see _sum_gradients
        shard.set_force_sum_reduction_for_comms(enable=True)  # Gloo cannot scale
    return objective


def is_sharded(objective: nn.Module) -> bool:
    """Return whether weights are sharded (`fsdp`), so that a pass of one process waits for a pass of each other."""
    return hasattr(objective, "set_requires_gradient_sync")


def needs_warmup_pass(objective: nn.Module) -> bool:
    """Return whether the first pass differs from the later ones, so that its gradients have to be discarded.

    DDP regroups the gradients into buckets after its first pass, and sums over more than two processes are rounded by
    these buckets. So a resumed run needs them from its first step on, as an uninterrupted run has them.
    """
    return hasattr(objective, "no_sync")


def unwrapped(objective: nn.Module) -> PretrainingObjective:
    """Return the objective inside what `wrap_parallel` returned."""
    return cast("PretrainingObjective", getattr(objective, "module", objective))


@contextmanager
def gradient_sync(objective: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Sum the gradients over the processes at the end of a pass; without `enabled`, only accumulate them."""
    if hasattr(objective, "no_sync") and not enabled:
        with objective.no_sync():  # type: ignore[operator]
            yield
        return
    if is_sharded(objective):
        objective.set_requires_gradient_sync(enabled)  # type: ignore[operator]
    yield


def gather_full(tensor: Tensor) -> Tensor:
    """Return a tensor with all its shards; all processes have to call it."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def shard_like(full: Tensor, like: Tensor) -> Tensor:
    """Return this process's shard of a full tensor, as `like` is sharded; the tensor itself if it is not."""
    if not hasattr(like, "full_tensor"):
        return full
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415

    return distribute_tensor(full, like.device_mesh, like.placements)  # type: ignore[attr-defined]


def gather_network(objective: nn.Module) -> Bert:
    """Return the network with all its weights: itself, or a copy on the CPU if it is sharded.

    All processes have to call it.
    """
    bert = unwrapped(objective).bert
    if not any(hasattr(parameter, "full_tensor") for parameter in bert.parameters()):
        return bert
    copy = Bert(bert.params, bert.vocab_size, init_weights=False).to(bert.mlm_decoder.weight.dtype)
    copy.load_state_dict({name: gather_full(tensor).cpu() for name, tensor in bert.state_dict().items()})
    return copy
