"""Rows to batches: padding, where the masks land, and which rows are in memory."""

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bertpipe.core.params import MaskingUnit
from bertpipe.data.batching import Batch, Batcher
from bertpipe.data.masking import Masking
from bertpipe.data.pair_dataset import PairDataset, PairFile
from bertpipe.data.tokenization.tokenizer import SPECIAL_TOKENS
from datasets import Pair, batch_of, pair_dataset, pair_file, word_piece_tokenizer
from defaults import DEFAULTS
from test_order import plain_order

UNITS: tuple[MaskingUnit, ...] = ("token", "word", "span")
PAIRS = (
    Pair(first=[5, 6], second=[7], is_next=False, masks={1: (3, 5), 4: (9, 7)}),
    Pair(first=[8], second=[9, 10, 11]),
    Pair(first=[12], second=[13], masks={1: (3, 0), 3: (13, 13)}),
)


def assembled(batcher: Batcher, rows: Sequence[int], *, epoch: int = 0) -> Batch:
    """Return a batch of rows of a data set that is in memory."""
    assert isinstance(batcher.dataset, PairDataset)
    return batcher.assemble(batcher.dataset, np.array(rows), epoch=epoch)


def masking(rate: float = 0.5, unit: MaskingUnit = "token") -> Masking:
    """Return a rule for a vocabulary of 40 ids, of which 6, 11, 16, ... continue a word."""
    tokenizer = word_piece_tokenizer([*SPECIAL_TOKENS, *(f"{'##' * (i % 5 == 1)}w{i}" for i in range(5, 40))])
    params = replace(
        DEFAULTS.masking,
        mode="dynamic",
        unit=unit,
        rate=rate,
        mask_share=0.5,
        random_share=0.3,
        span_p=0.2,
        span_max=10,
    )
    return Masking.of(params, tokenizer)


