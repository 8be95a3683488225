"""Dropout's masks: their rate, their scale, and what decides them."""

import pytest
import torch

from bertpipe.model.dropout import Dropout, keep_mask

ONES = torch.ones(401, 499)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_of_zeros_is_the_rate_and_the_mean_is_kept(rate: float) -> None:
    torch.manual_seed(3)
    dropped = Dropout(rate)(ONES)
    deviation = (rate * (1 - rate) / ONES.numel()) ** 0.5
    assert abs((dropped == 0).double().mean().item() - rate) < 5 * deviation
    assert dropped.unique().tolist() == [0, pytest.approx(1 / (1 - rate), rel=1e-3)]
    assert dropped.double().mean().item() == pytest.approx(1, abs=5 * deviation / (1 - rate))


def test_neighbours_rows_and_calls_are_independent() -> None:
    torch.manual_seed(4)
    first, second = (keep_mask(ONES, 0.5).double() - 1 for _ in range(2))  # +1 or -1
    limit = 5 / ONES.numel() ** 0.5
    assert abs((first[:, 1:] * first[:, :-1]).mean()) < limit
    assert abs((first[1:] * first[:-1]).mean()) < limit
    assert abs((first * second).mean()) < limit


def test_torchs_seed_decides_the_mask() -> None:
    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return keep_mask(ONES, 0.3)

    assert torch.equal(draw(5), draw(5))
    assert not torch.equal(draw(5), draw(6))


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (7, 2, 3)])
def test_any_shape_and_type_is_kept(shape: tuple[int, ...]) -> None:
    values = torch.ones(shape, dtype=torch.float64)
    assert Dropout(0.5)(values).shape == shape
    assert Dropout(0.5)(values).dtype == torch.float64


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero() -> None:
    values, base = torch.randn(5, 7), torch.randn(5, 7)
    for module in (Dropout(0.5).eval(), Dropout(0.0)):
        assert module(values) is values
        assert torch.equal(module.add(values, to=base), base + values)


def test_add_is_the_sum_with_the_dropped_values() -> None:
    values, base = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    module = Dropout(0.4)
    torch.manual_seed(8)
    expected = base + module(values)
    torch.manual_seed(8)
    assert torch.allclose(module.add(values, to=base), expected, rtol=0, atol=1e-15)


def test_the_gradient_passes_where_the_value_did() -> None:
    values = torch.ones(31, 37, requires_grad=True)
    dropped = Dropout(0.3)(values)
    dropped.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, dropped.detach())


def test_a_rate_that_rounds_to_all_still_keeps_some() -> None:
    assert torch.isfinite(keep_mask(ONES, 0.999999)).all()
