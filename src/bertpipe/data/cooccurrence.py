"""Counts of pairs of numbers: a token beside its neighbours, an id where a text has a certain word."""

import numpy as np
from numpy.typing import NDArray

_SHIFT = 32
_Numbers = NDArray[np.int64]


class CooccurrenceCounts:
    """How often each pair of numbers was added; the first is below 2**31, the second below 2**32.

    Kept as sorted runs, each at least twice as long as the next, so that adding takes little time, and memory grows
    with the distinct pairs alone.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[_Numbers, _Numbers]] = []

    def add(self, first: NDArray[np.integer], second: NDArray[np.integer]) -> None:
        """Count one pair for each place of the two arrays."""
        self._runs.append(np.unique((first.astype(np.int64) << _SHIFT) | second, return_counts=True))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            self._merge()

    def pairs(self) -> tuple[_Numbers, _Numbers, _Numbers]:
        """Return the distinct pairs in ascending order, and how often each was added; all of shape [pairs]."""
        while len(self._runs) > 1:
            self._merge()
        none = np.empty(0, dtype=np.int64)
        pairs, counts = self._runs[0] if self._runs else (none, none)
        return pairs >> _SHIFT, pairs & ((1 << _SHIFT) - 1), counts

    def _merge(self) -> None:
        runs = self._runs.pop(), self._runs.pop()
        pairs, counts = (np.concatenate(columns) for columns in zip(*runs, strict=True))
        order = np.argsort(pairs, kind="stable")
        pairs, counts = pairs[order], counts[order]
        starts = np.flatnonzero(np.diff(pairs, prepend=-1))
        self._runs.append((pairs[starts], np.add.reduceat(counts, starts) if len(starts) else counts))