def rows_of(batch: Batch) -> list[tuple[list[int], dict[int, int]]]:
    """Return each row's inputs without padding, and its labels by position."""
    seq = batch.token_ids.shape[1]
    labels: list[dict[int, int]] = [{} for _ in range(batch.rows)]
    for flat, label in zip(batch.masked_positions.tolist(), batch.masked_labels.tolist(), strict=True):
        labels[flat // seq][flat % seq] = label
    return [
        (row[:length].tolist(), found)
        for row, length, found in zip(batch.token_ids, batch.lengths.tolist(), labels, strict=True)
    ]


# Batches


def test_stored_masks_land_where_they_should() -> None:
    batch = assembled(Batcher(dataset=pair_dataset(PAIRS), masking=None, seed=1), [1, 0, 2], epoch=3)
    assert batch.token_ids.tolist() == [
        [1, 8, 2, 9, 10, 11, 2],
        [1, 3, 6, 2, 9, 2, 0],
        [1, 3, 2, 13, 2, 0, 0],
    ]
    assert batch.lengths.tolist() == [7, 6, 5]
    assert batch.second_segment_start.tolist() == [3, 4, 3]
    assert batch.is_next.tolist() == [1, 0, 1]
    # Row 2's mask at position 1 has no label: it is read, not predicted.
    assert batch.masked_positions.tolist() == [7 + 1, 7 + 4, 14 + 3]
    assert batch.masked_labels.tolist() == [5, 7, 13]
    assert batch.tokens == 18
    assert batch.rows == 3


def test_a_batch_moves_to_a_device_whole() -> None:
    batch = batch_of(PAIRS[0], PAIRS[2])
    moved = batch.to(torch.device("meta"))
    tensors = [value for value in (getattr(moved, name) for name in Batch.__slots__) if torch.is_tensor(value)]
    assert len(tensors) == 8
    assert all(tensor.is_meta for tensor in tensors)
    assert moved.tokens == batch.tokens


@given(st.permutations(range(3)), st.integers(1, 3), st.integers(0, 5), st.sampled_from(UNITS))
def test_dynamic_masks_of_a_row_are_the_same_in_any_batch(
    rows: list[int], size: int, epoch: int, unit: MaskingUnit
) -> None:
    batcher = Batcher(dataset=pair_dataset(PAIRS, first_row=1000), masking=masking(unit=unit), seed=4)
    whole = rows_of(assembled(batcher, range(3), epoch=epoch))
    for start in range(0, 3, size):
        part = rows[start : start + size]
        assert rows_of(assembled(batcher, part, epoch=epoch)) == [whole[row] for row in part]


@pytest.mark.parametrize("unit", UNITS)
def test_dynamic_masks_follow_the_rows_identity_not_its_place(unit: MaskingUnit) -> None:
    here = Batcher(dataset=pair_dataset(PAIRS[1:], first_row=1), masking=masking(unit=unit), seed=4)
    there = Batcher(dataset=pair_dataset(PAIRS), masking=masking(unit=unit), seed=4)
    assert rows_of(assembled(here, [0, 1], epoch=2)) == rows_of(assembled(there, [1, 2], epoch=2))


@pytest.mark.parametrize("unit", UNITS)
def test_dynamic_masks_predict_true_tokens_and_never_special_ones_or_padding(unit: MaskingUnit) -> None:
    rule = masking(1 - 1e-12, unit)
    batch = assembled(Batcher(dataset=pair_dataset(PAIRS), masking=rule, seed=4), range(3), epoch=1)
    for (inputs, labels), pair in zip(rows_of(batch), PAIRS, strict=True):
        words = {at: token for at, token in enumerate(pair.tokens) if token >= 5}
        assert labels == words
        assert [inputs[at] for at in range(len(inputs)) if at not in words] == [
            token for token in pair.tokens if token < 5
        ]


@pytest.mark.parametrize("unit", ["word", "span"])
def test_dynamic_masks_take_words_whole(unit: MaskingUnit) -> None:
    batcher = Batcher(dataset=pair_dataset(PAIRS), masking=masking(unit=unit), seed=4)
    labels = [rows_of(assembled(batcher, [1, 0], epoch=epoch)) for epoch in range(200)]
    for (_, second), (_, first) in labels:
        assert (1 in first) == (2 in first)  # w5 ##w6
        assert (4 in second) == (5 in second)  # w10 ##w11
    assert 60 < sum(1 in first for _, (_, first) in labels) < 140  # 100 expected, deviation 7
    assert any((3 in second) != (4 in second) for (_, second), _ in labels)


@pytest.mark.parametrize("unit", UNITS)
def test_dynamic_masks_are_new_each_epoch(unit: MaskingUnit) -> None:
    pairs = [Pair(first=list(range(5, 30)), second=list(range(5, 30)))]
    batcher = Batcher(dataset=pair_dataset(pairs), masking=masking(unit=unit), seed=4)
    epochs = [rows_of(assembled(batcher, [0], epoch=epoch)) for epoch in (1, 2, 1)]
    assert epochs[0] == epochs[2]
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_length_order_gives_every_row_once_shortest_first(batch_size: int) -> None:
    batcher = Batcher(dataset=pair_dataset(PAIRS), masking=None, seed=1)
    batches = list(batcher.in_length_order(batch_size=batch_size))
    assert [length for batch in batches for length in batch.lengths.tolist()] == [5, 6, 7]
    assert all(batch.rows <= batch_size for batch in batches)


# Windows. Many rows, told apart by their second sentence.
MANY = pair_dataset(
    [
        Pair(first=[5 + i % 7] * (1 + i % 5), second=[100 + i], is_next=i % 3 == 0, masks={1: (3, 5 + i % 7)})
        for i in range(107)
    ],
    first_row=1000,
)


class Watched:
    """A source of row groups that keeps a record of what was read."""

    def __init__(self, source: PairFile) -> None:
        self.source, self.lengths, self.layout = source, source.lengths, source.layout
        self.read_groups: list[list[int]] = []

    def read(self, groups: NDArray[np.int64]) -> PairDataset:
        self.read_groups.append(groups.tolist())
        return self.source.read(groups)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """Return a file of MANY in windows of 20, 20, 20, 20, 20 and 7 rows."""
    return Watched(pair_file(tmp_path / "train.parquet", MANY, rows_per_group=10, groups_per_window=2))


def same(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in Batch.__slots__ if name != "tokens"
    ) and (one.tokens == other.tokens)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("first_batch", [0, 1, 5, 17, 23])
def test_windows_give_the_batches_of_all_rows_in_memory(watched: Watched, dynamic: bool, first_batch: int) -> None:
    rule = dataclasses.replace(masking(), is_special=np.arange(300) < 5) if dynamic else None
    batcher = Batcher(dataset=watched, masking=rule, seed=9)
    whole = Batcher(dataset=MANY, masking=rule, seed=9)
    expected = plain_order(MANY.lengths, batch_size=5, seed=9, epoch=2, rows_per_group=10, groups_per_window=2)
    assert len(expected) == batcher.steps(2, batch_size=5) == 22
    batches = list(batcher.epoch(2, batch_size=5, first_batch=first_batch))
    for batch, rows in zip(batches, expected[first_batch:], strict=True):
        assert same(batch, assembled(whole, rows.tolist(), epoch=2))


def test_a_window_is_read_when_its_first_batch_is_asked_for(watched: Watched) -> None:
    batches = Batcher(dataset=watched, masking=None, seed=9).epoch(1, batch_size=20)
    assert watched.read_groups == []
    for number in range(1, 7):
        next(batches)
        assert len(watched.read_groups) == number
    assert next(batches, None) is None
    assert sorted(group for groups in watched.read_groups for group in groups) == list(range(11))


@pytest.mark.parametrize(("first_batch", "windows"), [(0, 6), (1, 6), (3, 6), (4, 5), (13, 3), (21, 1), (22, 0)])
def test_windows_before_the_first_batch_are_not_read(watched: Watched, first_batch: int, windows: int) -> None:
    batcher = Batcher(dataset=watched, masking=None, seed=9)
    rows = plain_order(MANY.lengths, batch_size=107, seed=9, epoch=2, rows_per_group=10, groups_per_window=2)
    groups = [
        sorted(set((window // 10).tolist())) for window in rows
    ]  # one batch a window, so its rows are the window's
    assert [-(-len(window) // 5) for window in rows] == [4, 4, 4, 4, 4, 2]
    list(batcher.epoch(2, batch_size=5, first_batch=first_batch))
    assert watched.read_groups == groups[len(groups) - windows :]


def test_evaluation_gives_every_row_once_each_window_by_length(watched: Watched) -> None:
    batches = list(Batcher(dataset=watched, masking=None, seed=1).in_length_order(batch_size=8))
    assert watched.read_groups == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10]]
    lengths = [length for batch in batches for length in batch.lengths.tolist()]
    for start in range(0, 107, 20):
        assert lengths[start : start + 20] == sorted(MANY.lengths[start : start + 20].tolist())
    second = [
        int(row[start])
        for batch in batches
        for row, start in zip(batch.token_ids, batch.second_segment_start, strict=True)
    ]
    assert sorted(second) == list(range(100, 207))


# What the heads read


def test_head_positions_are_cls_and_the_supervised_tokens_of_each_row() -> None:
    pairs = (
        Pair(first=[5, 6, 7], second=[8], masks={1: (3, 5), 3: (3, 7), 5: (3, 8)}),
        Pair(first=[9], second=[10]),
        Pair(first=[11, 12], second=[13], masks={2: (3, 12)}),
    )
    batch = batch_of(*pairs)
    assert batch.query_positions.tolist() == [[0, 1, 3, 5], [0, 0, 0, 0], [0, 2, 0, 0]]
    assert batch.query_flat_index.tolist() == [0, 4, 8, 1, 2, 3, 9]  # three [CLS], then the supervised ones
    flat = batch.query_positions + torch.arange(3)[:, None] * batch.token_ids.shape[1]
    assert flat.flatten()[batch.query_flat_index[3:]].tolist() == batch.masked_positions.tolist()


def test_a_batch_without_any_label_asks_for_cls_alone() -> None:
    batch = batch_of(*[Pair(first=[5], second=[6])] * 2)
    assert batch.query_positions.tolist() == [[0], [0]]
    assert batch.query_flat_index.tolist() == [0, 1]


def test_padded_says_whether_rows_differ_in_length() -> None:
    same, longer = Pair(first=[5], second=[6]), Pair(first=[5, 6], second=[7])
    assert not batch_of(same, same).padded
    assert batch_of(same, longer).padded
