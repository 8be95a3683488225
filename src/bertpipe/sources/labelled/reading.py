"""Texts with a label each, from a table: CSV, JSON lines or Parquet."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.file_kinds import JSON_LINES_SUFFIXES, FileKind, kind_of
from bertpipe.sources.text.documents.decoding import read_lines
from bertpipe.sources.text.documents.streams import LARGEST_DOCUMENT, ignore_bytes, open_file, unpacked
from bertpipe.sources.text.sentences import without_line_break_tags

_CSV_SUFFIX, _PARQUET_SUFFIX = ".csv", ".parquet"
_SUFFIXES = (_CSV_SUFFIX, *JSON_LINES_SUFFIXES, _PARQUET_SUFFIX)
_SHOWN_COLUMNS = 10
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
"""What JSON can write and UTF-8 cannot, and NUL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledText:
    """A text, what it is called by, and where it stands."""

    text: str
    """Without HTML's line breaks, as `prepare` reads texts; not empty."""
    label: str
    place: str
    """What messages call it: file and line, or file and row."""


def read_labelled(path: Path, *, text_field: str, label_field: str) -> list[LabelledText]:
    """Return the rows of a `.csv` (with a header), `.jsonl` or `.parquet` file, in order.

    The first two may be packed as `.gz` or `.zst`, and are UTF-8. Labels are strings, whole numbers or booleans: all
    are held as strings, `true` and `false` as JSON writes them, so that the same label is equal in files of two kinds.

    Raises:
        MissingInputError: there is no such file.
        DataError: it is of another kind, damaged or not UTF-8; it lacks a column, has no rows, or a row without text
            or label. The message names the line, or the row of Parquet, counted from 1.
    """
    if not path.is_file():
        raise MissingInputError(f"{path} does not exist: name a labelled file, CSV, JSON lines or Parquet")
    kind = kind_of(path.name)
    fields = (text_field, label_field)
    if kind.suffix == _PARQUET_SUFFIX and kind.packing is None:
        found = _parquet_rows(path, fields)
    elif kind.suffix == _CSV_SUFFIX:
        found = _csv_rows(path, kind, fields)
    elif kind.suffix in JSON_LINES_SUFFIXES:
        found = _json_rows(path, kind, fields)
    else:
        raise DataError(f"{path} has none of the suffixes {', '.join(_SUFFIXES)}: name it by what it holds")
    rows = [_labelled(place, text, label, fields) for place, text, label in found]
    if not rows:
        raise DataError(f"{path} has no rows: it needs texts of two classes or more")
    return rows


_Found = Iterator[tuple[str, object, object]]
"""Place, text and label of each row, as they stand in the file."""


def _labelled(place: str, text: object, label: object, fields: tuple[str, str]) -> LabelledText:
    if not isinstance(text, str):
        raise DataError(f"{place}: {fields[0]!r} is {_kind(text)}, expected a text: mend or drop the row")
    plain = without_line_break_tags(text)
    if not plain.strip():
        raise DataError(f"{place}: {fields[0]!r} is empty: mend or drop the row")
    if label is None or label == "":
        raise DataError(f"{place}: {fields[1]!r} is empty, and each text needs a label: mend or drop the row")
    if not isinstance(label, str | int):  # a boolean is an int
        raise DataError(
            f"{place}: {fields[1]!r} is {_kind(label)}, and labels are strings, whole numbers or booleans: "
            f"write the class's name or number"
        )
    name = json.dumps(label) if isinstance(label, bool) else str(label)
    if wrong := _NOT_TEXT.search(plain) or _NOT_TEXT.search(name):
        raise DataError(f"{place} holds {wrong[0]!r}, which no text has: mend or drop the row")
    return LabelledText(text=plain, label=name, place=place)


def _csv_rows(path: Path, kind: FileKind, fields: tuple[str, str]) -> _Found:
    csv.field_size_limit(LARGEST_DOCUMENT)
    reader = csv.reader((f"{line}\n" for _, line in _lines(path, kind)), strict=True)
    line = 1
    try:
        header = next(reader, [])
        text_at, label_at = (_column(field, header, str(path)) for field in fields)
        line = reader.line_num + 1
        for cells in reader:
            place, line = f"{path}:{line}", reader.line_num + 1
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{place} has {len(cells)} fields and the header {len(header)}: a text with a comma, a quote or a "
                    f"line end in it stands in double quotes, and quotes within are doubled"
                )
            yield place, cells[text_at], cells[label_at]
    except csv.Error as error:
        raise DataError(f"{path}:{line} is not CSV ({error}): is a quote never closed?") from error


def _json_rows(path: Path, kind: FileKind, fields: tuple[str, str]) -> _Found:
    for number, line in _lines(path, kind):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise DataError(f"{place} is {_kind(content)}, expected a JSON object with {fields[0]!r} and {fields[1]!r}")
        for field in fields:
            _column(field, list(content), place)
        yield place, content[fields[0]], content[fields[1]]


def _parquet_rows(path: Path, fields: tuple[str, str]) -> _Found:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with pq.ParquetFile(path) as file:
            for field in fields:
                _column(field, file.schema_arrow.names, str(path))
            number = 0
            for batch in file.iter_batches(columns=list(fields), use_threads=False):
                texts, labels = (batch.column(field).to_pylist() for field in fields)
                for text, label in zip(texts, labels, strict=True):
                    number += 1
                    yield f"{path}, row {number}", text, label
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error}): fetch or write it again") from error


def _lines(path: Path, kind: FileKind) -> Iterator[tuple[int, str]]:
    with (
        open_file(path, ignore_bytes) as stream,
        unpacked(stream, kind.packing, origin=str(path), packed_size=path.stat().st_size) as text,
    ):
        yield from read_lines(text, str(path))


def _column(field: str, names: list[str], place: str) -> int:
    """Return which of the columns has a name."""
    if names.count(field) == 1:
        return names.index(field)
    if field in names:
        raise DataError(f"{place} has {names.count(field)} columns {field!r}: leave one")
    shown = [repr(name) for name in names[:_SHOWN_COLUMNS]] + ["…"] * (len(names) > _SHOWN_COLUMNS)
    raise DataError(
        f"{place} has no column {field!r}, it has {', '.join(shown) or 'none at all'}: "
        f"set probe.text_field and probe.label_field to the columns of text and label"
    )


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", bool: "a boolean"}
    if isinstance(value, float):
        return f"{value}"
    return "null" if value is None else names.get(type(value), f"of the type {type(value).__name__}")
