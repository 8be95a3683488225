"""The sentence pairs of a split, as ragged arrays that are read from Parquet on demand."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import DATA_COMMANDS, ROWS_PER_GROUP, pair_schema, require, table_files
from bertpipe.core.errors import DataError
from bertpipe.core.object_store import file_to_read
from bertpipe.data.layout import GROUPS_PER_WINDOW, Layout
from bertpipe.data.ragged import flat_indices

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


_SHORTEST_ROW = 3
"""`[CLS] [SEP] [SEP]`: both sentences may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairDataset:
    """Rows in memory; row r's tokens are `token_ids[offsets[r]:offsets[r + 1]]`, its masks likewise."""

    token_ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    row: NDArray[np.int64]
    second_segment_start: NDArray[np.int32]
    is_next: NDArray[np.bool_]
    document: NDArray[np.int32]
    masked_offsets: NDArray[np.int64]
    masked_positions: NDArray[np.int32]
    masked_inputs: NDArray[np.int32]
    masked_labels: NDArray[np.int32]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.row)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row; shape [rows]."""
        return np.diff(self.offsets)

    @property
    def layout(self) -> Layout:
        """How the rows are cut."""
        return Layout.of_files([len(self)])

    def read(self, groups: NDArray[np.int64]) -> "PairDataset":
        """Return the rows of some row groups, in that order."""
        return _of_groups(self, self.layout, groups)

    def take(self, rows: NDArray[np.int64]) -> "PairDataset":
        """Return a copy of some rows, in that order."""
        tokens, offsets = flat_indices(self.offsets, rows)
        masks, masked_offsets = flat_indices(self.masked_offsets, rows)
        return PairDataset(
            token_ids=self.token_ids[tokens],
            offsets=offsets,
            row=self.row[rows],
            second_segment_start=self.second_segment_start[rows],
            is_next=self.is_next[rows],
            document=self.document[rows],
            masked_offsets=masked_offsets,
            masked_positions=self.masked_positions[masks],
            masked_inputs=self.masked_inputs[masks],
            masked_labels=self.masked_labels[masks],
        )


class PairSource(Protocol):
    """Sentence pairs that are read some row groups at a time: from Parquet files, or a data set in memory."""

    @property
    def lengths(self) -> NDArray[np.integer[Any]]:
        """Tokens of each row; shape [rows]."""
        ...

    @property
    def layout(self) -> Layout:
        """How the rows are cut."""
        ...

    def read(self, groups: NDArray[np.int64]) -> PairDataset:
        """Return the rows of some row groups, in that order."""
        ...


class PairFile:
    """A split in one Parquet file or in shards. It keeps the lengths of all rows in memory, 4 bytes per row.

    Each shard numbers its `row` from 0; here all rows are numbered, shard after shard. So shards train as one file
    with the same row groups does.

    A split of one window is kept in memory once it is read; of a larger one nothing is kept.
    """

    def __init__(
        self, path: Path, *, rows_per_group: int = ROWS_PER_GROUP, groups_per_window: int = GROUPS_PER_WINDOW
    ) -> None:
        """Read the lengths of a file, or of a directory of shards.

        Raises:
            MissingInputError: there is no such file or directory, or a shard is missing.
            DataError: a file is not Parquet, or its columns or row groups are wrong.
        """
        self._path = path
        self._files = table_files(path)
        self._kept: PairDataset | None = None
        rows, lengths = [], []
        for name in self._files:
            with _opened(name) as file:
                _check_form(name, file, rows_per_group)
                rows.append(file.metadata.num_rows)
                lengths.append(_values(_whole(file.read(["length"], use_threads=False), "length")))
        self.layout = Layout.of_files(rows, rows_per_group=rows_per_group, groups_per_window=groups_per_window)
        self.lengths: NDArray[np.int32] = np.concatenate(lengths)
        self._first_row = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        self._first_group = np.searchsorted(self.layout.offsets, self._first_row)

    def read(self, groups: NDArray[np.int64]) -> PairDataset:
        """Return the rows of some row groups, in that order.

        Raises:
            DataError: the file cannot be read, or was changed since the lengths were read.
        """
        if len(self.layout.groups) > self.layout.groups_per_window:
            return self._load(groups)
        if self._kept is None:
            self._kept = self._load(self.layout.groups)
        return _of_groups(self._kept, self.layout, groups)

    def check(self, vocab_size: int) -> None:
        """Read everything once, and refuse what a model of `vocab_size` ids cannot read.

        Raises:
            DataError: there are no rows; or a row is too short, or has an id or a position out of its limits.
        """
        if not self.layout.rows:
            raise DataError(f"{self._path} has no rows: use data with rows, and run `bertpipe convert` again")
        for part in in_row_groups(self):
            for name, row, values, low, high in _limits(part, vocab_size):
                highest = np.broadcast_to(high, values.shape)
                wrong = np.flatnonzero((values < low) | (values > highest))
                if len(wrong):
                    first = wrong[0]
                    raise DataError(
                        f"{self._path}, row {part.row[row[first]]}: {name} {values[first]} is not in {low} to "
                        f"{highest[first]}; run `bertpipe convert` again, or correct what wrote the file"
                    )

    def _load(self, groups: NDArray[np.int64]) -> PairDataset:
        import pyarrow as pa  # noqa: PLC0415

        file_of_group = np.searchsorted(self._first_group, groups, side="right") - 1
        tables = [pair_schema().empty_table()]
        for number, places in groupby(range(len(groups)), key=file_of_group.tolist().__getitem__):
            with _opened(self._files[number]) as file:
                # One by one: Arrow takes three times the memory of what it reads at once; with threads, more.
                for place in places:
                    group = int(groups[place] - self._first_group[number])
                    tables.append(file.read_row_group(group, use_threads=False))
        data = _arrays(pa.concat_tables(tables))
        rows_before = np.repeat(self._first_row[file_of_group], self.layout.counts(groups))
        if not np.array_equal(data.lengths, self.lengths[self.layout.rows_of(groups)]):
            raise DataError(
                f"{self._path}: the lengths of row groups {groups.tolist()} are not those of its column `length`; "
                f"run {DATA_COMMANDS} again"
            )
        return replace(data, row=data.row + rows_before)


def read_dataset(path: Path) -> PairDataset:
    """Return a whole split in memory; raises what `PairFile` raises."""
    file = PairFile(path)
    return file.read(file.layout.groups)


def in_row_groups(pairs: PairSource) -> Iterator[PairDataset]:
    """Yield all rows, one row group at a time, to count them with little memory."""
    for group in pairs.layout.groups:
        yield pairs.read(group[None])


def read_documents(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield number, split and text of each document of a file, one row group in memory at a time."""
    with _opened(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, use_threads=False)
            yield from zip(*(table[name].to_pylist() for name in ("document", "split", "text")), strict=True)


