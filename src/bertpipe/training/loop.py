"""The training loop: a generator that takes one optimiser step at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bertpipe.data.batching import Batcher, epoch_order
from bertpipe.data.randomness import random_bits
from bertpipe.params import TrainParams
from bertpipe.training.objective import LossSums, PretrainingObjective
from bertpipe.training.optim import learning_rate

_DROPOUT = 40  # stream of randomness


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One optimiser step. Losses stay on the device: reading them is what would make the device wait."""

    step: int
    """Counted from 1 over all epochs."""
    epoch: int
    """Counted from 1."""
    ends_epoch: bool
    learning_rate: float
    sums: LossSums
    gradient_norm: Tensor
    """Before clipping; a scalar."""
    tokens: int
    """Real tokens of the batch, padding not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many steps each epoch has: a pure function of the data and `train`."""

    steps: tuple[int, ...]

    @property
    def total(self) -> int:
        """Steps of all epochs."""
        return sum(self.steps)


def plan(batcher: Batcher, train: TrainParams) -> Plan:
    """Return the plan of a run."""
    lengths = batcher.dataset.lengths
    orders = (
        epoch_order(lengths, batch_size=train.batch_size, seed=batcher.seed, epoch=epoch)
        for epoch in range(1, train.epochs + 1)
    )
    return Plan(steps=tuple(len(order) for order in orders))


def train_steps(
    objective: PretrainingObjective,
    optimizer: torch.optim.Optimizer,
    batcher: Batcher,
    train: TrainParams,
    *,
    device: torch.device,
    epochs_done: int = 0,
) -> Iterator[StepReport]:
    """Yield a report after each optimiser step, from the first step of epoch `epochs_done + 1` on.

    Dropout is seeded anew at each step from (seed, step), so a run that goes on from a checkpoint draws what an
    uninterrupted one draws.
    """
    schedule = plan(batcher, train)
    step = sum(schedule.steps[:epochs_done])
    for epoch in range(epochs_done + 1, train.epochs + 1):
        objective.train()
        last = step + schedule.steps[epoch - 1]
        for batch in batcher.epoch(epoch, batch_size=train.batch_size):
            step += 1
            rate = learning_rate(step, schedule.total, train)
            for group in optimizer.param_groups:
                group["lr"] = rate
            torch.manual_seed(int(random_bits(train.seed, _DROPOUT, step)[0]))
            sums: LossSums = objective(batch.to(device))
            sums.loss(nsp_weight=train.nsp_weight).backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(objective.parameters(), train.max_grad_norm, foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield StepReport(
                step=step,
                epoch=epoch,
                ends_epoch=step == last,
                learning_rate=rate,
                sums=LossSums(
                    mlm=sums.mlm.detach(),
                    mlm_tokens=sums.mlm_tokens,
                    nsp=sums.nsp.detach(),
                    nsp_rows=sums.nsp_rows,
                ),
                gradient_norm=norm.detach(),
                tokens=batch.tokens,
            )
