"""Each row of a batch goes to one process, and the processes get about equally many tokens."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertpipe.data.batching import IGNORE_INDEX, Batch, Batcher
from bertpipe.data.sampling import SINGLE, DataParallelRank
from datasets import Pair, pair_dataset

LENGTHS = st.lists(st.integers(3, 512), min_size=1, max_size=70)


def shares(lengths: list[int], size: int) -> list[list[int]]:
    return [DataParallelRank(rank=rank, size=size).of_rows(np.array(lengths)).tolist() for rank in range(size)]


@given(LENGTHS, st.integers(1, 9))
def test_every_row_goes_to_one_process_and_rows_keep_their_order(lengths: list[int], size: int) -> None:
    found = shares(lengths, size)
    assert sorted(place for mine in found for place in mine) == list(range(len(lengths)))
    assert all(mine == sorted(mine) for mine in found)


@given(LENGTHS, st.integers(2, 9))
def test_no_process_has_more_tokens_than_another_by_more_than_a_row(lengths: list[int], size: int) -> None:
    found = shares(lengths, size)
    loads = [sum(lengths[place] for place in mine) for mine in found]
    assert max(loads) - min(loads) <= max(lengths)
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_the_longest_rows_are_dealt_out_first() -> None:
    # 9 and 7 go out, 6 and 5 come back, 4 begins again: 9 + 5 + 4 and 7 + 6.
    assert shares([6, 9, 7, 5, 4], 2) == [[1, 3, 4], [0, 2]]
    assert shares([3, 3, 3, 3], 2) == [[0, 3], [1, 2]]
    assert shares([8], 3) == [[0], [], []]


PAIRS = [
    Pair(
        first=[5 + number] * (1 + number % 5),
        second=[6] * (1 + number % 3),
        is_next=number % 2 == 0,
        masks={1: (4, 5 + number)} if number % 2 else {},
    )
    for number in range(11)
]


def epoch_of(rank: int, size: int, **options: int) -> list[Batch]:
    batcher = Batcher(dataset=pair_dataset(PAIRS), masking=None, seed=3)
    return list(batcher.epoch(1, batch_size=4, dp=DataParallelRank(rank=rank, size=size), **options))


def texts(batch: Batch) -> list[list[int]]:
    """Return the rows that count, without padding."""
    return [
        ids[:length]
        for ids, length, label in zip(
            batch.token_ids.tolist(), batch.lengths.tolist(), batch.is_next.tolist(), strict=True
        )
        if label != IGNORE_INDEX
    ]


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_the_processes_of_an_epoch_have_each_batch_between_them(size: int) -> None:
    whole = epoch_of(0, 1)
    parts = [epoch_of(rank, size) for rank in range(size)]
    assert {len(part) for part in parts} == {len(whole)} == {3}
    for number, batch in enumerate(whole):
        mine = [part[number] for part in parts]
        assert sorted(row for part in mine for row in texts(part)) == sorted(texts(batch))
        assert sum(part.counts for part in mine).tolist() == batch.counts.tolist()  # type: ignore[attr-defined]
        assert sum(part.tokens for part in mine) == batch.tokens
        labels = torch.cat([part.masked_labels for part in mine])
        assert sorted(labels.tolist()) == sorted(batch.masked_labels.tolist())


def test_a_process_without_rows_gets_one_that_nothing_is_asked_of() -> None:
    batches = epoch_of(6, 7)
    assert len(batches) == 3
    for batch in batches:
        assert batch.counts.tolist() == [0, 0, 0]
        assert batch.rows == 1
        assert batch.is_next.tolist() == [IGNORE_INDEX]
        assert batch.query_positions.tolist() == [[0]]
        assert batch.query_flat_index.tolist() == [0]


def test_an_epoch_goes_on_from_a_batch_in_a_share_too() -> None:
    (rest,) = epoch_of(1, 2, first_batch=2)
    assert texts(rest) == texts(epoch_of(1, 2)[2])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_evaluation_deals_out_whole_batches(size: int) -> None:
    batcher = Batcher(dataset=pair_dataset(PAIRS), masking=None, seed=3)
    whole = [texts(batch) for batch in batcher.in_length_order(batch_size=3)]
    assert len(whole) == 4
    for rank in range(size):
        mine = batcher.in_length_order(batch_size=3, dp=DataParallelRank(rank=rank, size=size))
        assert [texts(batch) for batch in mine] == whole[rank::size]


def test_one_process_takes_all() -> None:
    assert SINGLE.of_rows(np.array([5, 3, 4])).tolist() == [0, 1, 2]
