"""Bytes to text: UTF-8 or an error that says where and what else it may be; every line end a newline."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

from bertpipe.core.errors import DataError
from bertpipe.core.file_kinds import BYTE_ORDER_MARK
from bertpipe.sources.text.documents.streams import (
    CHUNK,
    LARGEST_DOCUMENT,
    ByteStream,
    known_beginning,
    too_large,
    utf8_size,
)

_HEAD = 512
"""First bytes of a file that are kept to tell what it may be."""
_LINE_END = re.compile(r"\r\r?\n|\r")
"""Besides a newline. `\\r\\r\\n` is what text becomes that is converted to Windows' line ends twice."""

LATIN_ADVICE = "if it is Latin-1 or Windows-1252, convert it: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"


def read_text(stream: ByteStream, origin: str) -> Iterator[str]:
    """Yield a stream's text in pieces of any length, without byte order marks.

    Raises:
        DataError: a byte is not UTF-8, or a character is NUL; with line, byte and what the file may be.
    """
    state = _Decoding(origin)
    while chunk := stream.read(CHUNK):
        yield state.decode(chunk)
    yield state.decode(b"")


def read_lines(stream: ByteStream, origin: str) -> Iterator[tuple[int, str]]:
    """Yield each line and its number, from 1, without the newline.

    Raises:
        DataError: as `read_text`, or a line is above the limit of a document.
    """
    number, begun, size = 1, [""], 0
    for piece in read_text(stream, origin):
        rest, *lines = piece.split("\n")
        for line in lines:
            begun.append(rest)
            yield number, "".join(begun)
            number, begun, size, rest = number + 1, [], 0, line
        begun.append(rest)
        size += utf8_size(rest)
        if size > LARGEST_DOCUMENT:
            raise too_large(f"{origin}:{number}", None)
    if size:
        yield number, "".join(begun)


@dataclass(slots=True)
class _Decoding:
    """How far a file is decoded."""

    origin: str
    head: bytes = b""
    pending: bytes = b""
    """The beginning of a character that the last chunk cut off."""
    offset: int = 0
    """Where `pending` stands in the file."""
    line: int = 1
    returns: str = ""
    """The beginning of a line end that the last chunk may have cut off."""

    def decode(self, chunk: bytes) -> str:
        """Return the text of the next bytes; an empty chunk is the end."""
        self.head += chunk[: _HEAD - len(self.head)]
        data = self.pending + chunk
        try:
            text, used = codecs.utf_8_decode(data, "strict", not chunk)
        except UnicodeDecodeError as error:
            raise self._not_utf8(data, error) from error
        if "\0" in text:
            raise self._nul(text)
        text = self._with_newlines(text.replace(BYTE_ORDER_MARK, ""), final=not chunk)
        self.line += text.count("\n")
        self.pending, self.offset = data[used:], self.offset + used
        return text

    def _with_newlines(self, text: str, *, final: bool) -> str:
        text = self.returns + text
        end = len(text) if final else max(len(text.rstrip("\r")), len(text) - 2)
        self.returns = text[end:]
        return _LINE_END.sub("\n", text[:end]) if "\r" in text else text

    def _not_utf8(self, data: bytes, error: UnicodeDecodeError) -> DataError:
        before = data[: error.start].decode("utf-8")
        if error.reason == "unexpected end of data":
            hint = "it ends within a character: is it cut off?"
        else:
            hint = guess(self.head) or LATIN_ADVICE
        return self._error(before, f"byte 0x{data[error.start]:02x} is not UTF-8", hint)

    def _nul(self, text: str) -> DataError:
        before = text[: text.index("\0")]
        hint = guess(self.head) or (
            "it is not text, or it is UTF-16 without its mark; that converts: iconv -f UTF-16LE -t UTF-8 OLD > NEW"
        )
        return self._error(before, "a NUL character, which text does not have", hint)

    def _error(self, before: str, fault: str, hint: str) -> DataError:
        line = self.line + self._with_newlines(before, final=True).count("\n")
        offset = self.offset + utf8_size(before)
        return DataError(f"{self.origin}:{line}: {fault} (after {offset:,} bytes); {hint}")


def guess(head: bytes) -> str | None:
    """Return what a file that is not UTF-8 may be by its first bytes, and what to do; None if they are not known."""
    name = known_beginning(head)
    if name is None:
        return None
    if name.startswith("UTF"):
        return f"it looks like {name}, convert it: iconv -f {name} -t UTF-8 OLD > NEW"
    return f"it looks like {name}, not text: unpack or convert it, or give it the suffix that says so"
