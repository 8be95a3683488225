"""The training loop: a generator that takes one optimizer step at a time."""

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice

import torch
from torch import Tensor, nn

from bertpipe.core.params import TrainParams
from bertpipe.core.randomness import random_bits
from bertpipe.data.batching import Batch, Batcher
from bertpipe.data.device.batcher import DeviceBatcher
from bertpipe.model.flops import training_flops
from bertpipe.training.distributed.world import ALONE, World
from bertpipe.training.objective import Losses
from bertpipe.training.optim import Optimizer, learning_rate
from bertpipe.training.parallel import gradient_sync, is_sharded, needs_warmup_pass, unwrapped

_DROPOUT = 40  # stream of randomness


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One optimizer step of all processes. Its tensors stay on the device: reading them would wait for a GPU."""

    step: int
    """Counted from 1 over all epochs."""
    epoch: int
    """Counted from 1."""
    ends_epoch: bool
    learning_rate: float
    losses: Losses
    gradient_norm: Tensor
    """Before clipping; a scalar."""
    tokens: Tensor
    """Real tokens of the step, without padding; a scalar."""
    flops: Tensor
    """Floating-point operations that the step needs, see `training_flops`; a scalar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSchedule:
    """How many optimizer steps each epoch has."""

    steps: tuple[int, ...]

    @classmethod
    def of(cls, batcher: Batcher | DeviceBatcher, train: TrainParams) -> "StepSchedule":
        """Return the schedule of a run: a pure function of the data and `train`."""
        left = math.inf if train.steps == "all" else train.steps
        steps = []
        for epoch in range(1, train.epochs + 1):
            steps.append(int(min(left, batcher.steps(epoch, batch_size=train.batch_size))))
            left -= steps[-1]
            if not left:
                break
        return cls(steps=tuple(steps))

    @property
    def total(self) -> int:
        """Steps of all epochs."""
        return sum(self.steps)

    def position(self, step: int) -> tuple[int, int]:
        """Return how many epochs are complete after `step` steps, and how many steps of the next one are done."""
        ends = list(accumulate(self.steps))
        epochs = bisect_right(ends, step)
        return epochs, step - (ends[epochs - 1] if epochs else 0)


def train_steps(
    objective: nn.Module,
    optimizer: Optimizer,
    batcher: Batcher | DeviceBatcher,
    train: TrainParams,
    *,
    device: torch.device,
    steps_done: int = 0,
    world: World = ALONE,
) -> Iterator[StepReport]:
    """Yield a report after each optimizer step, from step `steps_done + 1` on.

    Dropout is seeded at each step from (seed, step, rank), so a resumed run draws the same masks as an uninterrupted
    one. Nothing is yielded between the passes of a step, so a step is never interrupted halfway.
    """
    bert = unwrapped(objective).bert
    schedule = StepSchedule.of(batcher, train)
    step = steps_done
    epochs_done, first_batch = schedule.position(steps_done)
    for epoch in range(epochs_done + 1, len(schedule.steps) + 1):
        objective.train()
        last = step - first_batch + schedule.steps[epoch - 1]
        batches = batcher.epoch(epoch, batch_size=train.batch_size, first_batch=first_batch, dp=world.dp)
        first_batch = 0
        for batch in islice(batches, last - step):
            if step == steps_done and needs_warmup_pass(objective):
                _backward(objective, batch.without_targets(), batch.counts.double().to(device), train, device, world)
                for parameter in objective.parameters():
                    parameter.grad = None
            step += 1
            rate = learning_rate(step, schedule.total, train)
            torch.manual_seed(_dropout_seed(train.seed, step, world.dp.rank))
            flops = training_flops(bert.params, bert.vocab_size, batch)
            counts = world.all_reduce_sum(torch.cat([batch.counts.double(), flops[None]]))
            mlm, nsp = _backward(objective, batch, counts[:3].to(device), train, device, world)
            norm = optimizer.step(learning_rate=rate, max_grad_norm=train.max_grad_norm)
            mlm, nsp = world.all_reduce_sum(torch.stack([mlm, nsp]).double()).unbind()
            mlm_tokens, nsp_rows, tokens, flops = counts.unbind()
            yield StepReport(
                step=step,
                epoch=epoch,
                ends_epoch=step == last,
                learning_rate=rate,
                losses=Losses(mlm=mlm, mlm_tokens=mlm_tokens, nsp=nsp, nsp_rows=nsp_rows),
                gradient_norm=norm,
                tokens=tokens,
                flops=flops,
            )


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    others = (rank,) if rank else ()
    return int(random_bits(seed, _DROPOUT, step, *others)[0])


def _backward(
    objective: nn.Module,
    batch: Batch,
    counts: Tensor,
    train: TrainParams,
    device: torch.device,
    world: World = ALONE,
) -> tuple[Tensor, Tensor]:
    """Add the gradients of a batch's losses to the parameters', and return the losses without their graph.

    `counts` is `Batch.counts` of all rows of the step, which its mean losses are over.
    """
    rows = batch.rows if train.micro_batch_size == "all" else train.micro_batch_size
    parts = list(batch.parts(rows))
    if train.micro_batch_size != "all" and is_sharded(objective):
        most = int(world.all_reduce_max(torch.tensor(len(parts))).item())
        parts += [parts[-1].without_targets()] * (most - len(parts))
    mlm, nsp = torch.zeros(2, device=device).unbind()
    for number, part in enumerate(parts, start=1):
        with gradient_sync(objective, enabled=number == len(parts)):
            with torch.autocast(device.type, torch.bfloat16, enabled=train.precision == "bfloat16"):
                losses: Losses = objective(part.to(device), counts)
            losses.total(nsp_weight=train.nsp_weight).backward()  # type: ignore[no-untyped-call]
        mlm, nsp = mlm + losses.mlm.detach(), nsp + losses.nsp.detach()
    return mlm, nsp