def label_counts(pairs: PairSource, vocab_size: int) -> NDArray[np.int64]:
    """Return how often each id is a label of the stored masks; shape [vocab]."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for part in in_row_groups(pairs):
        counts += np.bincount(part.masked_labels[part.masked_labels != 0], minlength=vocab_size)
    return counts


@contextmanager
def _opened(path: Path) -> "Iterator[pq.ParquetFile]":
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    require(path)
    try:
        with pq.ParquetFile(file_to_read(path)) as file:  # read_table imports a library that one file does not need
            yield file
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}; run {DATA_COMMANDS} again") from error


_Limits = tuple[str, NDArray[np.int64], NDArray[Any], int, NDArray[Any] | float]


def _limits(rows: PairDataset, vocab_size: int) -> Iterator[_Limits]:
    """Yield the name of some numbers, the index of each one's row, the numbers, and their lower and upper limits."""
    row = np.arange(len(rows))
    of_token, of_mask = np.repeat(row, rows.lengths), np.repeat(row, np.diff(rows.masked_offsets))
    yield "the length", row, rows.lengths, _SHORTEST_ROW, np.inf
    yield "second_segment_start", row, rows.second_segment_start, 2, rows.lengths - 1
    yield "the token id", of_token, rows.token_ids, 0, vocab_size - 1
    # A mask is within A or B: the counts of neighbours need a token on both sides.
    yield "the masked position", of_mask, rows.masked_positions, 1, rows.lengths[of_mask] - 2
    yield "the masked input", of_mask, rows.masked_inputs, 0, vocab_size - 1
    yield "the masked label", of_mask, rows.masked_labels, 0, vocab_size - 1


def _check_form(path: Path, file: "pq.ParquetFile", rows_per_group: int) -> None:
    """Refuse wrong columns and row groups."""
    if not file.schema_arrow.equals(pair_schema()):
        raise DataError(f"{path} has columns {file.schema_arrow.names}, expected {pair_schema().names} of their types")
    metadata = file.metadata
    found = (metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
    layout = Layout.of_files([metadata.num_rows], rows_per_group=rows_per_group)
    expected = layout.counts(layout.groups).tolist()
    for number, (rows, wanted) in enumerate(zip_longest(found, expected, fillvalue=0)):
        if rows != wanted:
            raise DataError(
                f"{path} has {rows} rows in its row group {number}, expected {wanted}: run {DATA_COMMANDS} again"
            )


def _arrays(table: "pa.Table") -> PairDataset:
    """Return the columns of a table as arrays: views of copies in Arrow's memory, each freed with its array."""
    token_ids, offsets = _ragged(_whole(table, "token_ids"))
    masked_positions, masked_offsets = _ragged(_whole(table, "masked_positions"))
    return PairDataset(
        token_ids=token_ids,
        offsets=offsets,
        row=_values(_whole(table, "row")),
        second_segment_start=_values(_whole(table, "second_segment_start")),
        is_next=_values(_whole(table, "is_next").cast("uint8")).view(np.bool_),
        document=_values(_whole(table, "document")),
        masked_offsets=masked_offsets,
        masked_positions=masked_positions,
        masked_inputs=_ragged(_whole(table, "masked_inputs"))[0],
        masked_labels=_ragged(_whole(table, "masked_labels"))[0],
    )


def _of_groups(data: PairDataset, layout: Layout, groups: NDArray[np.int64]) -> PairDataset:
    return data if np.array_equal(groups, layout.groups) else data.take(layout.rows_of(groups))


def _whole(table: "pa.Table", name: str) -> "pa.Array":
    return table.column(name).combine_chunks()


def _ragged(column: "pa.ListArray") -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    offsets = _values(column.offsets).astype(np.int64)
    values = _values(column.values)[offsets[0] : offsets[-1]]
    return values, offsets - offsets[0]


def _values(column: "pa.Array") -> NDArray[Any]:
    return np.from_dlpack(column)  # Arrow's own to_numpy imports pandas
