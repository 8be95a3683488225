"""Many inputs from a file or a pipe, one per line."""

import io
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TextIO

from bertpipe.core.errors import InputError, MissingInputError
from bertpipe.core.file_kinds import BYTE_ORDER_MARK, JSON_LINES_SUFFIXES, LFS_POINTER, Packing, is_hidden, kind_of
from bertpipe.sources.text.documents.decoding import LATIN_ADVICE, guess

STANDARD_INPUT = "-"
_LONGEST_LINE = 1 << 24
"""Characters; the end of a longer one may never come, as in /dev/zero."""
_JSON_SUFFIXES = (*JSON_LINES_SUFFIXES, ".json")
_NOT_LINES = (".csv", ".parquet")
_UNPACKERS: dict[Packing, str] = {"gz": "zcat", "zst": "zstdcat", "bz2": "bzcat", "xz": "xzcat"}
_ONE_A_LINE = "write one object per line (jq -c '.[]' OLD > NEW)"
_Reader = Callable[[str, Sequence[str]], tuple[object, tuple[str, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of input, or its error."""

    number: int
    """Counted from 1, with empty lines."""
    given: object
    """The JSON of the line, or its text; with an error, what could be read of it."""
    values: tuple[str, ...]
    """The requested fields, in order; empty with an error."""
    error: str | None = None


def one_input(values: tuple[str, ...], fields: Sequence[str]) -> Line:
    """Return an input from the command line as a line."""
    return Line(number=1, given=dict(zip(fields, values, strict=True)), values=values)


def blocks_of_lines(source: str, fields: Sequence[str], *, size: int) -> Iterator[list[Line]]:
    """Yield the lines of a file, a folder, or standard input (`-`), in blocks of at most `size`, without empty lines.

    A file has JSON lines if its suffix is .jsonl, .ndjson or .json, else plain text; for standard input the first line
    decides. A JSON line is an object with the fields, or a string if there is one field; a line of plain text is the
    one field, or two separated by a tab. A folder's files, of one kind, are read one after the other by their names,
    hidden ones left out, and their lines are counted as those of one file.

    Raises:
        MissingInputError: there is no such file.
        InputError: a file is packed, no text or cannot be read, a line has no end, or a folder has files of both kinds.
    """
    files = [] if source == STANDARD_INPUT else _files(Path(source))
    is_json = kind_of(files[0].name).suffix in _JSON_SUFFIXES if files else None
    with _opened(files) as texts:
        lines = (
            line.replace(BYTE_ORDER_MARK, "").removesuffix("\n") for text in texts for line in _lines(text, source)
        )
        numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
        while block := list(islice(numbered, size)):
            if is_json is None:
                is_json = _begins_json(block[0][1].strip(), fields)
            read = _read_json if is_json else _read_text
            yield [_line(number, line, fields, read) for number, line in block]


def _files(path: Path) -> list[Path]:
    """Return the files to read: the one at a path, or those of a folder."""
    if not path.exists():
        raise MissingInputError(f"there is no file {path}: name one with one input per line, or - for standard input")
    files = [path]
    if path.is_dir():
        found = (file for file in path.rglob("*") if not file.is_dir())
        files = sorted(file for file in found if not is_hidden(str(file.relative_to(path))))
        if not files:
            raise MissingInputError(f"the folder {path} has no file: name files with one input per line")
    for file in files:
        kind = kind_of(file.name)
        if kind.container or kind.suffix in _NOT_LINES:
            raise InputError(f"{file} is not a file of lines: write what it holds as JSON lines, one input per line")
        if kind.packing:
            unpacker = _UNPACKERS[kind.packing]
            raise InputError(
                f"{file} is packed: unpack it, or pipe it in ({unpacker} {file.name} | bertpipe infer ...)"
            )
    if len({kind_of(file.name).suffix in _JSON_SUFFIXES for file in files}) > 1:
        raise InputError(f"{path} has files of JSON lines and others: name a folder with files of one kind")
    return files


def _begins_json(first: str, fields: Sequence[str]) -> bool:
    """Return whether a first line is JSON; plain text may begin with a quotation mark, too."""
    if not first.startswith('"') or len(fields) > 1:
        return first.startswith("{")
    try:
        json.loads(first)
    except ValueError:
        return False
    return True


@contextmanager
def _opened(files: Sequence[Path]) -> Iterator[Iterator[TextIO]]:
    """Yield the texts of files, or of standard input where there is none, each open until the next is asked for.

    Their line ends are newlines, and bytes that are not UTF-8 are surrogates.
    """
    if not files:
        text = _text(sys.stdin.buffer)
        try:
            yield iter([text])
        finally:
            text.detach()  # the wrapper would close it
        return
    with ExitStack() as stack:

        def texts() -> Iterator[TextIO]:
            for path in files:
                stack.close()
                try:
                    file = path.open("rb")
                except OSError as error:
                    raise InputError(
                        f"{path} cannot be read ({error.strerror}): name a file that you may read"
                    ) from error
                yield stack.enter_context(_text(file))

        yield texts()


def _lines(text: TextIO, source: str) -> Iterator[str]:
    is_first = True
    while line := text.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            raise InputError(
                f"{source} has a line of more than {_LONGEST_LINE:,} characters: give a file with one input per line"
            )
        if is_first:
            _check_beginning(line.encode("utf-8", errors="surrogateescape"), source)
        is_first = False
        yield line


def _check_beginning(head: bytes, source: str) -> None:
    """Refuse a file that is known not to be text, by its first line."""
    if head.startswith(LFS_POINTER):
        raise InputError(f"{source} is a pointer to a file that Git LFS keeps elsewhere: fetch it with `git lfs pull`")
    is_text = b"\0" not in head and not head.startswith(b"%PDF-")
    with suppress(UnicodeDecodeError):
        head.decode("utf-8")
        if is_text:
            return
    if said := guess(head):
        raise InputError(f"{'standard input' if source == STANDARD_INPUT else source} is not UTF-8 text: {said}")


def _text(file: BinaryIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape")


def _line(number: int, line: str, fields: Sequence[str], read: _Reader) -> Line:
    raw = line.encode("utf-8", errors="surrogateescape")
    text = raw.decode("utf-8", errors="replace")
    try:
        raw.decode("utf-8")
        if "\0" in text:
            raise _BadLineError("it holds a NUL character, which text does not have: is the file UTF-16?", text)
        given, values = read(text, fields)
    except UnicodeDecodeError as error:
        fault = f"it is not UTF-8 (byte {error.start + 1}): {LATIN_ADVICE}"
        return Line(number=number, given=text, values=(), error=fault)
    except _BadLineError as error:
        return Line(number=number, given=error.given, values=(), error=str(error))
    return Line(number=number, given=given, values=values)


class _BadLineError(InputError):
    def __init__(self, message: str, given: object) -> None:
        super().__init__(message)
        self.given = given


def _read_json(text: str, fields: Sequence[str]) -> tuple[object, tuple[str, ...]]:
    """Return the content of a JSON line, and its fields."""
    names = " and ".join(repr(field) for field in fields)
    try:
        given = json.loads(text, parse_constant=_refuse, parse_int=_integer, parse_float=_fraction)
    except (ValueError, RecursionError) as error:
        advice = _ONE_A_LINE if text.lstrip().startswith("[") else f"write an object with {names} on one line"
        raise _BadLineError(f"it is not JSON ({error}): {advice}", text) from error
    if isinstance(given, str) and len(fields) == 1:
        return given, (given,)
    if isinstance(given, list):
        raise _BadLineError(f"it is a list: {_ONE_A_LINE}", given)
    if not isinstance(given, dict):
        raise _BadLineError(f"it is not a JSON object: write one with {names}", given)
    for field in fields:
        if not isinstance(given.get(field), str):
            is_there = f"{field!r} is not a string" if field in given else f"it has no {field!r}"
            raise _BadLineError(f"{is_there}: write an object with {names}", given)
    return given, tuple(given[field] for field in fields)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > sys.int_info.default_max_str_digits:  # int() takes no more
        raise ValueError(f"it has a number of {len(digits):,} digits, write it as a string")
    return int(digits)


def _fraction(digits: str) -> float:
    if math.isinf(number := float(digits)):  # it could not be written again
        raise ValueError(f"{digits:.60} is too large a number, write it as a string")
    return number


def _read_text(text: str, fields: Sequence[str]) -> tuple[object, tuple[str, ...]]:
    """Return a line of plain text, and its fields."""
    values = (text,) if len(fields) == 1 else tuple(text.split("\t"))
    if len(values) != len(fields):
        raise _BadLineError(f"it has {len(values)} parts: write {' and '.join(fields)} with one tab between", text)
    return text, values
