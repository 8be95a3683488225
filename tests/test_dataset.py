"""A split on disk: what is checked, what is read when, and what stays in memory."""

import gc
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertpipe.core.artifacts import ROWS_PER_GROUP
from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.data.batching import Batcher
from bertpipe.data.pair_dataset import PairDataset, PairFile, in_row_groups, label_counts, read_dataset
from bertpipe.data.parquet_writer import table_of
from datasets import Pair, pair_dataset, pair_file

ROWS = pair_dataset(
    [
        Pair(first=[5], second=[6], is_next=False, masks={1: (3, 5)}),
        Pair(first=[7, 8], second=[9]),
        Pair(first=[10], second=[11, 12, 13], masks={1: (3, 10), 4: (14, 12)}),
        Pair(first=[5, 5], second=[5, 5], is_next=False, masks={1: (3, 0), 2: (5, 5)}),
        Pair(first=[14], second=[15]),
    ],
    first_row=70,
)


def many(rows: int) -> PairDataset:
    """Return rows of about IMDB's length."""
    random = np.random.default_rng(rows)
    words = [random.integers(5, 99, size=size).tolist() for size in random.integers(8, 40, size=rows)]
    return pair_dataset([Pair(first=row, second=row[::-1], masks={1: (3, row[0])}) for row in words])


def same(one: PairDataset, other: PairDataset) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        and getattr(one, name).dtype == getattr(other, name).dtype
        for name in PairDataset.__slots__
    )


# Reading


@pytest.mark.parametrize("groups_per_window", [1, 2, 3, 16])
def test_row_groups_are_read_in_the_order_asked_for(tmp_path: Path, groups_per_window: int) -> None:
    file = pair_file(tmp_path / "x.parquet", ROWS, rows_per_group=2, groups_per_window=groups_per_window)
    assert file.lengths.tolist() == [5, 6, 7, 7, 5]
    assert same(file.read(np.array([0, 1, 2])), ROWS)
    part = file.read(np.array([2, 0]))
    assert part.row.tolist() == [74, 70, 71]
    assert part.token_ids.tolist() == [1, 14, 2, 15, 2, 1, 5, 2, 6, 2, 1, 7, 8, 2, 9, 2]
    assert part.offsets.tolist() == [0, 5, 10, 16]
    assert part.second_segment_start.tolist() == [3, 3, 4]
    assert part.is_next.tolist() == [True, False, True]
    assert part.document.tolist() == [4, 0, 1]
    assert part.masked_offsets.tolist() == [0, 0, 1, 1]
    assert (part.masked_positions.tolist(), part.masked_inputs.tolist(), part.masked_labels.tolist()) == ([1], [3], [5])


def test_rows_in_memory_are_read_in_the_same_way(tmp_path: Path) -> None:
    assert same(ROWS.read(np.array([0])), ROWS)
    rows = pair_dataset([Pair(first=[5], second=[6])] * (ROWS_PER_GROUP + 2))
    assert rows.read(np.array([0, 1])) is rows
    assert rows.read(np.array([1])).row.tolist() == [ROWS_PER_GROUP, ROWS_PER_GROUP + 1]
    assert same(rows.read(np.array([1, 0])).read(np.array([0])).take(np.array([1])), rows.take(np.array([4097])))


def test_a_whole_split_in_memory_is_that_of_the_file(tmp_path: Path) -> None:
    pq.write_table(table_of(ROWS), tmp_path / "x.parquet")
    assert same(read_dataset(tmp_path / "x.parquet"), ROWS)


def test_a_split_without_rows_has_none(tmp_path: Path) -> None:
    pq.write_table(table_of(pair_dataset([])), tmp_path / "x.parquet")
    assert len(read_dataset(tmp_path / "x.parquet")) == 0
    assert list(in_row_groups(PairFile(tmp_path / "x.parquet"))) == []


@pytest.mark.parametrize("groups_per_window", [1, 16])
def test_counting_reads_one_row_group_at_a_time(tmp_path: Path, groups_per_window: int) -> None:
    file = pair_file(tmp_path / "x.parquet", ROWS, rows_per_group=2, groups_per_window=groups_per_window)
    assert [part.row.tolist() for part in in_row_groups(file)] == [[70, 71], [72, 73], [74]]
    expected = {5: 2, 10: 1, 12: 1}  # a label of 0 is none
    assert label_counts(file, 17).tolist() == [expected.get(token, 0) for token in range(17)]
    assert label_counts(ROWS, 17).tolist() == label_counts(file, 17).tolist()


# What stays in memory


def test_a_split_of_one_window_is_read_once(tmp_path: Path) -> None:
    file = pair_file(tmp_path / "x.parquet", ROWS, rows_per_group=2, groups_per_window=3)
    kept = file.read(np.arange(3))
    (tmp_path / "x.parquet").unlink()
    assert file.read(np.arange(3)) is kept
    assert file.read(np.array([2])).row.tolist() == [74]


