"""The Parquet files of a data set, written row group by row group."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.artifacts import ROWS_PER_GROUP, document_schema, pair_schema
from bertpipe.data.pair_dataset import PairDataset

if TYPE_CHECKING:
    import pyarrow as pa

_BYTES_PER_GROUP = 1 << 23
"""UTF-8 bytes of text per row group of documents; a longer document has a row group of its own."""


class PairWriter:
    """Writes `train.parquet` or `test.parquet`: rows are numbered as they come, `ROWS_PER_GROUP` per row group."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415

        self._writer = pq.ParquetWriter(path, pair_schema(), compression="zstd")
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def __enter__(self) -> Self:
        """Return the writer; the file is complete when its block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write the remaining rows, and the end of the file."""
        self._write(sum(map(len, self._waiting)))
        self._writer.close()

    def add(self, rows: PairDataset) -> None:
        """Append rows, which get new numbers."""
        numbered = replace(rows, row=np.arange(self._rows, self._rows + len(rows)))
        self._rows += len(rows)
        self._waiting.append(table_of(numbered))
        waiting = sum(map(len, self._waiting))
        self._write(waiting - waiting % ROWS_PER_GROUP)

    def _write(self, rows: int) -> None:
        import pyarrow as pa  # noqa: PLC0415

        if rows:
            # In one chunk, so that the bytes do not depend on the sizes of the parts.
            table = pa.concat_tables(self._waiting).combine_chunks()
            self._writer.write_table(table.slice(0, rows), row_group_size=ROWS_PER_GROUP)
            self._waiting = [table.slice(rows)]


class DocumentWriter:
    """Writes `documents.parquet`."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415

        self._writer = pq.ParquetWriter(path, document_schema(), compression="zstd")
        self._numbers: list[int] = []
        self._splits: list[bytes] = []
        self._texts: list[bytes] = []
        self._bytes = 0

    def __enter__(self) -> Self:
        """Return the writer; the file is complete when its block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write the remaining documents, and the end of the file."""
        self._write()
        self._writer.close()

    def add(self, number: int, split: str, text: bytes) -> None:
        """Append a document, whose text is UTF-8."""
        if self._texts and self._bytes + len(text) > _BYTES_PER_GROUP:
            self._write()
        self._numbers.append(number)
        self._splits.append(split.encode("utf-8"))
        self._texts.append(text)
        self._bytes += len(text)

    def _write(self) -> None:
        import pyarrow as pa  # noqa: PLC0415

        if not self._texts:
            return
        numbers = np.array(self._numbers, dtype=np.int32)
        columns = [_array(pa.int32(), numbers), _strings(self._splits), _strings(self._texts)]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=document_schema()))
        self._numbers, self._splits, self._texts, self._bytes = [], [], [], 0


def table_of(rows: PairDataset) -> "pa.Table":
    """Return rows as a table with `pair_schema`."""
    import pyarrow as pa  # noqa: PLC0415

    masks = rows.masked_offsets
    is_next = pa.py_buffer(np.packbits(rows.is_next, bitorder="little"))
    columns = {
        "row": _array(pa.int64(), rows.row),
        "length": _array(pa.int32(), rows.lengths.astype(np.int32)),
        "token_ids": _lists(rows.token_ids, rows.offsets),
        "second_segment_start": _array(pa.int32(), rows.second_segment_start),
        "is_next": pa.Array.from_buffers(pa.bool_(), len(rows), [None, is_next]),
        "document": _array(pa.int32(), rows.document),
        "masked_positions": _lists(rows.masked_positions, masks),
        "masked_inputs": _lists(rows.masked_inputs, masks),
        "masked_labels": _lists(rows.masked_labels, masks),
    }
    return pa.Table.from_arrays([columns[name] for name in pair_schema().names], schema=pair_schema())


# pa.array would do, but imports pandas.


def _array(kind: "pa.DataType", values: NDArray[Any]) -> "pa.Array":
    import pyarrow as pa  # noqa: PLC0415

    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _lists(values: NDArray[np.int32], offsets: NDArray[np.int64]) -> "pa.Array":
    import pyarrow as pa  # noqa: PLC0415

    buffers = [None, pa.py_buffer(offsets.astype(np.int32))]
    return pa.Array.from_buffers(pa.list_(pa.int32()), len(offsets) - 1, buffers, children=[_array(pa.int32(), values)])


def _strings(values: list[bytes]) -> "pa.Array":
    import pyarrow as pa  # noqa: PLC0415

    offsets = np.cumsum([0, *map(len, values)], dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)
