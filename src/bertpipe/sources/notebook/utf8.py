"""A stream of bytes as UTF-8: what is not UTF-8 is marked, so that it can be found and named later."""

import codecs
import io
from typing import BinaryIO, Final

_MARK: Final = 0x10FF00
"""A byte that is not UTF-8 becomes the private character of this number plus its own."""
MARK_LEAD: Final = 0xF4
"""The byte that each mark begins with; no other character of use does."""
_CHUNK = 1 << 20


class Utf8Source(io.RawIOBase):
    """A binary stream that hands out UTF-8 only, without a byte-order mark, and counts the quotes in it."""

    def __init__(self, raw: BinaryIO) -> None:
        self.quotes = 0
        self._raw = raw
        self._stopped = False
        self._cut = b""  # a character of which only the first bytes have been read
        self._ready = self._next(_CHUNK).removeprefix(codecs.BOM_UTF8)

    def readable(self) -> bool:
        """Return True, as Python's protocol of files wants."""
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
        """Be at the end from now on."""
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
