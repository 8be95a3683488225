"""The sentence pairs of a split, as ragged arrays that are read from Parquet on demand."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import (
    DATA_COMMANDS,
    RECORDS_NAME,
    ROWS_PER_GROUP,
    pair_schema,
    require,
    shards_sha256,
    table_files,
    table_sha256,
)
from bertpipe.core.errors import DataError
from bertpipe.core.stores.objects import file_to_read, size_to_read
from bertpipe.data.layout import GROUPS_PER_WINDOW, Layout
from bertpipe.data.ragged import flat_indices, offsets_of
from bertpipe.data.records import SplitRecord

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


_NOT_AS_RECORDED = (
    f"run {DATA_COMMANDS} again, or remove that record, and all rows are read and checked when a training starts"
)
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

    def between(self, first: int, last: int) -> "PairDataset":
        """Return the rows from `first` to before `last`, as views of these."""
        tokens = slice(self.offsets[first], self.offsets[last])
        masks = slice(self.masked_offsets[first], self.masked_offsets[last])
        return PairDataset(
            offsets=self.offsets[first : last + 1] - self.offsets[first],
            masked_offsets=self.masked_offsets[first : last + 1] - self.masked_offsets[first],
            **{name: getattr(self, name)[first:last] for name in COLUMNS_PER_ROW},
            **{name: getattr(self, name)[masks] for name in COLUMNS_PER_MASK},
            token_ids=self.token_ids[tokens],
        )

    @staticmethod
    def concatenated(parts: "Sequence[PairDataset]") -> "PairDataset":
        """Return the rows of one or more data sets, one after the other."""
        if len(parts) == 1:
            return parts[0]
        columns = (*COLUMNS_PER_ROW, *COLUMNS_PER_MASK, "token_ids")
        return PairDataset(
            offsets=offsets_of(np.concatenate([part.lengths for part in parts])),
            masked_offsets=offsets_of(np.concatenate([np.diff(part.masked_offsets) for part in parts])),
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns},
        )


COLUMNS_PER_ROW = ("row", "second_segment_start", "is_next", "document")
COLUMNS_PER_MASK = ("masked_positions", "masked_inputs", "masked_labels")
"""The other columns of a `PairDataset` are the tokens, and the offsets of both."""


class PairSource(Protocol):
    """Sentence pairs that are read some row groups at a time: from Parquet files, or a data set in memory."""

    @property
    def layout(self) -> Layout:
        """How the rows are cut."""
        ...

    def read(self, groups: NDArray[np.int64]) -> PairDataset:
        """Return the rows of some row groups, in that order."""
        ...


class PairFile:
    """A split in one Parquet file or in shards.

    Each shard numbers its `row` from 0; here all rows are numbered, shard after shard. So shards train as one file
    with the same row groups does.

    With a record of the split nothing is read before its rows are: files are opened, and rows checked, when they are
    read. Without one all files are opened at once, and `check` reads everything.

    The row groups of a split of one window are kept in memory once they are read; of a larger one nothing is kept.
    """

    def __init__(
        self,
        path: Path,
        *,
        record: SplitRecord | None = None,
        vocab_size: int | None = None,
        rows_per_group: int = ROWS_PER_GROUP,
        groups_per_window: int = GROUPS_PER_WINDOW,
    ) -> None:
        """Find the files of a split, one or a directory of shards.

        Args:
            path: the file or the directory.
            record: what was recorded when the files were written; None: nothing was.
            vocab_size: with a record, rows with ids that are not below it are refused as they are read.
            rows_per_group: of all row groups but the last of a file.
            groups_per_window: as in `Layout`.

        Raises:
            MissingInputError: there is no such file or directory, or a shard is missing.
            DataError: the files are not those of the record; or a file is not Parquet, or its columns or row groups are
                wrong.
        """
        self._path = path
        self._files = table_files(path)
        self._record, self._rows_per_group = record, rows_per_group
        self._checked_for = None if record is None else vocab_size
        self._kept: dict[int, PairDataset] = {}
        self._joined: tuple[list[int], PairDataset] | None = None
        if record is None:
            rows = []
            for name in self._files:
                with opened_parquet(name) as file:
                    _check_form(name, file, rows_per_group)
                    rows.append(file.metadata.num_rows)
        else:
            rows = self._recorded(record)
        self.layout = Layout.of_files(rows, rows_per_group=rows_per_group, groups_per_window=groups_per_window)
        self._rows = rows
        self._first_row = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        self._first_group = np.searchsorted(self.layout.offsets, self._first_row)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each row, as the column `length` has them, which is read for it; shape [rows]."""
        lengths = [np.zeros(0, dtype=np.int32)]
        for name in self._files:
            with opened_parquet(name) as file:
                lengths.append(_values(_whole(file.read(["length"], use_threads=False), "length")))
        return np.concatenate(lengths)

    @property
    def longest_row(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths.max(initial=0)) if self._record is None else self._record.longest_row

    @property
    def sha256(self) -> str:
        """The hash of the file, or of all shards together."""
        if self._record is None:
            return table_sha256(self._path)
        digests = [each.sha256 for each in self._record.files]
        return shards_sha256(digests) if self._path.is_dir() else digests[0]

    def label_counts(self, vocab_size: int) -> NDArray[np.int64]:
        """Return how often each id is a label of the stored masks; shape [vocab]."""
        if self._record is None:
            return label_counts(self, vocab_size)
        counts = self._record.label_counts
        return np.pad(counts[:vocab_size], (0, max(0, vocab_size - len(counts))))

    def read(self, groups: NDArray[np.int64]) -> PairDataset:
        """Return the rows of some row groups, in that order.

        Raises:
            DataError: a file cannot be read, is not that of the record, or has rows that `check` refuses.
        """
        if not len(groups) or len(self.layout.groups) > self.layout.groups_per_window:
            return self._load(groups)
        asked = groups.tolist()
        if self._joined is not None and self._joined[0] == asked:
            return self._joined[1]
        missing = [group for group in asked if group not in self._kept]
        if missing:
            loaded = self._load(np.array(missing, dtype=np.int64))
            self._keep(missing, loaded)
        if missing == asked:
            self._joined = asked, loaded
        elif len(asked) == 1:
            return self._kept[asked[0]]
        else:
            self._joined = asked, PairDataset.concatenated([self._kept[group] for group in asked])
            self._keep(asked, self._joined[1])
        return self._joined[1]

    def _keep(self, groups: list[int], rows: PairDataset) -> None:
        """Keep row groups as views of rows in memory."""
        ends = np.cumsum(self.layout.counts(np.array(groups, dtype=np.int64))).tolist()
        for group, first, last in zip(groups, [0, *ends], ends, strict=False):
            self._kept[group] = rows.between(first, last)

    def check(self, vocab_size: int) -> None:
        """Refuse what a model of `vocab_size` ids cannot read; without a record, everything is read for it.

        Raises:
            DataError: there are no rows; or a row is too short, or has an id or a position out of its limits.
        """
        if not self.layout.rows:
            raise DataError(f"{self._path} has no rows: use data with rows, and run `bertpipe convert` again")
        if self._record is None:
            for part in in_row_groups(self):
                self._check_rows(part, vocab_size)

    def _recorded(self, record: SplitRecord) -> list[int]:
        """Return the rows of each file, after comparing the files with their record."""
        if len(self._files) != len(record.files):
            raise DataError(
                f"{self._path} has {len(self._files):,} files, and {RECORDS_NAME} beside it names "
                f"{len(record.files):,}: {_NOT_AS_RECORDED}"
            )
        for name, each in zip(self._files, record.files, strict=True):
            size = size_to_read(require(name))
            if size != each.bytes:
                raise DataError(
                    f"{name} has {size:,} bytes, and {RECORDS_NAME} says {each.bytes:,}: {_NOT_AS_RECORDED}"
                )
        return [each.rows for each in record.files]

    def _check_rows(self, rows: PairDataset, vocab_size: int) -> None:
        longest = np.inf if self._record is None else self._record.longest_row
        for name, offsets, values, low, high in _limits(rows, vocab_size, longest):
            wrong = np.flatnonzero((values < low) | (values > high))
            if len(wrong):
                first = wrong[0]
                row = first if offsets is None else np.searchsorted(offsets, first, side="right") - 1
                highest = np.broadcast_to(high, values.shape)[first]
                raise DataError(
                    f"{self._path}, row {rows.row[row]}: {name} {values[first]} is not in {low} to {highest}; run "
                    "`bertpipe convert` again, or correct what wrote the file"
                )

    def _load(self, groups: NDArray[np.int64]) -> PairDataset:
        import pyarrow as pa  # noqa: PLC0415

        file_of_group = np.searchsorted(self._first_group, groups, side="right") - 1
        tables = [pair_schema().empty_table()]
        for number, places in groupby(range(len(groups)), key=file_of_group.tolist().__getitem__):
            name = self._files[number]
            with opened_parquet(name) as file:
                if self._record is not None:
                    _check_form(name, file, self._rows_per_group)
                    if file.metadata.num_rows != self._rows[number]:
                        raise DataError(
                            f"{name} has {file.metadata.num_rows:,} rows, and {RECORDS_NAME} says "
                            f"{self._rows[number]:,}: {_NOT_AS_RECORDED}"
                        )
                # One by one: Arrow takes three times the memory of what it reads at once; with threads, more.
                for place in places:
                    group = int(groups[place] - self._first_group[number])
                    tables.append(file.read_row_group(group, use_threads=False))
        table = pa.concat_tables(tables)
        data = _arrays(table)
        rows_before = np.repeat(self._first_row[file_of_group], self.layout.counts(groups))
        if not np.array_equal(data.lengths, _values(_whole(table, "length"))):
            raise DataError(
                f"{self._path}: the lengths of row groups {groups.tolist()} are not those of its column `length`; "
                f"run {DATA_COMMANDS} again"
            )
        if len(data) != len(rows_before):
            raise DataError(f"{self._path} was changed while it was read: run {DATA_COMMANDS} again")
        data = replace(data, row=data.row + rows_before)
        if self._checked_for is not None:
            self._check_rows(data, self._checked_for)
        return data


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
    with opened_parquet(path) as file:
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
def opened_parquet(path: Path) -> "Iterator[pq.ParquetFile]":
    """Yield a Parquet file of a data set: nothing else opens one to read rows.

    Raises:
        MissingInputError: there is no such file.
        DataError: it cannot be read.
    """
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


_Limits = tuple[str, NDArray[np.int64] | None, NDArray[Any], int, NDArray[Any] | float]


def _limits(rows: PairDataset, vocab_size: int, longest: float) -> Iterator[_Limits]:
    """Yield the name of some numbers, the offsets of each row's, the numbers, and their lower and upper limits.

    Without offsets, each row has one number.
    """
    yield "the length", None, rows.lengths, _SHORTEST_ROW, longest
    yield "second_segment_start", None, rows.second_segment_start, 2, rows.lengths - 1
    yield "the token id", rows.offsets, rows.token_ids, 0, vocab_size - 1
    # A mask is within A or B: the counts of neighbours need a token on both sides.
    last = np.repeat(rows.lengths - 2, np.diff(rows.masked_offsets))
    yield "the masked position", rows.masked_offsets, rows.masked_positions, 1, last
    yield "the masked input", rows.masked_offsets, rows.masked_inputs, 0, vocab_size - 1
    yield "the masked label", rows.masked_offsets, rows.masked_labels, 0, vocab_size - 1


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
