"""The order of an epoch: lazy, window by window, and the plain formula to the row."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bertpipe.core.artifacts import ROWS_PER_GROUP
from bertpipe.core.randomness import random_bits
from bertpipe.data.layout import Layout
from bertpipe.data.sampling import Window, epoch_order, length_order, steps_of_epoch

LENGTHS = np.random.default_rng(5).integers(5, 120, size=3 * ROWS_PER_GROUP + 77)
Batches = list[NDArray[np.intp]]


def plain_order(
    lengths: NDArray[np.int64], *, batch_size: int, seed: int, epoch: int, rows_per_group: int, groups_per_window: int
) -> Batches:
    """Return the rows of each batch of an epoch, all at once and from all lengths."""
    groups = np.arange(-(-len(lengths) // rows_per_group))
    groups = groups[np.argsort(random_bits(seed, 20, epoch, groups), kind="stable")]
    batches: Batches = []
    for start in range(0, len(groups), groups_per_window):
        window = groups[start : start + groups_per_window]
        rows = np.concatenate(
            [np.arange(g * rows_per_group, min((g + 1) * rows_per_group, len(lengths))) for g in window]
        )
        rows = rows[np.argsort(random_bits(seed, 21, epoch, rows), kind="stable")]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        cut = [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
        order = np.argsort(random_bits(seed, 22, epoch, start, np.arange(len(cut))), kind="stable")
        batches.extend(cut[index] for index in order)
    return batches


def rows_of(windows: Iterator[Window], layout: Layout) -> Batches:
    """Return the rows of each batch, by their number in the split."""
    return [layout.rows_of(window.groups)[batch] for window in windows for batch in window.batches]


def order(lengths: NDArray[np.int64] = LENGTHS, *, batch_size: int = 16, seed: int = 1, epoch: int = 1) -> Batches:
    layout = Layout.of_files([len(lengths)])
    return rows_of(epoch_order(lengths, layout, batch_size=batch_size, seed=seed, epoch=epoch), layout)


def lists(batches: Batches) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


# The plain formula


@settings(max_examples=200)
@given(
    rows=st.integers(0, 300),
    rows_per_group=st.integers(1, 40),
    groups_per_window=st.integers(1, 7),
    batch_size=st.integers(1, 50),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 50),
    skipped=st.floats(0, 1.2),
)
def test_windows_make_the_batches_of_the_plain_formula(
    rows: int, rows_per_group: int, groups_per_window: int, batch_size: int, seed: int, epoch: int, skipped: float
) -> None:
    lengths = np.random.default_rng(rows).integers(5, 12, size=rows)
    layout = Layout.of_files([rows], rows_per_group=rows_per_group, groups_per_window=groups_per_window)
    choice = {"batch_size": batch_size, "seed": seed, "epoch": epoch}
    expected = plain_order(lengths, **choice, rows_per_group=rows_per_group, groups_per_window=groups_per_window)
    assert lists(rows_of(epoch_order(lengths, layout, **choice), layout)) == lists(expected)
    assert steps_of_epoch(layout, **choice) == len(expected)
    first = int(skipped * len(expected))
    windows = list(epoch_order(lengths, layout, **choice, first_batch=first))
    assert lists(rows_of(iter(windows), layout)) == lists(expected[first:])
    assert all(np.all(np.diff(window.groups) > 0) for window in windows)  # a file is read forwards


def test_the_published_sizes_make_the_batches_of_the_plain_formula() -> None:
    lengths = np.random.default_rng(3).integers(5, 120, size=18 * ROWS_PER_GROUP - 9)  # two windows
    expected = plain_order(
        lengths, batch_size=32, seed=4, epoch=2, rows_per_group=ROWS_PER_GROUP, groups_per_window=16
    )  # fmt: skip
    assert lists(order(lengths, batch_size=32, seed=4, epoch=2)) == lists(expected)


def test_epochs_differ_in_steps_with_the_window_of_the_short_group() -> None:
    # Groups of 4, 4 and 1 rows, two a window, batches of 3: (4 + 4) + 1 make 3 + 1 batches, (4 + 1) + 4 make 2 + 2.
    layout = Layout.of_files([9], rows_per_group=4, groups_per_window=2)
    lengths = np.full(9, 7)
    counts = [steps_of_epoch(layout, batch_size=3, seed=1, epoch=epoch) for epoch in range(40)]
    assert set(counts) == {4}
    counts = [steps_of_epoch(layout, batch_size=5, seed=1, epoch=epoch) for epoch in range(40)]
    assert set(counts) == {2, 3}  # 2 + 1 batches, or 1 + 1
    for epoch, count in enumerate(counts):
        assert len(rows_of(epoch_order(lengths, layout, batch_size=5, seed=1, epoch=epoch), layout)) == count


# What the order is like


@settings(max_examples=30)
@given(st.integers(1, 9000), st.integers(1, 64), st.integers(0, 2**40), st.integers(0, 50))
def test_an_epoch_is_a_permutation_of_all_rows(rows: int, batch_size: int, seed: int, epoch: int) -> None:
    batches = order(LENGTHS[:rows], batch_size=batch_size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows))
    assert max(len(batch) for batch in batches) <= batch_size
    assert sum(len(batch) < batch_size for batch in batches) <= 1 + rows // (16 * ROWS_PER_GROUP)


def test_no_rows_have_no_batches() -> None:
    assert order(np.array([], dtype=np.int64)) == []


def test_the_order_is_a_pure_function_and_another_epoch_or_seed_has_another() -> None:
    base = np.concatenate(order())
    assert np.array_equal(base, np.concatenate(order()))
    for other in (order(epoch=2), order(seed=2)):
        assert (np.concatenate(other) == base).mean() < 0.01


def test_another_epoch_puts_other_rows_together() -> None:
    same = np.full(1000, 7)
    one, other = ({frozenset(batch.tolist()) for batch in order(same, epoch=epoch)} for epoch in (1, 2))
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
    batches = order(np.full(rows, 9), batch_size=ROWS_PER_GROUP)
    last = set((batches[-1] // ROWS_PER_GROUP).tolist())
    first = set((np.concatenate(batches[:-1]) // ROWS_PER_GROUP).tolist())
    assert len(last) == 1
    assert len(first) == 16
    assert not first & last


# By length, for evaluation


def test_length_order_sorts_each_window_by_itself() -> None:
    lengths = np.array([9, 5, 7, 6, 5, 8, 5])
    layout = Layout.of_files([7], rows_per_group=2, groups_per_window=2)  # rows 0 to 3, then 4 to 6
    windows = list(length_order(lengths, layout, batch_size=3))
    assert [window.groups.tolist() for window in windows] == [[0, 1], [2, 3]]
    assert lists(rows_of(iter(windows), layout)) == [[1, 3, 2], [0], [4, 6, 5]]


@pytest.mark.parametrize("groups_per_window", [1, 3, 100])
def test_length_order_gives_every_row_once(groups_per_window: int) -> None:
    layout = Layout.of_files([len(LENGTHS)], rows_per_group=1000, groups_per_window=groups_per_window)
    batches = rows_of(length_order(LENGTHS, layout, batch_size=64), layout)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(LENGTHS)))
