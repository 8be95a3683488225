"""The draws of `bertpipe.core.randomness` as tensors: made on the device that the counters are on, equal to the bit."""

import torch
from torch import Tensor

from bertpipe.core import randomness
from bertpipe.core.randomness import FRACTION_BITS, GAMMA, mix

_WORD = 1 << 64


def random_bits(keys: tuple[int, ...], *counters: Tensor) -> Tensor:
    """Return 64 random bits for every combination of counters: `randomness.random_bits(*keys, *counters)`.

    The keys are folded in on the host, so that nothing is sent to the device for them.

    Args:
        keys: the first counters, such as seed, stream and epoch.
        counters: the others, int64, at least one; they broadcast against each other.
    """
    first, *others = counters
    begun = int(randomness.random_bits(*keys)[0])
    state: Tensor = mix(first + _wrapped(begun * GAMMA + GAMMA))
    for counter in others:
        state = mix(state * GAMMA + counter + GAMMA)
    return state


def uniform(keys: tuple[int, ...], *counters: Tensor) -> Tensor:
    """Return one float in [0, 1) for every combination of counters; float64."""
    bits = (random_bits(keys, *counters) >> (64 - FRACTION_BITS)) & ((1 << FRACTION_BITS) - 1)
    return bits.to(torch.float64) * 2.0**-FRACTION_BITS


def below(limit: int, keys: tuple[int, ...], *counters: Tensor) -> Tensor:
    """Return one integer in [0, limit) for every combination of counters; int64."""
    return (uniform(keys, *counters) * limit).to(torch.int64)


def _wrapped(number: int) -> int:
    """Return what 64 bits keep of an integer, as a signed one."""
    return (number + _WORD // 2) % _WORD - _WORD // 2
