"""Lists of different lengths, one after the other in one array."""

import numpy as np
from numpy.typing import NDArray


def places_within(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each entry in its list, counted from 0; shape [sum of lengths]."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def flat_indices(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the values of some lists stand, list after list, and the offsets they have in that order.

    Args:
        offsets: list r is `values[offsets[r]:offsets[r + 1]]`; shape [lists + 1].
        rows: the lists to take; shape [taken].
    """
    lengths = offsets[rows + 1] - offsets[rows]
    return np.repeat(offsets[rows], lengths) + places_within(lengths), np.concatenate([[0], np.cumsum(lengths)])