def test_of_a_larger_split_nothing_is_kept(tmp_path: Path) -> None:
    file = pair_file(tmp_path / "x.parquet", ROWS, rows_per_group=2, groups_per_window=2)
    part = file.read(np.arange(2))
    gone = [weakref.ref(getattr(part, name)) for name in PairDataset.__slots__]
    del part
    assert [reference() for reference in gone] == [None] * len(gone)
    (tmp_path / "x.parquet").unlink()
    with pytest.raises(
        MissingInputError, match=r"x\.parquet does not exist: run `bertpipe convert` or `bertpipe prepare` first"
    ):
        file.read(np.arange(2))


def peak_of_two_epochs(path: Path) -> tuple[int, int]:
    """Return the most bytes that NumPy and Arrow hold while two epochs and an evaluation stream, lengths left out."""
    file = PairFile(path, rows_per_group=64, groups_per_window=2)
    batcher = Batcher(dataset=file, masking=None, seed=1)
    gc.collect()
    arrow_before, arrow = pa.total_allocated_bytes(), 0
    tracemalloc.start()
    batches = [*(batcher.epoch(epoch, batch_size=8) for epoch in (1, 2)), batcher.in_length_order(batch_size=8)]
    for source in batches:
        for _ in source:
            arrow = max(arrow, pa.total_allocated_bytes() - arrow_before)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, arrow


@pytest.mark.thorough
def test_twice_the_rows_take_no_more_memory(tmp_path: Path) -> None:
    whole = many(20 * 2 * 64)
    rows = {"half": len(whole) // 2, "whole": len(whole)}
    for name, number in rows.items():
        pq.write_table(table_of(whole.take(np.arange(number))), tmp_path / name, row_group_size=64)
    peak_of_two_epochs(tmp_path / "half")  # what is imported and kept at first use belongs to neither
    # The least of three: what else happens to run in this process can only add.
    half, half_arrow = map(min, zip(*(peak_of_two_epochs(tmp_path / "half") for _ in range(3)), strict=True))
    all_rows, all_arrow = map(min, zip(*(peak_of_two_epochs(tmp_path / "whole") for _ in range(3)), strict=True))
    in_memory = sum(getattr(whole, name).nbytes for name in PairDataset.__slots__)
    assert in_memory > 15 * all_arrow > 0  # what Arrow holds is one of twenty windows
    assert all_arrow < 1.3 * half_arrow  # rows differ in length, and so do windows
    assert all_rows - half < in_memory / 2 / 10  # a tenth of what the other half of the rows takes


# Errors


def test_a_missing_split_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="run `bertpipe convert` or `bertpipe prepare` first"):
        PairFile(tmp_path / "x.parquet")


@pytest.mark.parametrize(("row_group_size", "message"), [
    (3, "3 rows in its row group 0, expected 2"),
    (1, "1 rows in its row group 0, expected 2"),
    (5, "5 rows in its row group 0, expected 2"),
])  # fmt: skip
def test_other_row_groups_are_refused(tmp_path: Path, row_group_size: int, message: str) -> None:
    pq.write_table(table_of(ROWS), tmp_path / "x.parquet", row_group_size=row_group_size)
    with pytest.raises(
        DataError, match=rf"x\.parquet has {message}: run `bertpipe convert` or `bertpipe prepare` again"
    ):
        PairFile(tmp_path / "x.parquet", rows_per_group=2)


def test_a_short_row_group_before_the_last_is_refused(tmp_path: Path) -> None:
    table = table_of(ROWS)
    with pq.ParquetWriter(tmp_path / "x.parquet", table.schema) as writer:
        for first, rows in ((0, 2), (2, 1), (3, 2)):
            writer.write_table(table.slice(first, rows))
    with pytest.raises(DataError, match="1 rows in its row group 1, expected 2"):
        PairFile(tmp_path / "x.parquet", rows_per_group=2)


def test_lengths_that_are_not_those_of_the_tokens_are_refused(tmp_path: Path) -> None:
    table = table_of(ROWS)
    lengths = pa.array([5, 6, 7, 8, 5], pa.int32())
    wrong = table.set_column(1, table.schema.field("length"), lengths)
    pq.write_table(wrong, tmp_path / "x.parquet", row_group_size=2)
    file = PairFile(tmp_path / "x.parquet", rows_per_group=2, groups_per_window=1)
    file.read(np.array([0]))
    with pytest.raises(DataError, match=r"x\.parquet: the lengths of row groups \[1\] are not those of its column"):
        file.read(np.array([1]))


def test_a_split_damaged_after_it_was_opened_is_said_to_be_so(tmp_path: Path) -> None:
    file = pair_file(tmp_path / "x.parquet", ROWS, rows_per_group=2, groups_per_window=1)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"x\.parquet is not a readable Parquet file"):
        file.read(np.array([1]))
