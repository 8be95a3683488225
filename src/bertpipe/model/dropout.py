"""Dropout that is fast on a CPU."""

import numpy as np
import torch
from torch import Tensor, nn

_BITS = 16


class Dropout(nn.Module):
    """Zero each element with probability `rate` in training, and scale the others up (Srivastava et al. 2014).

    On a CPU the mask comes from 16 random bits per element, from NumPy's SFC64 with a seed from PyTorch's generator, so
    `torch.manual_seed` works as usual; PyTorch's own dropout takes several times as long (docs/explanation/log.md). The
    rate is rounded to a multiple of 2**-16.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` with dropout."""
        if not self.training or self.rate == 0.0:
            return values
        if values.device.type != "cpu":
            dropped: Tensor = nn.functional.dropout(values, self.rate)
            return dropped
        return values * keep_mask(values, self.rate)

    def add(self, values: Tensor, to: Tensor) -> Tensor:
        """Return `to` + `values` with dropout, in one pass."""
        if not self.training or self.rate == 0.0 or values.device.type != "cpu":
            dropped: Tensor = self(values)
            return to + dropped
        return torch.addcmul(to, values, keep_mask(values, self.rate))


def keep_mask(like: Tensor, rate: float) -> Tensor:
    """Return a CPU tensor in the shape and type of `like`: zero at dropped elements, 1 / (1 - rate) at the others."""
    levels = 2**_BITS
    dropped = min(round(rate * levels), levels - 1)
    seed = int(torch.randint(2**63 - 1, ()).item())
    words = -(-like.numel() * _BITS // 64)
    generator = np.random.Generator(np.random.SFC64(seed))
    bits = generator.integers(-(2**63), 2**63 - 1, words, dtype=np.int64, endpoint=True)
    kept = bits.view(np.int16)[: like.numel()] >= dropped - levels // 2
    mask = torch.from_numpy(kept.view(np.uint8)).to(like.dtype)
    return mask.mul_(levels / (levels - dropped)).view(like.shape)
