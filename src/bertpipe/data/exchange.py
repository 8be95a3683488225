"""The rows of a window that one process trains on, of which each process has read some row groups.

Each process reads its row groups of a window. All learn the lengths of all of its rows, which decide the batches, and
then send each other the rows that these ask for. The batches are those of a process that reads the whole window.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bertpipe.data.pair_dataset import COLUMNS_PER_MASK, PairDataset, PairSource
from bertpipe.data.ragged import flat_indices, offsets_of
from bertpipe.data.sampling import DataParallelRank, WindowPlan

_Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dealt:
    """What one process takes of the batches of a window."""

    batches: list[_Rows]
    """Its rows of each batch; at least one."""
    is_filler: list[bool]
    """Whether these are not its own, but one row to pass through the network with the others."""


Deal = Callable[[list[_Rows], NDArray[np.int64]], Callable[[int], Dealt]]
"""Return what each process takes, by its rank, of the batches of a window and the lengths of its rows."""

_COLUMNS = {
    "row": np.int64, "is_next": np.bool_,
    **dict.fromkeys(("token_ids", "second_segment_start", "document", *COLUMNS_PER_MASK), np.int32),
}  # fmt: skip
_ALIGNMENT = 8
"""Bytes."""


class Exchange(Protocol):
    """Messages between the processes that read a data set together: all send the same ones, in the same order."""

    @property
    def dp(self) -> DataParallelRank:
        """Which of them this process is."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """Raise in every process the error that the block raises in one of them."""
        ...

    def all_gather(self, values: NDArray[np.int64], sizes: Sequence[int]) -> list[NDArray[np.int64]]:
        """Return every process's values, of which there are `sizes`."""
        ...

    def all_to_all(self, parts: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Send each process its part, and return what each has sent to this one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowShare:
    """What one process has of a window."""

    data: PairDataset
    dealt: Dealt
    """Rows of `data`."""


def read_share(source: PairSource, plan: WindowPlan, deal: Deal, rank: int, exchange: Exchange | None) -> WindowShare:
    """Return what a process has of a window; without `exchange` it reads all of it.

    Raises:
        DataError: rows cannot be read, by this process or another one.
    """
    if exchange is None:
        data = source.read(plan.groups)
        return WindowShare(data=data, dealt=deal(plan.batches(data.lengths), data.lengths)(rank))
    counts = source.layout.counts(plan.groups)
    reads = exchange.dp.of_groups(counts, plan.number)
    with exchange.together():
        data = source.read(plan.groups[reads[rank]])
    bounds = np.concatenate([[0], np.cumsum(counts)])
    read_by = [flat_indices(bounds, groups)[0] for groups in reads]
    lengths = np.empty(bounds[-1], dtype=np.int64)
    reader, place = np.empty_like(lengths), np.empty_like(lengths)
    everyone = exchange.all_gather(data.lengths, [len(rows) for rows in read_by])
    for number, (rows, theirs) in enumerate(zip(read_by, everyone, strict=True)):
        lengths[rows], reader[rows], place[rows] = theirs, number, np.arange(len(rows))
    dealt_to = deal(plan.batches(lengths), lengths)
    dealt = [dealt_to(number) for number in range(exchange.dp.size)]
    wanted = [np.unique(np.concatenate([bounds[:0], *each.batches])) for each in dealt]
    parts = [packed(data.take(place[rows[reader[rows] == rank]])) for rows in wanted]
    del data
    data = PairDataset.concatenated([unpacked(part) for part in exchange.all_to_all(parts)])
    mine = wanted[rank]
    place[mine[np.argsort(reader[mine], kind="stable")]] = np.arange(len(mine))
    own = Dealt(batches=[place[rows] for rows in dealt[rank].batches], is_filler=dealt[rank].is_filler)
    return WindowShare(data=data, dealt=own)


def packed(data: PairDataset) -> NDArray[np.uint8]:
    """Return rows as bytes, for a process on a machine of the same kind."""
    counts = np.array([len(data), len(data.token_ids), len(data.masked_positions)])
    lengths, masks = np.diff(data.offsets), np.diff(data.masked_offsets)
    columns = [getattr(data, name).astype(kind, copy=False) for name, kind in _COLUMNS.items()]
    return np.concatenate([_padded(values) for values in (counts, lengths, masks, *columns)])


def unpacked(content: NDArray[np.uint8]) -> PairDataset:
    """Return the rows of `packed`, as views of its bytes."""
    at = 0

    def values(kind: type[np.generic], count: int) -> NDArray[Any]:
        nonlocal at
        found = content[at : at + count * np.dtype(kind).itemsize].view(kind)
        at += -(-found.nbytes // _ALIGNMENT) * _ALIGNMENT
        return found

    rows, tokens, masks_in_all = values(np.int64, 3).tolist()
    lengths, masks = values(np.int64, rows), values(np.int64, rows)
    of = {**dict.fromkeys(COLUMNS_PER_MASK, masks_in_all), "token_ids": tokens}
    columns = {name: values(kind, of.get(name, rows)) for name, kind in _COLUMNS.items()}
    return PairDataset(offsets=offsets_of(lengths), masked_offsets=offsets_of(masks), **columns)


def _padded(values: NDArray[Any]) -> NDArray[np.uint8]:
    content = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
    return np.pad(content, (0, -len(content) % _ALIGNMENT))
