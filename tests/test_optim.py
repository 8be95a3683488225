"""The optimizer and its schedule, by hand."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from bertpipe.core.params import Params, TrainParams
from bertpipe.training.muon import orthogonal
from bertpipe.training.optim import Optimizer, learning_rate, make_optimizer
from models import tiny_bert


@pytest.fixture
def train(tiny: Params) -> TrainParams:
    return replace(
        tiny.train, learning_rate=0.5, warmup_share=0.2, decay_share=0.4, weight_decay=0.1, adam_epsilon=1e-8
    )


def rates(train: TrainParams, total: int, **changes: Any) -> list[float]:  # noqa: ANN401
    changed = replace(train, **changes)
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


def test_a_cosine_falls_along_half_a_cosine(train: TrainParams) -> None:
    expected = [0.5, *(0.25 * (1 - math.cos(math.pi * left / 4)) for left in (4, 3, 2, 1))]
    assert rates(train, 5, warmup_share=0.0, decay_share=0.8, decay="cosine") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("total", [1, 7, 1000])
def test_every_step_learns_something_and_none_more_than_asked(train: TrainParams, total: int) -> None:
    assert all(0 < rate <= 0.5 for rate in rates(train, total))


@pytest.mark.parametrize("architecture", ["bert", "notebook"])
def test_matrices_decay_biases_and_norms_do_not(train: TrainParams, architecture: str) -> None:
    bert = tiny_bert(architecture, vocab_size=19)
    names = {id(parameter): name for name, parameter in bert.named_parameters()}
    (adamw,) = make_optimizer(bert, train).inner
    groups = adamw.param_groups
    rates = [(names[id(parameter)], group["weight_decay"]) for group in groups for parameter in group["params"]]
    decay = dict(rates)
    assert len(decay) == len(rates) == len(names)
    for name, rate in decay.items():
        assert rate == (0.0 if name.endswith("bias") or "norm" in name else 0.1), name
    assert set(decay.values()) == {0.0, 0.1}


def test_frozen_parameters_are_left_alone(train: TrainParams) -> None:
    layer = nn.Linear(2, 3)
    layer.bias.requires_grad_(False)
    (adamw,) = make_optimizer(layer, train).inner
    groups = adamw.param_groups
    assert [parameter is layer.weight for group in groups for parameter in group["params"]] == [True]


def test_two_steps_by_hand(train: TrainParams) -> None:
    changed = replace(train, adam_beta1=0.6, adam_beta2=0.9, adam_epsilon=0.01)
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
        norm = optimizer.step(learning_rate=0.5, max_grad_norm=1e9)
        assert norm.item() == pytest.approx(abs(gradient) * math.sqrt(2), rel=1e-12)
        mean, square = 0.6 * mean + 0.4 * gradient, 0.9 * square + 0.1 * gradient**2
        move = rate * (mean / (1 - 0.6**step)) / (math.sqrt(square / (1 - 0.9**step)) + 0.01)
        weight = weight * (1 - rate * 0.1) - move
        bias -= move
        assert layer.weight.item() == pytest.approx(weight, rel=1e-12)
        assert layer.bias.item() == pytest.approx(bias, rel=1e-12)


def copies(train: TrainParams) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(3)
    first = nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.Linear(5, 3))
    second = nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.Linear(5, 3))
    second.load_state_dict(first.state_dict())
    return first, second


@pytest.mark.parametrize("max_grad_norm", [0.05, 1e9])
def test_it_is_torchs_adamw_after_torchs_clipping(train: TrainParams, max_grad_norm: float) -> None:
    ours, theirs = copies(train)
    optimizer = make_optimizer(ours, train)
    groups = [
        {"params": [p for p in theirs.parameters() if p.dim() > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in theirs.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    betas = (train.adam_beta1, train.adam_beta2)
    reference = torch.optim.AdamW(groups, betas=betas, eps=train.adam_epsilon)  # not the fused one
    for step in range(1, 8):
        inputs = torch.randn(11, 7)
        for network in (ours, theirs):
            network(inputs).square().mean().backward()
        norm = optimizer.step(learning_rate=0.01 * step, max_grad_norm=max_grad_norm)
        expected = nn.utils.clip_grad_norm_(theirs.parameters(), max_grad_norm)
        for group in reference.param_groups:
            group["lr"] = 0.01 * step
        reference.step()
        reference.zero_grad()
        assert norm.item() == pytest.approx(expected.item(), rel=1e-6)
        assert (norm > 0.05).item()  # so that the smaller limit does scale
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_step_forgets_the_gradients_and_passes_over_parameters_without(train: TrainParams) -> None:
    layer = nn.Linear(2, 3)
    before = layer.bias.detach().clone()
    layer.weight.grad = torch.ones_like(layer.weight)
    make_optimizer(layer, train).step(learning_rate=0.1, max_grad_norm=1.0)
    assert layer.weight.grad is None
    assert torch.equal(layer.bias, before)


@pytest.mark.parametrize(
    "name", ["AdamW", "Muon", "SGD", "Adafactor"]
)  # Adafactor's state has other shapes than the parameter
def test_what_it_remembers_goes_to_a_checkpoint_and_back(train: TrainParams, name: str) -> None:
    first, second = copies(train)

    def optimizer_of(network: nn.Module) -> Optimizer:
        if name in {"AdamW", "Muon"}:
            return make_optimizer(nn.ModuleDict({"layers": network}), replace(train, optimizer=name.lower()))
        options = {"momentum": 0.9} if name == "SGD" else {}
        return Optimizer(getattr(torch.optim, name)(network.parameters(), lr=0.1, **options))

    def step(network: nn.Module, optimizer: Optimizer) -> None:
        network(torch.ones(2, 7)).square().sum().backward()
        optimizer.step(learning_rate=0.1, max_grad_norm=1.0)

    before, after = optimizer_of(first), optimizer_of(second)
    assert before.tensors() == {}  # PyTorch makes the state in the first step
    step(first, before)
    second.load_state_dict(first.state_dict())
    assert before.tensors(keep=False) == {}
    kept = {name: tensor.clone() for name, tensor in before.tensors().items()}
    after.restore(kept)
    step(first, before)
    step(second, after)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert before.tensors().keys() == kept.keys() == after.tensors().keys()
    assert all(torch.equal(tensor, after.tensors()[name]) for name, tensor in before.tensors().items())
    assert any(not torch.equal(tensor, kept[name]) for name, tensor in after.tensors().items())  # no shared memory


# Muon


@pytest.mark.parametrize("shape", [(8, 8), (5, 12), (12, 5), (1, 4)])
def test_an_orthogonal_step_has_all_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    matrices = torch.randn(3, *shape, dtype=torch.float64)
    made = orthogonal(matrices)
    scale = max(1, shape[0] / shape[1]) ** 0.5
    for given, step in zip(matrices, made, strict=True):
        left, _, right = torch.linalg.svd(given, full_matrices=False)
        assert (torch.linalg.svdvals(step) / scale).min() > 0.6
        assert (torch.linalg.svdvals(step) / scale).max() < 1.3
        # The same singular vectors: it is near the orthogonal matrix nearest to the given one.
        assert torch.nn.functional.cosine_similarity(step.flatten(), (left @ right).flatten(), dim=0) > 0.97


def test_muon_is_for_the_encoders_matrices_and_adamw_for_the_rest(train: TrainParams) -> None:
    bert = tiny_bert("modern", vocab_size=19)
    names = {id(parameter): name for name, parameter in bert.named_parameters()}
    muon, adamw = make_optimizer(bert, replace(train, optimizer="muon")).inner
    of_muon, of_adamw = (
        {names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]}
        for optimizer in (muon, adamw)
    )
    matrices = {"query_key_value", "attention_output", "feed_forward_in", "feed_forward_out"}
    assert of_muon == {f"layers.{layer}.{name}.weight" for layer in (0, 1) for name in matrices}
    assert of_muon | of_adamw == set(names.values())
    assert not of_muon & of_adamw


def test_two_steps_of_muon_by_hand(train: TrainParams) -> None:
    changed = replace(train, optimizer="muon", learning_rate=0.1, muon_learning_rate=0.05, muon_momentum=0.8)
    bert = tiny_bert("bert", vocab_size=19).double()
    layer = bert.layers[0]
    parts = {"query_key_value": 3, "feed_forward_out": 1}
    expected = {name: layer.get_submodule(name).weight.detach().clone() for name in parts}  # type: ignore[operator]
    momenta = {name: torch.zeros_like(weight) for name, weight in expected.items()}
    optimizer = make_optimizer(bert, changed)
    for step in (1, 2):
        torch.manual_seed(step)
        for parameter in bert.parameters():
            parameter.grad = torch.randn_like(parameter)
        for name, number in parts.items():
            gradient = layer.get_submodule(name).weight.grad  # type: ignore[operator]
            momenta[name] = 0.8 * momenta[name] + 0.2 * gradient
            nesterov = 0.2 * gradient + 0.8 * momenta[name]
            made = torch.cat([orthogonal(part[None])[0] for part in nesterov.chunk(number)])
            # The schedule is at half its rate in the second step.
            expected[name] = expected[name] * (1 - 0.05 / step * 0.1) - 0.05 / step * made
        optimizer.step(learning_rate=0.1 / step, max_grad_norm=1e9)
    for name, weight in expected.items():
        assert torch.allclose(layer.get_submodule(name).weight, weight, rtol=1e-9, atol=1e-12)  # type: ignore[operator]
