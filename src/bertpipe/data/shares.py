"""Which rows of a batch each process takes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One process of several that share every batch."""

    rank: int = 0
    """Its number, counted from 0."""
    size: int = 1
    """How many processes there are."""

    def of_rows(self, lengths: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
        """Return the places in a batch, in order, of the rows that this process takes; there may be none.

        All processes together take each row once. The rows are dealt out by length, the longest first, to and fro: then
        the processes' rows differ in number by one at most, and their tokens by no more than the longest row.

        Args:
            lengths: tokens of each row of the batch, shape [batch].
        """
        if self.size == 1:
            return np.arange(len(lengths))
        by_length = np.argsort(-lengths.astype(np.int64), kind="stable")
        turn, seat = np.divmod(np.arange(len(lengths)), self.size)
        rank = np.where(turn % 2 == 0, seat, self.size - 1 - seat)
        return np.sort(by_length[rank == self.rank])


WHOLE = Share()
"""One process that takes everything."""
