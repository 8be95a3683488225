"""Lists of different lengths, one after the other in one array."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def places_within(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each entry's position in its list, counted from 0; shape [sum of lengths]."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each list begins, and where the last one ends; shape [lists + 1]."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def pad_rows(
    values: NDArray[Any], offsets: NDArray[np.int64], rows: NDArray[np.intp]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return some lists as a matrix [rows, longest], filled up with 0 (the id of `[PAD]`), and which cells are real.

    List r is `values[offsets[r]:offsets[r + 1]]`.
    """
    starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
    columns = np.arange(int(lengths.max()))
    real = columns[None, :] < lengths[:, None]
    padded = np.zeros(real.shape, dtype=values.dtype)
    padded[real] = values[(starts[:, None] + columns[None, :])[real]]
    return padded, real


def flat_indices(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the values of some lists, list after list, and the lists' offsets in that order.

    List r is `values[offsets[r]:offsets[r + 1]]`.
    """
    lengths = offsets[rows + 1] - offsets[rows]
    return np.repeat(offsets[rows], lengths) + places_within(lengths), offsets_of(lengths)
