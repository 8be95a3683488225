"""Muon (Jordan et al. 2024): momentum, made orthogonal, as the step of each matrix."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bertpipe.training.parallel import gather_full, shard_like

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the polynomial that Muon's authors iterate; it brings all singular values near 1."""
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Steps whose singular values are all about the learning rate, so that no direction of a matrix learns slowly.

    The step is the Nesterov momentum of the gradient, made orthogonal by five iterations of Newton and Schulz, times
    the root of a tall matrix's rows over its columns. Matrices of equal shape are computed together. A group has the
    settings `lr`, `momentum`, `weight_decay` (decoupled), and `parts`: how many matrices lie above each other in each
    of its parameters, such as queries, keys and values; each is made orthogonal by itself.
    """

    def __init__(self, groups: list[dict[str, Any]], *, momentum: float) -> None:
        super().__init__(groups, {"lr": 0.0, "momentum": momentum, "weight_decay": 0.0, "parts": 1})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step; `closure` has to be None."""
        assert closure is None
        by_shape = defaultdict(list)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    momentum = self._momentum(parameter, group["momentum"])
                    for part in gather_full(momentum).chunk(group["parts"]):
                        by_shape[part.shape].append((parameter, part))
        steps = defaultdict(list)
        for members in by_shape.values():
            parts = orthogonal(torch.stack([part for _, part in members]))
            for (parameter, _), part in zip(members, parts, strict=True):
                steps[parameter].append(part)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter in steps:
                    step = torch.cat(steps[parameter])
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(shard_like(step, parameter), alpha=-group["lr"])

    def _momentum(self, parameter: Tensor, rate: float) -> Tensor:
        """Return the Nesterov momentum of a parameter, with its gradient added."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        gradient = parameter.grad
        assert gradient is not None
        momentum.lerp_(gradient, 1 - rate)
        return gradient.lerp(momentum, rate)


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices [number, rows, columns] with their singular values near 1, times the root of rows over columns.

    The factor is 1 for a wide matrix.
    """
    rows, columns = matrices.shape[1:]
    near = matrices.transpose(1, 2) if rows > columns else matrices
    near = near / (torch.linalg.matrix_norm(near, keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = near @ near.transpose(1, 2)
        near = torch.baddbmm(near, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), near, beta=a)
    return near.transpose(1, 2) * (rows / columns) ** 0.5 if rows > columns else near
