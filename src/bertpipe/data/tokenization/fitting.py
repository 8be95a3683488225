"""How two sentences share the room of a row: one rule for `convert`, `prepare` and questions."""

import numpy as np
from numpy.typing import NDArray


def kept_lengths(
    first: NDArray[np.int64] | int, second: NDArray[np.int64] | int, room: NDArray[np.int64] | int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many tokens of A and of B stay if the longer one gives way until both fit; B where both are equal.

    Args:
        first: tokens of each A; shape [pairs], or one number.
        second: tokens of each B, likewise.
        room: tokens that both may have together.
    """
    fits = np.asarray(first) + second <= room
    first_kept = np.where(fits, first, np.minimum(first, np.maximum(np.subtract(room, second), (np.add(room, 1)) // 2)))
    return first_kept, np.where(fits, second, room - first_kept)
