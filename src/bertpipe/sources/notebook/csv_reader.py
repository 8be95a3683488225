"""A CSV member of the zip, block by block: five columns of bytes, and the number of each row.

Bytes that are not UTF-8 are marked on the way, so that they can be found and named later.
"""

import codecs
import csv
import io
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertpipe.core.errors import DataError, excerpt
from bertpipe.data.ragged import flat_indices

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("Original Text", "BERT Input", "BERT Label", "Segment Label", "Is Next")

_BLOCK_BYTES = 4 << 20
"""Bytes read at a time, which the longest row must not exceed."""
_MARK: Final = 0x10FF00
"""A byte that is not UTF-8 becomes the private character of this number plus its own."""
MARK_LEAD: Final = 0xF4
"""The byte that each mark begins with; no other character of use does."""
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The bytes of one column, row after row; row r has `data[offsets[r]:offsets[r + 1]]`."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    def __getitem__(self, row: int) -> str:
        """Return the text of one row."""
        return self.data[self.offsets[row] : self.offsets[row + 1]].tobytes().decode("utf-8")

    def take(self, rows: NDArray[np.intp]) -> "Column":
        """Return the column of the given rows."""
        source, offsets = flat_indices(self.offsets, rows)
        return Column(data=self.data[source], offsets=offsets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some rows of a member that have five fields each."""

    columns: tuple[Column, ...]
    """In the order of `COLUMNS`."""
    row: NDArray[np.int64]
    """Number of each row in the file, data rows counted from 1."""

    def fields(self, row: int) -> list[str]:
        """Return the five fields of one row."""
        return [column[row] for column in self.columns]


class Misshapen(NamedTuple):
    """A row that does not have five fields."""

    row: int
    columns: int
    text: str


def wrong_header(file: str, header: Sequence[str] | None) -> DataError:
    """Return the error about a file whose first row is not `COLUMNS`."""
    found = excerpt(",".join(header or ()))
    return DataError(
        f"{file} has the header {found}, and the notebook's is {','.join(COLUMNS)}: save it as CSV in UTF-8 with "
        "commas between the columns, in that order"
    )


class MemberReader:
    """Reads a CSV member; rows without five fields are collected in `misshapen`."""

    def __init__(self, raw: BinaryIO, file: str) -> None:
        self.misshapen: list[Misshapen] = []
        self._file = file
        self._source = Utf8Source(raw)
        self._well_formed = 0

    def blocks(self) -> Iterator[Block]:
        """Yield the rows that have five fields, in order.

        Raises:
            DataError: the header is not the notebook's, a row is too long, or a quote is never closed.
        """
        import pyarrow as pa  # noqa: PLC0415

        header = _header(self._source.first_line())
        if header != list(COLUMNS):
            raise wrong_header(self._file, header)
        try:
            for batch in self._batches():
                yield self._block(batch)
        except pa.ArrowInvalid as error:
            reason = f"a row has more than {_BLOCK_BYTES:,} bytes" if "straddling" in str(error) else str(error)
            raise DataError(f"{self._file} is not CSV{self._place()}: {reason}; is a quote never closed?") from error
        if self._source.quotes % 2:
            raise DataError(f"{self._file} is not CSV{self._place()}: the number of quotes is odd, one is never closed")

    def _place(self) -> str:
        if self.misshapen:
            return f" at row {self.misshapen[0].row}"
        return f" after row {self._well_formed}" if self._well_formed else ""

    def _batches(self) -> "Iterator[pa.RecordBatch]":
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import csv as arrow_csv  # noqa: PLC0415

        if self._source.at_end():
            return
        reader = arrow_csv.open_csv(
            pa.PythonFile(self._source, mode="r"),
            read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=COLUMNS, use_threads=False),
            parse_options=arrow_csv.ParseOptions(
                newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=self._skip
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(COLUMNS, pa.binary()), strings_can_be_null=False
            ),
        )
        try:
            yield from reader
        finally:
            # A thread of Arrow's reads ahead. It must not call back into Python while the interpreter ends.
            self._source.stop()
            with suppress(pa.ArrowInvalid):
                deque(reader, maxlen=0)

    def _skip(self, row: Any) -> str:  # noqa: ANN401
        """Keep a row that does not have five fields (pyarrow calls this)."""
        self.misshapen.append(Misshapen(row.number, row.actual_columns, row.text))
        return "skip"

    def _block(self, batch: "pa.RecordBatch") -> Block:
        order = self._well_formed + 1 + np.arange(batch.num_rows)
        self._well_formed += batch.num_rows
        skipped = np.array([bad.row - index for index, bad in enumerate(self.misshapen)], dtype=np.int64)
        return Block(
            columns=tuple(_column(array) for array in batch.columns),
            row=order + np.searchsorted(skipped, order, side="right"),
        )


def lines_of_rows(raw: BinaryIO, rows: Collection[int]) -> dict[int, int]:
    """Return the line of the file on which each of the given rows begins."""
    csv.field_size_limit(_BLOCK_BYTES)
    reader = csv.reader(io.TextIOWrapper(raw, encoding="utf-8", errors="replace", newline=""))
    wanted, lines, line = set(rows), {}, 1
    for row, _ in enumerate(reader):  # row 0 is the header
        if row in wanted:
            lines[row] = line
        line = reader.line_num + 1
    return lines


def _header(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return [line]  # a header that the caller refuses


def _column(array: "pa.Array") -> Column:
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    return Column(data=np.frombuffer(data or b"", dtype=np.uint8)[ends[0] : ends[-1]], offsets=ends - ends[0])


class Utf8Source(io.RawIOBase):
    """A binary stream that returns only UTF-8, without a byte-order mark, and counts the quotes in it."""

    def __init__(self, raw: BinaryIO) -> None:
        self.quotes = 0
        self._raw = raw
        self._stopped = False
        self._cut = b""  # a character of which only the first bytes have been read
        self._ready = self._next(_CHUNK).removeprefix(codecs.BOM_UTF8)

    def readable(self) -> bool:
        """Return True, as Python's file protocol requires."""
        return True

    def first_line(self) -> str:
        """Return the first line, without its end, and go to the second; the line is cut after a megabyte."""
        line, _, self._ready = self._ready.partition(b"\n")
        self.quotes -= line.count(b'"')
        return line.decode("utf-8").removesuffix("\r")

    def at_end(self) -> bool:
        """Return whether nothing is left."""
        self._ready = self._ready or self._next(_CHUNK)
        return not self._ready

    def stop(self) -> None:
        """Return no more bytes."""
        self._stopped = True

    def read(self, size: int = -1) -> bytes:
        """Return some of the next bytes, `size` at most; none at the end."""
        if self._stopped:
            return b""
        ready = self._ready or self._next(_CHUNK if size < 0 else size)
        if size < 0:
            size = len(ready)
        self._ready = ready[size:]
        return ready[:size]

    def _next(self, size: int) -> bytes:
        whole = b""
        while not whole and (chunk := self._raw.read(size)):
            whole, self._cut = _whole_characters(self._cut + chunk)
        if not whole:  # the end, perhaps in the middle of a character
            whole, self._cut = self._cut, b""
        valid = whole if _is_utf8(whole) else _marked(whole)
        self.quotes += valid.count(b'"')
        return valid


def unmarked(text: str) -> str | None:
    """Return `text` with each byte that was not UTF-8 in hexadecimal; None where all of it was UTF-8."""
    parts = [f"\\x{ord(c) - _MARK:02x}" if 0x80 <= ord(c) - _MARK <= 0xFF else c for c in text]  # noqa: PLR2004
    return "".join(parts) if any(len(part) > 1 for part in parts) else None


def _marked(data: bytes) -> bytes:
    escaped = data.decode("utf-8", "surrogateescape")  # byte b becomes the lone surrogate 0xDC00 + b
    return "".join(chr(_MARK + ord(c) - 0xDC00) if "\udc80" <= c <= "\udcff" else c for c in escaped).encode("utf-8")


def _whole_characters(data: bytes) -> tuple[bytes, bytes]:
    """Return `data` up to a character that is cut off at its end, and that beginning of a character."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:  # leads a character of two to four bytes  # noqa: PLR2004
            length = 2 + (byte >= 0xE0) + (byte >= 0xF0)  # noqa: PLR2004
            return (data[:-back], data[-back:]) if length > back else (data, b"")
        if byte < 0x80:  # noqa: PLR2004
            break
    return data, b""


def _is_utf8(data: bytes) -> bool:
    import pyarrow as pa  # noqa: PLC0415

    offsets = pa.py_buffer(memoryview(bytearray(len(data).to_bytes(4, "little").rjust(8, b"\0"))))
    try:
        # Arrow looks at many bytes at a time; Python's decoder would take a tenth of a conversion.
        pa.StringArray.from_buffers(1, offsets, pa.py_buffer(data)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
