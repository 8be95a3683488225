"""The order of rows, window by window, and which rows of a batch each process takes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.randomness import random_bits
from bertpipe.data.layout import Layout

_GROUP_ORDER, _ROW_ORDER, _BATCH_ORDER = range(20, 23)  # streams of randomness, one per kind of choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Row groups that are in memory together, and the batches of their rows."""

    groups: NDArray[np.int64]
    """In the order of the file."""
    batches: list[NDArray[np.intp]]
    """The rows of each batch, counted from the window's first row."""


def epoch_order(
    lengths: NDArray[np.integer[Any]], layout: Layout, *, batch_size: int, seed: int, epoch: int, first_batch: int = 0
) -> Iterator[Window]:
    """Yield the windows of an epoch: a pure function of lengths, layout, seed and epoch.

    Row groups are permuted and read in windows. Within a window the rows are shuffled, sorted by length (so that a
    batch holds rows of about equal length, with little padding), cut into batches, and the batches shuffled. Windows
    that end before batch `first_batch` are skipped without being read.

    Args:
        lengths: tokens of each row, shape [rows].
        layout: of the rows.
        batch_size: rows per batch; the last batch of a window may have fewer.
        seed: seed of the order.
        epoch: number of the epoch, which has an order of its own.
        first_batch: number of the first batch to yield, counted from 0 over the epoch.
    """
    for number, groups in enumerate(_shuffled_windows(layout, seed, epoch)):
        count = _batches(layout.count(groups), batch_size)
        if first_batch >= count:
            first_batch -= count
            continue
        rows = layout.rows_of(groups)
        rows = rows[np.argsort(random_bits(seed, _ROW_ORDER, epoch, rows), kind="stable")]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        start = number * layout.groups_per_window
        order = np.argsort(random_bits(seed, _BATCH_ORDER, epoch, start, np.arange(count)), kind="stable")
        in_file = np.sort(groups)
        places = np.searchsorted(layout.rows_of(in_file), rows)
        cut = [places[first * batch_size : (first + 1) * batch_size] for first in order[first_batch:].tolist()]
        yield Window(groups=in_file, batches=cut)
        first_batch = 0


def steps_of_epoch(layout: Layout, *, batch_size: int, seed: int, epoch: int) -> int:
    """Return how many batches `epoch_order` makes.

    Epochs may differ, because it depends on which windows the shorter row groups are in.
    """
    return sum(_batches(layout.count(groups), batch_size) for groups in _shuffled_windows(layout, seed, epoch))


def length_order(lengths: NDArray[np.integer[Any]], layout: Layout, *, batch_size: int) -> Iterator[Window]:
    """Yield the windows in file order, the rows of each shortest first, which needs the least padding."""
    for groups in layout.windows(layout.groups):
        order = np.argsort(lengths[layout.rows_of(groups)], kind="stable")
        cut = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
        yield Window(groups=groups, batches=cut)


def _shuffled_windows(layout: Layout, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    groups = layout.groups
    return layout.windows(groups[np.argsort(random_bits(seed, _GROUP_ORDER, epoch, groups), kind="stable")])


def _batches(rows: int, batch_size: int) -> int:
    return -(-rows // batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataParallelRank:
    """One of the processes that share every batch."""

    rank: int = 0
    """Its number, counted from 0."""
    size: int = 1
    """How many processes there are."""

    def of_rows(self, lengths: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
        """Return the indices of the rows of a batch that this process takes, in order; there may be none.

        All processes together take each row once. Rows are dealt by length, longest first, in alternating direction: so
        the processes' numbers of rows differ by at most one, and their tokens by at most the longest row.
        """
        if self.size == 1:
            return np.arange(len(lengths))
        by_length = np.argsort(-lengths.astype(np.int64), kind="stable")
        turn, seat = np.divmod(np.arange(len(lengths)), self.size)
        rank = np.where(turn % 2 == 0, seat, self.size - 1 - seat)
        return np.sort(by_length[rank == self.rank])


SINGLE = DataParallelRank()
"""One process that takes everything."""
