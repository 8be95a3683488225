"""The order of rows, window by window, and which rows of a batch each process takes."""

from collections.abc import Callable, Iterator
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


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlan:
    """A window whose rows have not been read: their lengths decide its batches."""

    number: int
    """Of the window, counted from 0 over the epoch."""
    groups: NDArray[np.int64]
    """In the order of the file."""
    batches: Callable[[NDArray[np.integer[Any]]], list[NDArray[np.intp]]]
    """Return the rows of each batch, counted from the window's first row, from the lengths of its rows."""

    def window(self, lengths: NDArray[np.integer[Any]]) -> Window:
        """Return the window, whose rows have these lengths."""
        return Window(groups=self.groups, batches=self.batches(lengths))


def epoch_plans(
    layout: Layout, *, batch_size: int, seed: int, epoch: int, first_batch: int = 0
) -> Iterator[WindowPlan]:
    """Yield the windows of an epoch: a pure function of layout, seed and epoch, and then of the rows' lengths.

    Row groups are permuted and read in windows. Within a window the rows are shuffled, sorted by length (so that a
    batch holds rows of about equal length, with little padding), cut into batches, and the batches shuffled. Windows
    that end before batch `first_batch` are skipped without being read.

    Args:
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

        def batches(
            lengths: NDArray[np.integer[Any]],
            number: int = number,
            groups: NDArray[np.int64] = groups,
            count: int = count,
            first_batch: int = first_batch,
        ) -> list[NDArray[np.intp]]:
            rows = layout.rows_of(groups)
            rows = rows[np.argsort(random_bits(seed, _ROW_ORDER, epoch, rows), kind="stable")]
            places = np.searchsorted(layout.rows_of(np.sort(groups)), rows)
            places = places[np.argsort(lengths[places], kind="stable")]
            start = number * layout.groups_per_window
            order = np.argsort(random_bits(seed, _BATCH_ORDER, epoch, start, np.arange(count)), kind="stable")
            return [places[first * batch_size : (first + 1) * batch_size] for first in order[first_batch:].tolist()]

        yield WindowPlan(number=number, groups=np.sort(groups), batches=batches)
        first_batch = 0


def length_plans(layout: Layout, *, batch_size: int) -> Iterator[WindowPlan]:
    """Yield the windows in file order, the rows of each shortest first, which needs the least padding."""

    def batches(lengths: NDArray[np.integer[Any]]) -> list[NDArray[np.intp]]:
        order = np.argsort(lengths, kind="stable")
        return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]

    for number, groups in enumerate(layout.windows(layout.groups)):
        yield WindowPlan(number=number, groups=groups, batches=batches)


def epoch_order(
    lengths: NDArray[np.integer[Any]], layout: Layout, *, batch_size: int, seed: int, epoch: int, first_batch: int = 0
) -> Iterator[Window]:
    """Yield the windows of an epoch, from the lengths of all rows; see `epoch_plans`."""
    plans = epoch_plans(layout, batch_size=batch_size, seed=seed, epoch=epoch, first_batch=first_batch)
    return (plan.window(lengths[layout.rows_of(plan.groups)]) for plan in plans)


def length_order(lengths: NDArray[np.integer[Any]], layout: Layout, *, batch_size: int) -> Iterator[Window]:
    """Yield the windows in file order, from the lengths of all rows; see `length_plans`."""
    plans = length_plans(layout, batch_size=batch_size)
    return (plan.window(lengths[layout.rows_of(plan.groups)]) for plan in plans)


def steps_of_epoch(layout: Layout, *, batch_size: int, seed: int, epoch: int) -> int:
    """Return how many batches `epoch_plans` makes.

    Epochs may differ, because it depends on which windows the shorter row groups are in.
    """
    return sum(_batches(layout.count(groups), batch_size) for groups in _shuffled_windows(layout, seed, epoch))


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
        """Return the indices of the rows of a batch that this process takes, in order; there may be none."""
        return np.flatnonzero(self.takers(lengths) == self.rank)

    def takers(self, lengths: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
        """Return which process takes each row of a batch.

        Rows are dealt by length, longest first, in alternating direction: so the processes' numbers of rows differ by
        at most one, and their tokens by at most the longest row.
        """
        if self.size == 1:
            return np.zeros(len(lengths), dtype=np.intp)
        turn, seat = np.divmod(np.arange(len(lengths)), self.size)
        takers = np.empty(len(lengths), dtype=np.intp)
        by_length = np.argsort(-lengths.astype(np.int64), kind="stable")
        takers[by_length] = np.where(turn % 2 == 0, seat, self.size - 1 - seat)
        return takers

    def of_groups(self, counts: NDArray[np.int64], window: int) -> list[NDArray[np.intp]]:
        """Return which row groups of a window each process reads, in order: about as many rows each.

        Processes that go without, or read less, are others in the next window.

        Args:
            counts: rows of each row group of the window; shape [groups].
            window: the number of the window.
        """
        reads: list[list[int]] = [[] for _ in range(self.size)]
        rows = [0] * self.size
        for group in np.argsort(-counts, kind="stable").tolist():
            turn = window * len(counts)
            least = min(range(self.size), key=lambda rank: (rows[rank], (rank - turn) % self.size))
            reads[least].append(group)
            rows[least] += int(counts[group])
        return [np.array(sorted(groups), dtype=np.intp) for groups in reads]


SINGLE = DataParallelRank()
"""One process that takes everything."""
