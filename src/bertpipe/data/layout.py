"""How the rows of a split are divided: into row groups, and these into windows that are in memory together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import ROWS_PER_GROUP
from bertpipe.data.ragged import flat_indices

GROUPS_PER_WINDOW = 16
"""Row groups that are shuffled together, and in memory together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Row group g holds the rows from `offsets[g]` to before `offsets[g + 1]`; some row groups make a window."""

    offsets: NDArray[np.int64]
    groups_per_window: int = GROUPS_PER_WINDOW

    @classmethod
    def of_files(
        cls,
        rows: Sequence[int],
        *,
        rows_per_group: int = ROWS_PER_GROUP,
        groups_per_window: int = GROUPS_PER_WINDOW,
    ) -> "Layout":
        """Return the layout of files of so many rows: row groups of one size, the last of each file shorter."""
        starts, end = [np.zeros(0, dtype=np.int64)], 0
        for count in rows:
            starts.append(np.arange(end, end + count, rows_per_group))
            end += count
        return cls(offsets=np.concatenate([*starts, [end]]), groups_per_window=groups_per_window)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.offsets[-1])

    @property
    def groups(self) -> NDArray[np.int64]:
        """Numbers of all row groups."""
        return np.arange(len(self.offsets) - 1)

    def windows(self, groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return row groups, in the order given, window by window."""
        return [
            groups[first : first + self.groups_per_window] for first in range(0, len(groups), self.groups_per_window)
        ]

    def rows_of(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the rows of some row groups, group after group."""
        return flat_indices(self.offsets, groups)[0]

    def counts(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many rows each of some row groups has."""
        return self.offsets[groups + 1] - self.offsets[groups]

    def count(self, groups: NDArray[np.int64]) -> int:
        """Return how many rows some row groups have together."""
        return int(self.counts(groups).sum())
