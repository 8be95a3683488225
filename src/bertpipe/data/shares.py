"""Which rows of a batch each process takes."""

import heapq
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

        All processes together take each row once. The longest row that is left goes to the process with the fewest
        tokens, of several to the first (Graham 1969, "Bounds on multiprocessing timing anomalies"): no process then
        has more tokens than another by more than one row.

        Args:
            lengths: tokens of each row of the batch, shape [batch].
        """
        if self.size == 1:
            return np.arange(len(lengths))
        loads = [(0, rank) for rank in range(self.size)]  # a heap as it is
        mine = []
        for place in np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist():
            tokens, rank = loads[0]
            heapq.heapreplace(loads, (tokens + int(lengths[place]), rank))
            if rank == self.rank:
                mine.append(place)
        return np.array(sorted(mine), dtype=np.intp)


WHOLE = Share()
"""One process that takes everything."""
