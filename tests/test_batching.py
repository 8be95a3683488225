"""Rows to batches: the order of an epoch, padding, and where the masks land."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bertpipe.artifacts import ROWS_PER_GROUP
from bertpipe.data.batching import Batch, Batcher, epoch_order
from bertpipe.data.masking import Masking
from bertpipe.data.tokenization import SPECIAL_TOKENS
from bertpipe.params import MaskingParams, MaskingUnit
from datasets import Pair, pair_dataset, word_piece_tokenizer

UNITS: tuple[MaskingUnit, ...] = ("token", "word", "span")
LENGTHS = np.random.default_rng(5).integers(5, 120, size=3 * ROWS_PER_GROUP + 77)
PAIRS = (
    Pair(first=[5, 6], second=[7], is_next=False, masks={1: (3, 5), 4: (9, 7)}),
    Pair(first=[8], second=[9, 10, 11]),
    Pair(first=[12], second=[13], masks={1: (3, 0), 3: (13, 13)}),
)


def order(**changes: object) -> list[NDArray[np.intp]]:
    return epoch_order(**({"lengths": LENGTHS, "batch_size": 16, "seed": 1, "epoch": 1} | changes))  # type: ignore[arg-type]


def masking(rate: float = 0.5, unit: MaskingUnit = "token") -> Masking:
    """Return a rule for a vocabulary of 40 ids, of which 6, 11, 16, ... continue a word."""
    tokenizer = word_piece_tokenizer([*SPECIAL_TOKENS, *(f"{'##' * (i % 5 == 1)}w{i}" for i in range(5, 40))])
    params = MaskingParams(
        mode="dynamic", unit=unit, rate=rate, mask_share=0.5, random_share=0.3, span_p=0.2, span_max=10
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


# Order


@settings(max_examples=30)
@given(st.integers(1, 9000), st.integers(1, 64), st.integers(0, 2**40), st.integers(0, 50))
def test_an_epoch_is_a_permutation_of_all_rows(rows: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = epoch_order(LENGTHS[:rows], batch_size=batch_size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    assert max(len(batch) for batch in batches) <= batch_size
    assert sum(len(batch) < batch_size for batch in batches) <= 1 + rows // (16 * ROWS_PER_GROUP)


def test_no_rows_have_no_batches() -> None:
    assert epoch_order(np.array([], dtype=np.int64), batch_size=4, seed=1, epoch=1) == []


def test_the_order_is_a_pure_function_and_another_epoch_or_seed_has_another() -> None:
    base = np.concatenate(order())
    assert np.array_equal(base, np.concatenate(order()))
    for change in ({"epoch": 2}, {"seed": 2}):
        other = np.concatenate(order(**change))
        assert (other == base).mean() < 0.01


def test_another_epoch_puts_other_rows_together() -> None:
    same = np.full(1000, 7)
    one, other = ({frozenset(batch.tolist()) for batch in order(lengths=same, epoch=epoch)} for epoch in (1, 2))
    assert not one & other


def test_batches_hold_rows_of_about_equal_length() -> None:
    padded = sum(len(batch) * LENGTHS[batch].max() for batch in order())
    assert padded / LENGTHS.sum() < 1.02
    shuffled = np.random.default_rng(1).permutation(len(LENGTHS))
    unsorted = sum(len(part) * LENGTHS[part].max() for part in np.array_split(shuffled, len(order())))
    assert unsorted / LENGTHS.sum() > 1.5


def test_short_and_long_batches_come_mixed() -> None:
    means = np.array([LENGTHS[batch].mean() for batch in order()])
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 4 / len(means) ** 0.5


def test_rows_are_shuffled_within_windows_of_row_groups() -> None:
    rows = 17 * ROWS_PER_GROUP  # two windows: sixteen groups, then one
    batches = order(lengths=np.full(rows, 9), batch_size=ROWS_PER_GROUP)
    last = set((batches[-1] // ROWS_PER_GROUP).tolist())
    first = set((np.concatenate(batches[:-1]) // ROWS_PER_GROUP).tolist())
    assert len(last) == 1
    assert len(first) == 16
    assert not first & last


# Batches


def test_stored_masks_land_where_they_should() -> None:
    batch = Batcher(dataset=pair_dataset(PAIRS), masking=None, seed=1).assemble(np.array([1, 0, 2]), epoch=3)
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
    batch = Batcher(dataset=pair_dataset(PAIRS), masking=None, seed=1).assemble(np.array([0, 2]), epoch=0)
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
    whole = rows_of(batcher.assemble(np.arange(3), epoch=epoch))
    for start in range(0, 3, size):
        part = rows[start : start + size]
        assert rows_of(batcher.assemble(np.array(part), epoch=epoch)) == [whole[row] for row in part]


@pytest.mark.parametrize("unit", UNITS)
def test_dynamic_masks_follow_the_rows_identity_not_its_place(unit: MaskingUnit) -> None:
    here = Batcher(dataset=pair_dataset(PAIRS[1:], first_row=1), masking=masking(unit=unit), seed=4)
    there = Batcher(dataset=pair_dataset(PAIRS), masking=masking(unit=unit), seed=4)
    assert rows_of(here.assemble(np.array([0, 1]), epoch=2)) == rows_of(there.assemble(np.array([1, 2]), epoch=2))


@pytest.mark.parametrize("unit", UNITS)
def test_dynamic_masks_predict_true_tokens_and_never_special_ones_or_padding(unit: MaskingUnit) -> None:
    rule = masking(1 - 1e-12, unit)
    batch = Batcher(dataset=pair_dataset(PAIRS), masking=rule, seed=4).assemble(np.arange(3), epoch=1)
    for (inputs, labels), pair in zip(rows_of(batch), PAIRS, strict=True):
        words = {at: token for at, token in enumerate(pair.tokens) if token >= 5}
        assert labels == words
        assert [inputs[at] for at in range(len(inputs)) if at not in words] == [
            token for token in pair.tokens if token < 5
        ]


@pytest.mark.parametrize("unit", ["word", "span"])
def test_dynamic_masks_take_words_whole(unit: MaskingUnit) -> None:
    batcher = Batcher(dataset=pair_dataset(PAIRS), masking=masking(unit=unit), seed=4)
    labels = [rows_of(batcher.assemble(np.array([1, 0]), epoch=epoch)) for epoch in range(200)]
    for (_, second), (_, first) in labels:
        assert (1 in first) == (2 in first)  # w5 ##w6
        assert (4 in second) == (5 in second)  # w10 ##w11
    assert 60 < sum(1 in first for _, (_, first) in labels) < 140  # 100 expected, deviation 7
    assert any((3 in second) != (4 in second) for (_, second), _ in labels)


@pytest.mark.parametrize("unit", UNITS)
def test_dynamic_masks_are_new_each_epoch(unit: MaskingUnit) -> None:
    pairs = [Pair(first=list(range(5, 30)), second=list(range(5, 30)))]
    batcher = Batcher(dataset=pair_dataset(pairs), masking=masking(unit=unit), seed=4)
    epochs = [rows_of(batcher.assemble(np.array([0]), epoch=epoch)) for epoch in (1, 2, 1)]
    assert epochs[0] == epochs[2]
    assert epochs[0] != epochs[1]


def test_an_epochs_batches_are_those_of_its_order_from_any_one_on() -> None:
    dataset = pair_dataset([Pair(first=[5] * (1 + i % 5), second=[6 + i]) for i in range(23)])
    batcher = Batcher(dataset=dataset, masking=None, seed=9)
    batches = list(batcher.epoch(2, batch_size=4))
    expected = epoch_order(dataset.lengths, batch_size=4, seed=9, epoch=2)
    assert len(batches) == len(expected) == 6
    second_words = [
        [row[start] for row, start in zip(b.token_ids.tolist(), b.second_segment_start, strict=True)] for b in batches
    ]
    assert second_words == [[6 + row for row in rows] for rows in expected]
    for one, other in zip(batches[4:], batcher.epoch(2, batch_size=4, first_batch=4), strict=True):
        assert torch.equal(one.token_ids, other.token_ids)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_length_order_gives_every_row_once_shortest_first(batch_size: int) -> None:
    batcher = Batcher(dataset=pair_dataset(PAIRS), masking=None, seed=1)
    batches = list(batcher.in_length_order(batch_size=batch_size))
    assert [length for batch in batches for length in batch.lengths.tolist()] == [5, 6, 7]
    assert all(batch.rows <= batch_size for batch in batches)


# What the heads read


def test_head_positions_are_cls_and_the_supervised_tokens_of_each_row() -> None:
    pairs = (
        Pair(first=[5, 6, 7], second=[8], masks={1: (3, 5), 3: (3, 7), 5: (3, 8)}),
        Pair(first=[9], second=[10]),
        Pair(first=[11, 12], second=[13], masks={2: (3, 12)}),
    )
    batch = Batcher(dataset=pair_dataset(pairs), masking=None, seed=1).assemble(np.arange(3), epoch=0)
    assert batch.head_positions.tolist() == [[0, 1, 3, 5], [0, 0, 0, 0], [0, 2, 0, 0]]
    assert batch.head_slots.tolist() == [0, 4, 8, 1, 2, 3, 9]  # three [CLS], then the supervised ones
    flat = batch.head_positions + torch.arange(3)[:, None] * batch.token_ids.shape[1]
    assert flat.flatten()[batch.head_slots[3:]].tolist() == batch.masked_positions.tolist()


def test_a_batch_without_any_label_asks_for_cls_alone() -> None:
    batch = Batcher(dataset=pair_dataset([Pair(first=[5], second=[6])] * 2), masking=None, seed=1).assemble(
        np.arange(2), epoch=0
    )
    assert batch.head_positions.tolist() == [[0], [0]]
    assert batch.head_slots.tolist() == [0, 1]


def test_padded_says_whether_rows_differ_in_length() -> None:
    same, longer = Pair(first=[5], second=[6]), Pair(first=[5, 6], second=[7])
    batcher = Batcher(dataset=pair_dataset([same, same, longer]), masking=None, seed=1)
    assert not batcher.assemble(np.array([0, 1]), epoch=0).padded
    assert batcher.assemble(np.array([0, 2]), epoch=0).padded
