"""Counter-based random numbers: every draw is a pure function of integers such as (seed, epoch, row, position).

A draw needs no state, so order and masks do not change with workers, ranks or a resume. The functions use 64-bit
integer arithmetic that wraps, which NumPy arrays and torch tensors do alike: `data.device.masking` draws the same.
"""

from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Bits = TypeVar("Bits", NDArray[np.int64], "Tensor")

FRACTION_BITS: Final = 53


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >= 1 << 63 else constant


# The finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
GAMMA: Final = _signed(0x9E3779B97F4A7C15)
_FIRST: Final = _signed(0xBF58476D1CE4E5B9)
_SECOND: Final = _signed(0x94D049BB133111EB)


def random_bits(*counters: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Return 64 random bits for every combination of counters, which broadcast against each other.

    The counters are folded in one after the other, so `random_bits(a, b)` and `random_bits(b, a)` differ.
    """
    with np.errstate(over="ignore"):  # the arithmetic is meant to wrap
        state = np.zeros(1, dtype=np.int64)
        for counter in counters:
            state = mix(state * GAMMA + np.asarray(counter, dtype=np.int64) + GAMMA)
    return state


def uniform(*counters: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """Return one float in [0, 1) for every combination of counters."""
    bits = (random_bits(*counters) >> (64 - FRACTION_BITS)) & ((1 << FRACTION_BITS) - 1)
    return bits.astype(np.float64) * 2.0**-FRACTION_BITS


def below(limit: int, *counters: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Return one integer in [0, limit) for every combination of counters."""
    return (uniform(*counters) * limit).astype(np.int64)


def mix(bits: Bits) -> Bits:
    """Return 64 bits of which each depends on all those given, by arithmetic that wraps; arrays and tensors alike."""
    bits = (bits ^ _shift(bits, 30)) * _FIRST
    bits = (bits ^ _shift(bits, 27)) * _SECOND
    return bits ^ _shift(bits, 31)


def _shift(bits: Bits, count: int) -> Bits:
    # Signed integers shift their sign in; the mask makes the shift logical.
    return (bits >> count) & ((1 << (64 - count)) - 1)
