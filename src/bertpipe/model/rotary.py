"""Rotary position embeddings (Su et al. 2021, RoFormer): queries and keys are rotated by their positions.

Attention between two tokens then depends on what they are and how far apart they stand.

Shapes in this file: batch (rows), heads, seq (tokens), half (half of a head's size).
"""

from typing import Any

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Rotates the halves of each head's vectors: element i of the first half with element i of the second.

    ModernBERT's convention: frequency i is `theta ** (-i / half)` radians per token.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, positions: int, head_size: int, theta: float) -> None:
        super().__init__()
        half = head_size // 2
        frequency = theta ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(positions, dtype=torch.float64)[:, None] * frequency
        dtype = torch.get_default_dtype()
        self.register_buffer("cos", angle.cos().to(dtype), persistent=False)
        self.register_buffer("sin", angle.sin().to(dtype), persistent=False)

    def forward(self, vectors: Tensor, positions: Tensor | None = None) -> Tensor:
        """Return vectors [batch, heads, seq, head_size] rotated by their positions.

        `positions` [batch, seq] are 0, 1, 2, ... if they are None.
        """
        if positions is None:
            cos, sin = self.cos[: vectors.shape[2]], self.sin[: vectors.shape[2]]
        else:
            cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        if torch.compiler.is_compiling():
            return _rotate(vectors, cos.to(vectors.dtype), sin.to(vectors.dtype))
        rotated: Tensor = _Rotation.apply(vectors, cos, sin)  # type: ignore[no-untyped-call]
        return rotated


class _Rotation(torch.autograd.Function):
    """A rotation, whose gradient is rotated back: two passes over the numbers each way."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(cos, sin)
        return _rotate_into(vectors, cos, sin, sign=1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        cos, sin = ctx.saved_tensors
        return _rotate_into(grad, cos, sin, sign=-1.0), None, None


def _rotate_into(vectors: Tensor, cos: Tensor, sin: Tensor, *, sign: float) -> Tensor:
    half = vectors.shape[-1] // 2
    cos, sin = cos.to(vectors.dtype), sin.to(vectors.dtype)
    first, second = vectors[..., :half], vectors[..., half:]
    rotated = torch.empty_like(vectors)
    torch.mul(first, cos, out=rotated[..., :half]).addcmul_(second, sin, value=-sign)
    torch.mul(second, cos, out=rotated[..., half:]).addcmul_(first, sin, value=sign)
    return rotated


def _rotate(vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return the same as `_rotate_into` by operations that can be compiled into one."""
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
