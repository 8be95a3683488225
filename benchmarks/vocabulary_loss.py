"""The loss over the vocabulary, forward and backward, against the plain formula."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Work, alternate, ratio
from bertpipe.model.vocabulary_loss import vocabulary_loss

ROUNDS = 9
SHAPES = ((34, 10, 147_161), (365, 10, 147_161), (290, 64, 30_522), (365, 64, 100_687), (290, 256, 30_522))


def against_plain_formula() -> list[dict[str, Any]]:
    """Return the times of both, for the shapes (supervised tokens, width, vocabulary) of the other benchmarks."""
    result = []
    for masked, width, vocab in SHAPES:
        torch.manual_seed(1)
        tensors = (torch.randn(masked, width), torch.randn(vocab, width) / 8, torch.randn(vocab) / 8)
        labels = torch.randint(vocab, (masked,))
        sides = {"plain": _turn(_plain, tensors, labels), "ours": _turn(_ours, tensors, labels)}
        turns = alternate(sides, rounds=ROUNDS)
        result.append(
            {
                "work": f"{masked} tokens, dim {width}, {vocab:,} words",
                "plain_ms": 1000 / turns["plain"].rate("tokens") * masked,
                "ours_ms": 1000 / turns["ours"].rate("tokens") * masked,
                "ratio": ratio(turns["ours"], turns["plain"], "tokens"),
            }
        )
    return result


def _turn(
    loss: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], tensors: tuple[Tensor, ...], labels: Tensor
) -> Callable[[], Work]:
    def turn() -> Work:
        hidden, weight, bias = (tensor.detach().requires_grad_() for tensor in tensors)
        loss(hidden, weight, bias, labels).backward()  # type: ignore[no-untyped-call]
        return Work(tokens=len(labels))

    return turn


def _plain(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(hidden, weight, bias), labels)


def _ours(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    return vocabulary_loss(hidden, weight, bias, labels, torch.tensor(1 / len(labels), dtype=torch.float64))
