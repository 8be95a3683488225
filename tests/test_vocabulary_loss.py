"""The fast loss over the vocabulary equals the plain formula, loss and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bertpipe.model import vocabulary_loss as module
from bertpipe.model.vocabulary_loss import vocabulary_loss

NARROW, WIDE = 5, 29  # one for each of the two ways through the vocabulary
assert NARROW <= module._NARROW < WIDE

Result = tuple[Tensor, ...]


def inputs(masked: int, width: int, vocab: int, *, size: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(masked * vocab + width)
    hidden = size * torch.randn(masked, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocab, width, generator=generator, dtype=torch.float64)
    bias = torch.randn(vocab, generator=generator, dtype=torch.float64)
    return hidden, weight, bias, torch.randint(vocab, (masked,), generator=generator)


def plain(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, scale: float) -> Result:
    leaves = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
    loss = scale * F.cross_entropy(F.linear(*leaves), labels, reduction="sum")
    loss.backward()
    return loss.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)


def ours(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, scale: float, *, outer: float = 1.0) -> Result:
    leaves = [tensor.clone().requires_grad_() for tensor in (hidden, weight, bias)]
    loss = vocabulary_loss(*leaves, labels, torch.tensor(scale, dtype=torch.float64))
    (outer * loss).backward()
    return loss.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)


def assert_equal(found: Result, expected: Result, *, rtol: float = 1e-11) -> None:
    assert len(found) == len(expected) == 4
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=rtol, atol=rtol * float(b.abs().max()))


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("vocab", [7, 1024, 2049])  # below, on and beyond whole chunks; even and odd
@pytest.mark.parametrize("masked", [1, 11, 131])  # with few supervised tokens the vocabulary is taken in parts
def test_loss_and_gradients_equal_the_plain_formula(masked: int, vocab: int, width: int) -> None:
    given = inputs(masked, width, vocab)
    assert_equal(ours(*given, 1 / masked), plain(*given, 1 / masked))


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_in_single_precision_it_is_as_close_as_single_precision_is(width: int) -> None:
    *tensors, labels = inputs(41, width, 3001)
    given = (*(tensor.float() for tensor in tensors), labels)
    assert_equal(ours(*given, 1 / 41), plain(*tensors, labels, 1 / 41), rtol=2e-6)


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("size", [60.0, -60.0])
def test_logits_that_exp_cannot_hold_are_no_problem(width: int, size: float) -> None:
    *tensors, labels = inputs(13, width, 1500, size=size)
    given = (*(tensor.float() for tensor in tensors), labels)
    logits = F.linear(*given[:3])
    assert logits.max() > 150
    assert_equal(ours(*given, 1.0), plain(*tensors, labels, 1.0), rtol=3e-5)


@pytest.mark.parametrize("offset", [-200.0, 200.0])
def test_a_bias_that_moves_all_logits_changes_nothing(offset: float) -> None:
    hidden, weight, bias, labels = (t.float() if t.is_floating_point() else t for t in inputs(13, WIDE, 1500))
    assert_equal(ours(hidden, weight, bias + offset, labels, 1.0), plain(hidden, weight, bias, labels, 1.0), rtol=5e-5)


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_many_supervised_tokens_in_blocks_give_the_same(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(37, width, 600)
    monkeypatch.setattr(module, "_STORED_BYTES", 600 * 8 * 10)  # ten tokens a block, seven in the last
    assert_equal(ours(*given, 0.5), plain(*given, 0.5))


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_no_supervised_token_gives_zero(width: int) -> None:
    hidden, weight, bias, labels = inputs(0, width, 50)
    loss, hidden_grad, weight_grad, bias_grad = ours(hidden, weight, bias, labels, 1.0)
    assert loss == 0
    assert hidden_grad.shape == (0, width)
    assert not weight_grad.any()
    assert not bias_grad.any()


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_a_factor_around_the_loss_reaches_the_gradients(width: int) -> None:
    given = inputs(11, width, 90)
    _, *gradients = ours(*given, 0.25, outer=3.0)
    _, *expected = plain(*given, 0.75)
    for a, b in zip(gradients, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_two_runs_give_the_same_bytes(width: int) -> None:
    *tensors, labels = inputs(131, width, 3001)
    given = (*(tensor.float() for tensor in tensors), labels)
    for a, b in zip(ours(*given, 1 / 131), ours(*given, 1 / 131), strict=True):
        assert torch.equal(a, b)
