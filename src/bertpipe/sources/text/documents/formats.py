"""The formats of text files: how the bytes of one file become documents.

A format is a function and an entry in `FORMATS`. White space alone is not a document.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bertpipe.core.errors import DataError
from bertpipe.core.file_kinds import JSON_LINES_SUFFIXES, TEXT_SUFFIXES, FileKind
from bertpipe.core.params import TextFormat
from bertpipe.sources.text.documents.decoding import read_lines, read_text
from bertpipe.sources.text.documents.streams import LARGEST_DOCUMENT, ByteStream, too_large, utf8_size

_SHOWN_FIELDS = 10
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
    for number, line in read_lines(stream, origin):
        if line.strip():
            yield number, _text_field(_json_object(line, f"{origin}:{number}"), f"{origin}:{number}", field)


def _json_object(line: str, origin: str) -> dict[str, Any]:
    try:
        # No number is used: as floats, none is too long for Python's limit on the digits of an int.
        content = json.loads(line, parse_int=float)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{origin} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{origin} is {_json_type(content)}, expected a JSON object with the text in one of its fields")
    return content


def _text_field(content: dict[str, Any], origin: str, field: str) -> str:
    if field not in content:
        names = [repr(name) for name in content]
        more = ["…"] if len(names) > _SHOWN_FIELDS else []
        there = ", ".join(names[:_SHOWN_FIELDS] + more) or "no field at all"
        raise DataError(f"{origin} has no field {field!r}, it has {there}: set field to the one that holds the text")
    text = content[field]
    if not isinstance(text, str):
        raise DataError(f"{origin}: field {field!r} is {_json_type(text)}, expected a string")
    if wrong := _NOT_TEXT.search(text):
        raise DataError(
            f"{origin}: field {field!r} holds {wrong[0]!r}, which text cannot have: correct or drop the line"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _json_type(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", float: "a number", bool: "a boolean"}
    return names.get(type(value), "null")


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
