"""The training loop: a generator that takes one optimiser step at a time."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from bertpipe.data.batching import Batch, Batcher
from bertpipe.data.randomness import random_bits
from bertpipe.params import TrainParams
from bertpipe.training.objective import Losses, PretrainingObjective
from bertpipe.training.optim import AdamW, learning_rate
from bertpipe.training.throughput import training_flops

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
    losses: Losses
    gradient_norm: Tensor
    """Before clipping; a scalar."""
    tokens: int
    """Real tokens of the batch, padding not counted."""
    flops: float
    """Floating-point operations that the step needs; see `training_flops`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many steps each epoch has: a pure function of the data and `train`."""

    steps: tuple[int, ...]

    @property
    def total(self) -> int:
        """Steps of all epochs."""
        return sum(self.steps)

    def position(self, step: int) -> tuple[int, int]:
        """Return how many epochs are complete after `step` steps, and how many steps of the next one are done."""
        ends = list(accumulate(self.steps))
        epochs = bisect_right(ends, step)
        return epochs, step - (ends[epochs - 1] if epochs else 0)


def plan(batcher: Batcher, train: TrainParams) -> Plan:
    """Return the plan of a run."""
    return Plan(steps=tuple(batcher.steps(epoch, batch_size=train.batch_size) for epoch in range(1, train.epochs + 1)))


def train_steps(
    objective: PretrainingObjective,
    optimizer: AdamW,
    batcher: Batcher,
    train: TrainParams,
    *,
    device: torch.device,
    steps_done: int = 0,
) -> Iterator[StepReport]:
    """Yield a report after each optimiser step, from step `steps_done + 1` on.

    Dropout is seeded anew at each step from (seed, step), so a run that goes on from a checkpoint draws what an
    uninterrupted one draws. Nothing is yielded between the passes of a step: it happens whole or not at all.
    """
    schedule = plan(batcher, train)
    step = steps_done
    epochs_done, first_batch = schedule.position(steps_done)
    for epoch in range(epochs_done + 1, train.epochs + 1):
        objective.train()
        last = step - first_batch + schedule.steps[epoch - 1]
        batches = batcher.epoch(epoch, batch_size=train.batch_size, first_batch=first_batch)
        first_batch = 0
        for batch in batches:
            step += 1
            rate = learning_rate(step, schedule.total, train)
            torch.manual_seed(int(random_bits(train.seed, _DROPOUT, step)[0]))
            losses = _backward(objective, batch, train, device)
            norm = optimizer.step(learning_rate=rate, max_grad_norm=train.max_grad_norm)
            yield StepReport(
                step=step,
                epoch=epoch,
                ends_epoch=step == last,
                learning_rate=rate,
                losses=losses,
                gradient_norm=norm,
                tokens=batch.tokens,
                flops=training_flops(objective.bert.params, objective.bert.vocab_size, batch),
            )


def _backward(objective: PretrainingObjective, batch: Batch, train: TrainParams, device: torch.device) -> Losses:
    """Add the gradients of a batch's loss to the parameters', and return the losses without their graph.

    The passes over the parts of the batch add up to its means: sums over tokens and rows, divided by the counts of all.
    """
    rows = batch.rows if train.micro_batch_size == "all" else train.micro_batch_size
    done: Losses | None = None
    for part in batch.parts(rows):
        with torch.autocast(device.type, torch.bfloat16, enabled=train.precision == "bfloat16"):
            losses: Losses = objective(part.to(device))
        if part is not batch:
            losses = losses.share(len(batch.masked_labels), batch.rows)
        losses.total(nsp_weight=train.nsp_weight).backward()  # type: ignore[no-untyped-call]
        done = losses.detach() if done is None else done + losses.detach()
    assert done is not None
    return done
