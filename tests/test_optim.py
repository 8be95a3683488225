"""The optimizer and its schedule, by hand."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import nn

from bertpipe.params import Params, TrainParams
from bertpipe.training.optim import learning_rate, make_optimizer
from models import tiny_bert


@pytest.fixture
def train(tiny: Params) -> TrainParams:
    return dataclasses.replace(
        tiny.train, learning_rate=0.5, warmup_share=0.2, decay_share=0.4, weight_decay=0.1, adam_epsilon=1e-8
    )


def rates(train: TrainParams, total: int, **changes: Any) -> list[float]:  # noqa: ANN401
    changed = dataclasses.replace(train, **changes)
    return [learning_rate(step, total, changed) for step in range(1, total + 1)]


def test_the_rate_rises_is_held_and_falls(train: TrainParams) -> None:
    expected = [0.25, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.375, 0.25, 0.125]
    assert rates(train, 10) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("warmup", "decay", "expected"),
    [
        (0.0, 0.0, [0.5, 0.5, 0.5, 0.5]),
        (0.0, 1.0, [0.5, 0.375, 0.25, 0.125]),
        (0.5, 0.5, [0.25, 0.5, 0.5, 0.25]),
        (0.1, 0.1, [0.5, 0.5, 0.5, 0.5]),  # less than a step long
    ],
)
def test_warmup_and_decay_may_be_absent_or_meet(
    train: TrainParams, warmup: float, decay: float, expected: list[float]
) -> None:
    assert rates(train, 4, warmup_share=warmup, decay_share=decay) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("total", [1, 7, 1000])
def test_every_step_learns_something_and_none_more_than_asked(train: TrainParams, total: int) -> None:
    assert all(0 < rate <= 0.5 for rate in rates(train, total))


@pytest.mark.parametrize("architecture", ["bert", "notebook"])
def test_matrices_decay_biases_and_norms_do_not(train: TrainParams, architecture: str) -> None:
    bert = tiny_bert(architecture, vocab_size=19)
    decayed, spared = make_optimizer(bert, train).param_groups
    names = {id(parameter): name for name, parameter in bert.named_parameters()}
    assert decayed["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0.0
    for parameter in decayed["params"]:
        assert names[id(parameter)].endswith("weight")
        assert "norm" not in names[id(parameter)]
    for parameter in spared["params"]:
        assert names[id(parameter)].endswith("bias") or "norm" in names[id(parameter)]
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_frozen_parameters_are_left_alone(train: TrainParams) -> None:
    layer = nn.Linear(2, 3)
    layer.bias.requires_grad_(False)
    assert [len(group["params"]) for group in make_optimizer(layer, train).param_groups] == [1, 0]


def test_two_steps_by_hand(train: TrainParams) -> None:
    changed = dataclasses.replace(train, adam_beta1=0.6, adam_beta2=0.9, adam_epsilon=0.01)
    layer = nn.Linear(1, 1).double()
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.bias.fill_(2.0)
    optimizer = make_optimizer(layer, changed)
    rate, mean, square = 0.5, 0.0, 0.0
    weight = bias = 2.0
    for step, gradient in enumerate((3.0, -1.0), start=1):
        layer.weight.grad = torch.full_like(layer.weight, gradient)
        layer.bias.grad = torch.full_like(layer.bias, gradient)
        optimizer.step()
        mean, square = 0.6 * mean + 0.4 * gradient, 0.9 * square + 0.1 * gradient**2
        move = rate * (mean / (1 - 0.6**step)) / (math.sqrt(square / (1 - 0.9**step)) + 0.01)
        weight = weight * (1 - rate * 0.1) - move
        bias -= move
        assert layer.weight.item() == pytest.approx(weight, rel=1e-12)
        assert layer.bias.item() == pytest.approx(bias, rel=1e-12)
