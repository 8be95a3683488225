"""Texts with a label each, from a table: CSV, JSON lines or Parquet."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.file_kinds import JSON_LINES_SUFFIXES, FileKind, kind_of
from bertpipe.sources.text.documents.decoding import read_lines
from bertpipe.sources.text.documents.formats import check_characters, check_fields, json_fields, type_name
from bertpipe.sources.text.documents.streams import LARGEST_DOCUMENT, ignore_bytes, open_file, unpacked
from bertpipe.sources.text.sentences import without_line_break_tags

_CSV_SUFFIX, _PARQUET_SUFFIX = ".csv", ".parquet"
_SUFFIXES = (_CSV_SUFFIX, *JSON_LINES_SUFFIXES, _PARQUET_SUFFIX)
_ADVICE = "set probe.text_field and probe.label_field to the fields of text and label"


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
        fault = "is a folder" if path.is_dir() else "does not exist"
        raise MissingInputError(f"{path} {fault}: name a labelled file, CSV, JSON lines or Parquet")
    kind, fields = kind_of(path.name), (text_field, label_field)
    if kind.suffix == _PARQUET_SUFFIX and kind.packing is None:
        found = _parquet_rows(path, fields)
    elif kind.suffix in (_CSV_SUFFIX, *JSON_LINES_SUFFIXES):
        found = _rows_of_lines(path, kind, fields)
    else:
        raise DataError(f"{path} has none of the suffixes {', '.join(_SUFFIXES)}: name it by what it holds")
    rows = [_labelled(place, text, label, fields) for place, text, label in found]
    if not rows:
        raise DataError(f"{path} has no rows: it needs texts of two classes or more")
    return rows


_Fields = tuple[str, str]
_Found = Iterator[tuple[str, object, object]]
"""Place, text and label of each row, as they stand in the file."""


def _labelled(place: str, text: object, label: object, fields: _Fields) -> LabelledText:
    text_is, label_is = (f"{place}: {field!r}" for field in fields)
    if not isinstance(text, str):
        raise DataError(f"{text_is} is {type_name(text)}, expected a text: correct or drop the row")
    plain = without_line_break_tags(text)
    if not plain.strip():
        raise DataError(f"{text_is} is empty: correct or drop the row")
    if label is None or not str(label).strip():
        raise DataError(f"{label_is} is empty, and each text needs a label: correct or drop the row")
    if not isinstance(label, str | int):  # a boolean is an int
        shown = label if isinstance(label, float) else type_name(label)
        raise DataError(
            f"{label_is} is {shown}, and labels are strings, whole numbers or booleans: write the class's name"
        )
    name = json.dumps(label) if isinstance(label, bool) else str(label)
    check_characters(plain, text_is)
    check_characters(name, label_is)
    return LabelledText(text=plain, label=name, place=place)


def _rows_of_lines(path: Path, kind: FileKind, fields: _Fields) -> _Found:
    origin = str(path)
    with (
        open_file(path, ignore_bytes) as packed,
        unpacked(packed, kind.packing, origin=origin, packed_size=path.stat().st_size) as stream,
    ):
        lines = read_lines(stream, origin)
        if kind.suffix == _CSV_SUFFIX:
            yield from _csv_rows(lines, origin, fields)
        else:
            for number, (text, label) in json_fields(lines, origin, fields, advice=_ADVICE):
                yield f"{origin}:{number}", text, label


def _csv_rows(lines: Iterator[tuple[int, str]], origin: str, fields: _Fields) -> _Found:
    csv.field_size_limit(LARGEST_DOCUMENT)
    reader = csv.reader((f"{line}\n" for _, line in lines), strict=True)
    line = 1
    try:
        header = next(reader, [])
        advice = _ADVICE if len(header) != 1 else "separate the fields with commas"
        check_fields(fields, header, origin, advice=advice)
        text_at, label_at = map(header.index, fields)
        line = reader.line_num + 1
        for cells in reader:
            place, line = f"{origin}:{line}", reader.line_num + 1
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{place} has {len(cells)} fields and the header {len(header)}: a text with a comma, a quote or a "
                    f"line end in it stands in double quotes, and quotes within are doubled"
                )
            yield place, cells[text_at], cells[label_at]
    except csv.Error as error:
        raise DataError(f"{origin}:{line} is not CSV ({error}): is a quote never closed?") from error


def _parquet_rows(path: Path, fields: _Fields) -> _Found:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with path.open("rb") as opened, pq.ParquetFile(opened) as file:  # of a name, pyarrow reads UTF-8 alone
            check_fields(fields, file.schema_arrow.names, str(path), advice=_ADVICE)
            table = file.read(columns=list(fields), use_threads=False)
        table.validate(full=True)  # strings that are not UTF-8 are read without an error
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error}): fetch or write it again") from error
    for number, row in enumerate(zip(*(table[field].to_pylist() for field in fields), strict=True), start=1):
        yield f"{path}, row {number}", *row
