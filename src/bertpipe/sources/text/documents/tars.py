"""The files of a tar, in its own order, since it is read in one go."""

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self, cast

from bertpipe.core.errors import DataError
from bertpipe.core.file_kinds import Packing, is_hidden, shown
from bertpipe.sources.text.documents.streams import (
    CHUNK,
    DAMAGE,
    ByteStream,
    CheckedStream,
    TextFile,
    damaged,
    open_file,
    unpacked,
)

_LARGEST_HEADER = 1 << 20
"""Bytes of one header: a long name or pax attributes; a header may claim any size and is held in memory."""


def tar_files(path: Path, packing: Packing | None, on_bytes: Callable[[int], None]) -> Iterator[TextFile]:
    """Yield the files of a tar, hidden ones left out, in its order; each opens until the next is asked for.

    Raises:
        DataError: it is damaged or cut off, has something after its end, or a member is neither a file nor a folder.
    """
    origin = shown(str(path))
    size = path.stat().st_size
    with (
        open_file(path, on_bytes) as packed,
        unpacked(packed, packing, origin=origin, packed_size=size) as stream,
    ):
        forward = _Forward(stream)
        for archive, info in _members(forward, origin):
            name = info.name.removeprefix("./")
            if not info.isdir() and not is_hidden(name):
                yield _file(archive, info, name, f"{origin}!{shown(name)}")
        _check_end(forward, origin)


def _members(forward: "_Forward", origin: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    try:
        archive = tarfile.TarFile(fileobj=cast("IO[bytes]", forward), tarinfo=_StrictTarInfo)
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined] # it would keep one for each file of the tar
            yield archive, info
    except DAMAGE as error:
        raise damaged(origin, error) from error


def _file(archive: tarfile.TarFile, info: tarfile.TarInfo, name: str, origin: str) -> TextFile:
    if not info.isreg():
        kind = "a link" if info.issym() or info.islnk() else "neither a file nor a folder"
        raise DataError(f"{origin} is {kind}: unpack the tar and read the folder")

    @contextmanager
    def opener() -> Iterator[ByteStream]:
        content = archive.extractfile(info)
        assert content is not None, "it is a file"
        with content:
            yield CheckedStream(content, origin)

    return TextFile(name=name, origin=origin, size=info.size, stored_size=info.size, open=opener)


def _check_end(forward: "_Forward", origin: str) -> None:
    """Read what follows the mark of the end, so that checksums are compared too; it must be padding."""
    while data := forward.read(CHUNK):
        if data.strip(b"\0"):
            raise DataError(f"{origin} goes on after its end (were several tars joined?): unpack it, read the folder")


class _StrictTarInfo(tarfile.TarInfo):
    """A header that must be whole: TarFile takes a damaged or missing one for the end, and files would be lost."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        """Return the next header."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


class _Forward:
    """What TarFile needs of a file: it seeks, but only forward, by reading."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream, self._position = stream, 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._position:
            raise tarfile.ReadError("a header points backwards")
        while position > self._position and self.read(min(CHUNK, position - self._position)):
            pass
        return self._position

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        if size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes, the limit is {_LARGEST_HEADER:,}")
        parts: list[bytes] = []
        while size > 0 and (data := self._stream.read(size)):
            parts.append(data)
            size -= len(data)
            self._position += len(data)
        return b"".join(parts)
