"""Texts with a label each, from a table: CSV, JSON lines or Parquet."""

import csv
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from bertpipe.core.artifacts import file_sha256
from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.file_kinds import BYTE_ORDER_MARK, JSON_LINES_SUFFIXES, FileKind, kind_of
from bertpipe.sources.text.documents.containers import folder_files
from bertpipe.sources.text.documents.decoding import read_lines
from bertpipe.sources.text.documents.formats import check_characters, check_fields, json_fields, type_name
from bertpipe.sources.text.documents.streams import LARGEST_DOCUMENT, ignore_bytes, open_file, unpacked
from bertpipe.sources.text.sentences import without_line_break_tags

_CSV_SUFFIX, _PARQUET_SUFFIX = ".csv", ".parquet"
_JSON_SUFFIXES = (*JSON_LINES_SUFFIXES, ".json")
_SUFFIXES = (_CSV_SUFFIX, *_JSON_SUFFIXES, _PARQUET_SUFFIX)
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""The value of a field without one, in the name of a folder."""
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
    """Return the rows of a `.csv` (with a header), `.jsonl` or `.parquet` file, or of a folder of such files, in order.

    The first two may be packed as `.gz`, `.zst`, `.bz2` or `.xz`, and are UTF-8. Labels are strings, whole numbers or
    booleans: all are held as strings without blanks around them, `true` and `false` as JSON writes them, so that the
    same label is equal in files of two kinds.

    A folder is one table, as Spark and Hive write it: its files are parts in the order of their names, hidden ones left
    out, and a folder `label=good` below it gives that field to all rows of its files.

    Raises:
        MissingInputError: there is nothing at `path`.
        DataError: a file is of another kind, damaged or not UTF-8; it lacks a column, there are no rows, or a row is
            without text or label. The message names the line, or the row of Parquet, counted from 1.
    """
    if not path.exists():
        raise MissingInputError(f"{path} does not exist: name a labelled file or folder, CSV, JSON lines or Parquet")
    fields = (text_field, label_field)
    rows = [
        _labelled(place, text, label, fields)
        for part, partition in _parts(path)
        for place, (text, label) in _rows(part, partition, fields)
    ]
    if not rows:
        raise DataError(f"{path} has no rows: it needs texts of two classes or more")
    return rows


def labelled_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and hashes of a folder's files."""
    if path.is_file():
        return file_sha256(path)
    lines = (f"{file_sha256(part)}  {part.relative_to(path)}\n" for part, _ in _parts(path))
    return sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


_Fields = tuple[str, str]
_Partition = Mapping[str, str | None]
"""The fields that the names of folders give to all rows of a file."""
_Found = Iterator[tuple[str, list[object]]]
"""The place of each row, and the values of some of its fields as they stand in the file."""


def _parts(path: Path) -> Iterator[tuple[Path, _Partition]]:
    """Yield the files of a table."""
    if not path.is_dir():
        yield path, {}
        return
    for file in folder_files(path, ignore_bytes):
        folders = (folder.partition("=") for folder in PurePosixPath(file.name).parts[:-1])
        values = {
            name: None if value == _HIVE_NULL else unquote(value) for name, is_field, value in folders if is_field
        }
        if file.size or kind_of(file.name).suffix == _PARQUET_SUFFIX:  # a worker without rows leaves an empty part
            yield path / file.name, values


def _rows(path: Path, partition: _Partition, fields: _Fields) -> _Found:
    """Yield the place and the fields of each row of a file; those that the partition has are not in the file."""
    kind, names = kind_of(path.name), [field for field in fields if field not in partition]
    if kind.suffix == _PARQUET_SUFFIX and kind.packing is None:
        found = _parquet_rows(path, names)
    elif kind.suffix in (_CSV_SUFFIX, *_JSON_SUFFIXES):
        found = _rows_of_lines(path, kind, names)
    else:
        raise DataError(
            f"{path} has none of the suffixes {', '.join(_SUFFIXES)}: name it by what it holds, or write one of them"
        )
    for place, values in found:
        row = {**partition, **dict(zip(names, values, strict=True))}
        yield place, [row[field] for field in fields]


def _labelled(place: str, text: object, label: object, fields: _Fields) -> LabelledText:
    text_is, label_is = (f"{place}: {field!r}" for field in fields)
    if not isinstance(text, str):
        raise DataError(f"{text_is} is {type_name(text)}, expected a text: correct or drop the row")
    plain = without_line_break_tags(text.replace(BYTE_ORDER_MARK, ""))
    if not plain.strip():
        raise DataError(f"{text_is} is empty: correct or drop the row")
    if label is None or not str(label).strip():
        raise DataError(f"{label_is} is empty, and each text needs a label: correct or drop the row")
    if not isinstance(label, str | int):  # a boolean is an int
        shown = label if isinstance(label, float) else type_name(label)
        raise DataError(
            f"{label_is} is {shown}, and labels are strings, whole numbers or booleans: write the class's name"
        )
    name = json.dumps(label) if isinstance(label, bool) else unicodedata.normalize("NFC", str(label).strip())
    check_characters(plain, text_is)
    check_characters(name, label_is)
    return LabelledText(text=plain, label=name, place=place)


def _rows_of_lines(path: Path, kind: FileKind, fields: Sequence[str]) -> _Found:
    origin = str(path)
    with (
        open_file(path, ignore_bytes) as packed,
        unpacked(packed, kind.packing, origin=origin, packed_size=path.stat().st_size) as stream,
    ):
        lines = read_lines(stream, origin)
        if kind.suffix == _CSV_SUFFIX:
            yield from _csv_rows(lines, origin, fields)
        else:
            for number, values in json_fields(lines, origin, fields, advice=_ADVICE):
                yield f"{origin}:{number}", values


def _csv_rows(lines: Iterator[tuple[int, str]], origin: str, fields: Sequence[str]) -> _Found:
    csv.field_size_limit(LARGEST_DOCUMENT)
    reader = csv.reader((f"{line}\n" for _, line in lines), strict=True)
    line = 1
    try:
        header = next(filter(None, reader), [])
        advice = _ADVICE if len(header) != 1 else "begin with their names, separated by commas"
        check_fields(fields, header, origin, advice=advice)
        columns = [header.index(field) for field in fields]
        line = reader.line_num + 1
        for cells in reader:
            place, line = f"{origin}:{line}", reader.line_num + 1
            if not cells or cells == header:  # several files were joined
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{place} has {len(cells)} fields and the header {len(header)}: a text with a comma, a quote or a "
                    f"line end in it stands in double quotes, right after the comma, and quotes within are doubled"
                )
            yield place, [cells[column] for column in columns]
    except csv.Error as error:
        raise DataError(
            f"{origin}:{line} is not CSV ({error}): is a quote never closed, or one within a text not doubled?"
        ) from error


def _parquet_rows(path: Path, fields: Sequence[str]) -> _Found:
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
        place = f"{path}, row {number}"
        yield place, [_decoded(value, f"{place}: {name!r}") for name, value in zip(fields, row, strict=True)]


def _decoded(value: object, what: str) -> object:
    """Return a value of Parquet; its bytes as text, because older writers do not mark strings as such."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{what} is not UTF-8 (byte {error.start + 1}): correct or drop the row") from error
