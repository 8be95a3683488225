"""The formats of text files: how the bytes of one file become documents.

A format is a function and an entry in `FORMATS`. White space alone is not a document.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bertpipe.core.errors import DataError, excerpt
from bertpipe.core.file_kinds import BYTE_ORDER_MARK, JSON_LINES_SUFFIXES, TEXT_SUFFIXES, FileKind
from bertpipe.core.params import TextFormat
from bertpipe.sources.text.documents.decoding import read_lines, read_text
from bertpipe.sources.text.documents.streams import LARGEST_DOCUMENT, ByteStream, too_large, utf8_size

_SHOWN_FIELDS = 10
_ONE_A_LINE = "write one object per line (jq -c . OLD > NEW, or jq -c '.[]' OLD > NEW of a list)"
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
"""What JSON can write and UTF-8 cannot, and NUL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text and where it comes from."""

    text: str
    """Holds more than white space, and no NUL; every line end of the source is a newline."""
    origin: str
    """Where it stands: `file`, `file:line`, `archive.zip!member` or `archive.zip!member:line`."""
    split: str | None
    """`train` or `test` where the corpus itself has splits; None elsewhere."""


Texts = Iterator[tuple[int | None, str]]
"""The texts of a file, each with a line by which it is found; None where it is all of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of text files."""

    read: Callable[[ByteStream, str, str], Texts]
    """Yields the texts of a file, of its bytes, the name that messages call it, and `prepare.field`; raises DataError
    for what it cannot read."""
    suffixes: tuple[str, ...] = ()
    """Of the files that `auto` reads in this format."""


def _file(stream: ByteStream, origin: str, _: str) -> Texts:
    """Yield the whole file."""
    pieces, size = [], 0
    for piece in read_text(stream, origin):
        pieces.append(piece)
        size += utf8_size(piece)
        if size > LARGEST_DOCUMENT:
            raise too_large(origin, None)
    yield None, "".join(pieces)


def _lines(stream: ByteStream, origin: str, _: str) -> Texts:
    """Yield each line."""
    yield from read_lines(stream, origin)


def _blocks(stream: ByteStream, origin: str, _: str) -> Texts:
    """Yield each block of lines between blank ones."""
    first, block, size = 0, list[str](), 0
    for number, line in read_lines(stream, origin):
        if not line.strip():
            yield first, "\n".join(block)
            block, size = [], 0
            continue
        if not block:
            first = number
        block.append(line)
        size += utf8_size(line) + 1
        if size > LARGEST_DOCUMENT:
            raise too_large(f"{origin}:{first}", None)
    yield first, "\n".join(block)


def _json_lines(stream: ByteStream, origin: str, field: str) -> Texts:
    """Yield one field of the JSON object on each line."""
    advice = "set field to the one that holds the text"
    for number, (text,) in json_fields(read_lines(stream, origin), origin, [field], advice=advice):
        what = f"{origin}:{number}: field {field!r}"
        if not isinstance(text, str):
            raise DataError(f"{what} is {type_name(text)}, expected a string: correct or drop the line")
        check_characters(text, what)
        yield number, text.replace(BYTE_ORDER_MARK, "").replace("\r\n", "\n").replace("\r", "\n")


def json_fields(
    lines: Iterator[tuple[int, str]], origin: str, names: Sequence[str], *, advice: str
) -> Iterator[tuple[int, list[Any]]]:
    """Yield the number of each line of JSON, and the values of some fields of its object; blank lines are left out.

    Raises:
        DataError: a line is not a JSON object; or it lacks a field, and `advice` says what to do.
    """
    for number, line in lines:
        if not line.strip():
            continue
        place = f"{origin}:{number}"
        try:
            content = json.loads(line, parse_int=_number)
        except (ValueError, RecursionError) as error:
            joined = " (were files joined without a line end?)" if getattr(error, "msg", "") == "Extra data" else ""
            raise DataError(f"{place} is not JSON: {error}{joined}; {_ONE_A_LINE}") from error
        if not isinstance(content, dict):
            expected = f"expected a JSON object with {' and '.join(names)}"
            raise DataError(f"{place} is {type_name(content)}, {expected}; {_ONE_A_LINE}")
        check_fields(names, list(content), place, advice=advice)
        yield number, [content[name] for name in names]


def check_fields(names: Sequence[str], found: list[str], origin: str, *, advice: str) -> None:
    """Raise DataError unless each name is found once among the fields; `advice` says what to do if one is missing."""
    for name in names:
        if found.count(name) > 1:
            raise DataError(f"{origin} has {found.count(name)} fields {excerpt(name)}: leave one")
        if name not in found:
            shown = [*map(excerpt, found[:_SHOWN_FIELDS]), *["…"] * (len(found) > _SHOWN_FIELDS)]
            there = ", ".join(shown) or "no field at all"
            raise DataError(f"{origin} has no field {excerpt(name)}, it has {there}: {advice}")


def check_characters(text: str, what: str) -> None:
    """Raise DataError if `text`, which messages call `what`, holds a character that no text has."""
    if wrong := _NOT_TEXT.search(text):
        raise DataError(f"{what} holds {wrong[0]!r}, which text cannot have: correct or drop the line")


def type_name(value: object) -> str:
    """Return what messages call the type of a value, in the words of JSON where it has one."""
    names = {dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), f"of the type {type(value).__name__}")


def _number(digits: str) -> float:
    return int(digits) if len(digits) <= sys.int_info.default_max_str_digits else float(digits)  # int() takes no more


FORMATS: dict[TextFormat, Format] = {
    "file": Format(read=_file),
    "blocks": Format(read=_blocks),
    "lines": Format(read=_lines),
    "jsonl": Format(read=_json_lines, suffixes=JSON_LINES_SUFFIXES),
}
"""Every value of `TextFormat` but `auto`."""
READ_SUFFIXES = TEXT_SUFFIXES + tuple(suffix for each in FORMATS.values() for suffix in each.suffixes)
"""Of the files that `auto` reads."""


def format_of(kind: FileKind, text_format: TextFormat, *, alone: bool) -> TextFormat:
    """Return what `auto` means for a file: by its suffix, else `blocks` if it was given alone, else `file`."""
    if text_format != "auto":
        return text_format
    by_suffix = (name for name, each in FORMATS.items() if kind.suffix in each.suffixes)
    return next(by_suffix, "blocks" if alone else "file")


def documents_in(
    stream: ByteStream, *, origin: str, file_format: Format, field: str, split: str | None
) -> Iterator[Document]:
    """Yield the documents of a file.

    Args:
        stream: its bytes, unpacked.
        origin: what messages call it.
        file_format: how they become documents.
        field: the text's field in JSON.
        split: the split of all of them.

    Raises:
        DataError: the bytes are not UTF-8 text, a document is too large, or a line is not the JSON it should be.
    """
    for line, text in file_format.read(stream, origin, field):
        if text.strip():
            yield Document(text=text, origin=origin if line is None else f"{origin}:{line}", split=split)
