"""The bytes of a file as they are read: counted, unpacked on the way, within limits, and with errors that name it."""

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import error as StructError
from tarfile import TarError
from typing import TYPE_CHECKING, Protocol, cast

from bertpipe.core.artifacts import refuse_lfs_pointer
from bertpipe.core.errors import DataError
from bertpipe.core.file_kinds import LFS_POINTER, Packing, shown

if TYPE_CHECKING:
    from typing_extensions import Buffer

CHUNK = 1 << 16
"""Bytes asked of a stream at a time."""
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    LookupError,
    ArithmeticError,
    StructError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    TarError,
)
"""What the libraries raise over bytes that are not what they should be."""
_GZIP, _ZSTANDARD, _BZIP2, _XZ = "gzip", "Zstandard", "bzip2", "xz"
_CALLED: dict[Packing, str] = {"gz": _GZIP, "zst": _ZSTANDARD, "bz2": _BZIP2, "xz": _XZ}
ZIP = "a zip file"
_MARK = 4
"""Bytes of the longest mark that a packed file begins with."""
_SKIPPABLE = tuple(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16))
"""What a Zstandard file may begin with before its first frame."""
_KNOWN_BEGINNINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # begins as UTF-16 does, so it comes first
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
    b"PK\x03\x04": ZIP,
    b"\x1f\x8b": _GZIP,
    b"\x28\xb5\x2f\xfd": _ZSTANDARD,
    **dict.fromkeys(_SKIPPABLE, _ZSTANDARD),
    b"BZh": _BZIP2,
    b"\xfd7zX": _XZ,
    b"\x1f\x9d": "compress (.Z)",
    b"\x04\x22\x4d\x18": "lz4",
    b"7z\xbc\xaf": "7-Zip",
    **dict.fromkeys((b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML"), "a web page"),
    b"Rar!": "RAR",
    b"%PDF": "PDF",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"ORC": "ORC",
    b"Obj\x01": "Avro",
    b"SQLite format 3": "an SQLite database",
    b"\xd0\xcf\x11\xe0": "an Office document",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
}
LARGEST_DOCUMENT = 64 * 2**20
"""UTF-8 bytes of one document, of one line of JSON, and of one row of CSV."""
FREE_EXPANSION = 100_000_000
"""Bytes to which anything may expand, however small it is when packed."""
LARGEST_EXPANSION = 200
"""Times its packed size to which a file may expand beyond that; text shrinks 3 to 10 times, deflate 1000 at most."""


class ByteStream(Protocol):
    """Bytes from beginning to end."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none only at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """A file of a folder or an archive, or one that was given by itself."""

    name: str
    """Below the folder or in the archive, with `/` between its parts."""
    origin: str
    """What messages call it."""
    size: int
    """Bytes when taken out of its archive; it may be packed by itself still."""
    stored_size: int
    """Bytes on the disk."""
    open: Callable[[], AbstractContextManager[ByteStream]]


def ignore_bytes(count: int) -> None:
    """Take a count and show nothing: what reading does when nobody watches."""


def damaged(origin: str, error: Exception) -> DataError:
    """Return the error of a file that its library cannot read."""
    reason = shown(str(error)) or type(error).__name__
    if "requires too much memory" in reason:  # pyarrow's limit, which it lets nobody raise
        return DataError(
            f"{origin} was packed with a window of more than 128 MiB (zstd --long), which is not read: unpack it with "
            "zstd -d --long=31 and read the result"
        )
    if "Dictionary mismatch" in reason:
        return DataError(f"{origin} was packed with a dictionary: unpack it with zstd -d -D DICTIONARY and read that")
    if isinstance(error, NotImplementedError):
        return DataError(f"{origin} is packed in a way that is not read ({reason}): unpack it and read the folder")
    return DataError(f"{origin} is damaged or cut off ({reason}): fetch or pack it again")


def unreadable(path: Path, error: OSError) -> DataError:
    """Return the error of a path that the system does not let us read."""
    reason = error.strerror or type(error).__name__
    return DataError(f"{shown(str(path))} cannot be read ({reason}): check the file and your rights to it")


class CountedFile(io.FileIO):
    """A file on the disk that says how many of its bytes are read."""

    def __init__(self, path: Path, on_bytes: Callable[[int], None]) -> None:
        self.path, self.on_bytes = path, on_bytes
        try:
            super().__init__(path)
        except OSError as error:
            raise unreadable(path, error) from error

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most `size` bytes."""
        try:
            data = super().read(size)
        except OSError as error:
            raise unreadable(self.path, error) from error
        self.on_bytes(len(data))
        return data

    def readinto(self, buffer: "Buffer", /) -> int:
        """Fill `buffer` and return how many bytes that took."""
        try:
            count = super().readinto(buffer)
        except OSError as error:
            raise unreadable(self.path, error) from error
        self.on_bytes(count)
        return count


class Expansion:
    """Counts what a packed file expands to, and stops a bomb."""

    def __init__(self, origin: str, packed_size: int) -> None:
        self._origin, self._packed_size, self._size = origin, packed_size, 0

    def add(self, size: int) -> None:
        """Count `size` more bytes.

        Raises:
            DataError: they are more than the limits of this module allow.
        """
        self._size += size
        if self._size > max(FREE_EXPANSION, LARGEST_EXPANSION * self._packed_size):
            raise DataError(
                f"{self._origin} expands from {self._packed_size:,} to {self._size:,} bytes and "
                f"more, the limit is {LARGEST_EXPANSION} times: if it is text indeed, unpack it and read the result"
            )


class CheckedStream:
    """A library's stream whose errors are ours, and which may not expand too far."""

    def __init__(self, stream: ByteStream, origin: str, *expansions: Expansion) -> None:
        self._stream, self._origin, self._expansions = stream, origin, expansions
        self.closed = False
        """pyarrow asks for it, and calls `close`; the stream below is closed by who opened it."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none only at the end."""
        try:
            data = self._stream.read(size)
        except DAMAGE as error:
            raise damaged(self._origin, error) from error
        for expansion in self._expansions:
            expansion.add(len(data))
        return data

    def close(self) -> None:
        """Be read no more."""
        self.closed = True


@contextmanager
def open_file(path: Path, on_bytes: Callable[[int], None]) -> Iterator[ByteStream]:
    """Yield the bytes of a file on the disk, and tell `on_bytes` of them as they are read.

    Raises:
        DataError: it cannot be read, or is a pointer of Git LFS.
    """
    with io.BufferedReader(CountedFile(path, on_bytes), CHUNK) as stream:
        if stream.peek(CHUNK).startswith(LFS_POINTER):
            refuse_lfs_pointer(path)
        yield stream


@contextmanager
def unpacked(stream: ByteStream, packing: Packing | None, *, origin: str, packed_size: int) -> Iterator[ByteStream]:
    """Yield what a `.gz`, `.zst`, `.bz2` or `.xz` holds; the stream itself if it is not packed.

    Raises:
        DataError: it is empty; or, on reading, it is damaged, ends early or expands too far.
    """
    if packing is None:
        yield stream
        return
    if not packed_size:  # some libraries take it for a whole file without content
        raise damaged(origin, EOFError("it is empty"))
    begun = Begun(stream)
    # With less than a mark, the library says that it is cut off.
    if len(begun.head) >= _MARK and known_beginning(begun.head) != _CALLED[packing]:
        raise otherwise_named(begun.head, _CALLED[packing], origin)
    with closing(_opened(begun, packing)) as opened:
        yield CheckedStream(cast("ByteStream", opened), origin, Expansion(origin, packed_size))


def _opened(stream: "Begun", packing: Packing) -> "io.RawIOBase | gzip.GzipFile | _Joined":
    if packing == "gz":
        return gzip.GzipFile(fileobj=cast("io.BytesIO", stream), mode="rb")
    if packing == "zst":
        return _zstandard(stream)
    return _Joined(stream, bz2.BZ2Decompressor if packing == "bz2" else lzma.LZMADecompressor)


class _Joined:
    """What the bzip2 or xz streams of a file hold, one after the other.

    `BZ2File` and `LZMAFile` pass over whatever follows the first stream and is not another one.
    """

    def __init__(self, stream: ByteStream, decoder: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]) -> None:
        self._stream, self._decoder = stream, decoder
        self._current = decoder()

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none only at the end."""
        data = b""
        while not data:
            packed = b""
            if self._current.eof:
                packed = self._current.unused_data.lstrip(b"\0")  # xz pads with zeros
                while not packed and (more := self._stream.read(CHUNK)):
                    packed = more.lstrip(b"\0")
                if not packed:
                    return b""
                self._current = self._decoder()
            elif self._current.needs_input and not (packed := self._stream.read(CHUNK)):
                raise EOFError("it ends within its packed bytes")
            data = self._current.decompress(packed, size)
        return data

    def close(self) -> None:
        """Be read no more; the stream below is closed by who opened it."""


class Begun:
    """A stream whose first bytes are known."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream, self.closed = stream, False
        self.head = self._unread = stream.read(CHUNK)

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none only at the end."""
        if not self._unread:
            return self._stream.read(size)
        data, self._unread = self._unread[:size], self._unread[size:]
        return data

    def close(self) -> None:
        """Be read no more; the stream below is closed by who opened it."""
        self.closed = True


def otherwise_named(head: bytes, expected: str, origin: str) -> DataError:
    """Return the error of a file that does not begin as what its suffix says."""
    found = known_beginning(head)
    name = f"it looks like {found}" if found else "perhaps it is unpacked already"
    return DataError(f"{origin} is not {expected}, as its suffix says ({name}): name it by what it holds")


def known_beginning(head: bytes) -> str | None:
    """Return what a file may be by its first bytes; None if they are not known."""
    return next((name for beginning, name in _KNOWN_BEGINNINGS.items() if head.startswith(beginning)), None)


def _zstandard(stream: ByteStream) -> io.RawIOBase:
    import pyarrow as pa  # noqa: PLC0415

    return cast("io.RawIOBase", pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd"))


def utf8_size(text: str) -> int:
    """Return how many bytes `text` has in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8"))


def too_large(origin: str, size: int | None) -> DataError:
    """Return the error of a document above the limit; `size` in bytes, None if it was not read to its end."""
    found = f"more than {LARGEST_DOCUMENT:,}" if size is None else f"{size:,}"
    return DataError(
        f"{origin} has {found} bytes in one document, the limit is {LARGEST_DOCUMENT:,}: "
        "split it, or set text_format to blocks or lines if it holds many documents"
    )
