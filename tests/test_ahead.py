"""Windows come in order with their rows, each read while the one before is worked on."""

import gc
import threading
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from bertpipe.core.errors import DataError
from bertpipe.data.device.batcher import prefetch
from bertpipe.data.pair_dataset import PairDataset
from datasets import Pair, pair_dataset


class Source:
    """Rows whose token says which group they are of; it notes what is read, and can wait or fail."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.read_groups: list[int] = []
        self.alive: list[weakref.ref[PairDataset]] = []
        self.was_read = [threading.Event() for _ in range(9)]

    def read(self, groups: NDArray[np.int64]) -> PairDataset:
        (group,) = groups.tolist()
        if group == self.fails_at:
            raise DataError("train.parquet is damaged")
        rows = pair_dataset([Pair(first=[10 + group], second=[6])])
        self.read_groups.append(group)
        self.alive.append(weakref.ref(rows.token_ids))  # type: ignore[arg-type]
        self.was_read[group].set()
        return rows

    def in_memory(self) -> int:
        gc.collect()
        return sum(rows() is not None for rows in self.alive)


def windows(count: int) -> Iterator[NDArray[np.int64]]:
    for group in range(count):
        yield np.array([group])


def group_of(rows: PairDataset) -> int:
    return int(rows.token_ids[1]) - 10


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_every_window_comes_with_its_rows_in_order(count: int) -> None:
    assert [group_of(rows) for rows in prefetch(Source().read, windows(count))] == list(range(count))


def test_the_next_window_is_read_while_one_is_worked_on_and_no_more_than_that() -> None:
    source = Source()
    for rows in prefetch(source.read, windows(6)):
        group = group_of(rows)
        if group < 5:
            assert source.was_read[group + 1].wait(timeout=10)
        assert not source.was_read[group + 2].is_set()
        assert source.in_memory() == (2 if group < 5 else 1)
        del rows
    assert source.read_groups == list(range(6))


def test_a_window_that_cannot_be_read_fails_in_its_turn() -> None:
    found = prefetch(Source(fails_at=2).read, windows(5))
    assert group_of(next(found)) == 0
    assert group_of(next(found)) == 1
    with pytest.raises(DataError, match="is damaged"):
        next(found)


def test_who_stops_early_leaves_no_thread_behind() -> None:
    found = prefetch(Source().read, windows(5))
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]
