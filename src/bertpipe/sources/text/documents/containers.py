"""The files of a folder and of a zip, in the byte order of their names, and those of a tar, in its own order."""

import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Self, cast

from bertpipe.core.artifacts import refuse_lfs_pointer
from bertpipe.core.errors import DataError
from bertpipe.core.file_kinds import Packing, is_hidden, shown
from bertpipe.sources.text.documents.streams import (
    CHUNK,
    DAMAGE,
    ZIP,
    Begun,
    ByteStream,
    CheckedStream,
    CountedFile,
    Expansion,
    TextFile,
    damaged,
    ignore_bytes,
    known_beginning,
    open_file,
    otherwise_named,
    unpacked,
    unreadable,
)

_LARGEST_HEADER = 1 << 20
"""Bytes of one header: a long name or pax attributes; a header may claim any size and is held in memory."""
_MAGIC, _MAGIC_AT = b"ustar", 257
"""What every tar since 1988 has in its first header."""
_ENCRYPTED_FLAG = 0x1
_METHODS = {6: "implode", 9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 98: "PPMd"}


def folder_files(folder: Path, on_bytes: Callable[[int], None]) -> list[TextFile]:
    """Return every file below `folder`, hidden ones left out, in the byte order of their relative names.

    Links are followed. A folder that several links lead to is read once, under the first name; so a link to a folder
    above it ends there.

    Raises:
        DataError: something cannot be read, or is neither a file nor a folder; a link to nothing is the first.
    """
    files = list[TextFile]()
    visited = set[tuple[int, int]]()
    waiting = [(folder, "")]
    while waiting:
        path, name = waiting.pop()
        if name and not name.endswith("/"):
            files.append(_folder_file(path, name, on_bytes))
        elif (identity := _identity(path)) not in visited:
            visited.add(identity)
            waiting.extend((path / part, name + part) for part in reversed(_entries(path)))
    return files


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _entries(folder: Path) -> list[str]:
    """Return the sorted names in a folder; those of folders end with `/`, and so sort as the names in them do."""
    try:
        names = [path.name + "/" * path.is_dir() for path in folder.iterdir() if not is_hidden(path.name)]
    except OSError as error:
        raise unreadable(folder, error) from error
    return sorted(names, key=os.fsencode)


def _folder_file(path: Path, name: str, on_bytes: Callable[[int], None]) -> TextFile:
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{shown(str(path))} is neither a file nor a folder: remove it")
    opener = partial(open_file, path, on_bytes)
    size = status.st_size
    return TextFile(name=name, origin=shown(str(path)), size=size, stored_size=size, open=opener)


def tar_files(path: Path, packing: Packing | None, on_bytes: Callable[[int], None]) -> Iterator[TextFile]:
    """Yield the files of a tar, hidden ones left out, in its order; each opens until the next is asked for.

    Raises:
        DataError: it is not a tar, is damaged or cut off, has something after its end, a name twice, or a member that
            is neither a file nor a folder.
    """
    origin = shown(str(path))
    size = path.stat().st_size
    with (
        open_file(path, on_bytes) as packed,
        unpacked(packed, packing, origin=origin, packed_size=size) as stream,
    ):
        begun = Begun(stream)
        if not begun.head.startswith(_MAGIC, _MAGIC_AT) and known_beginning(begun.head):
            raise otherwise_named(begun.head, "a tar", origin)
        forward, names = _Forward(begun), set[int]()
        for archive, info in _tar_members(forward, origin):
            name = info.name.removeprefix("./")
            if not info.isdir() and not is_hidden(name):
                if (number := hash(name)) in names:  # of a name that would take several times the memory
                    raise DataError(
                        f"{origin}!{shown(name)} is there twice (tar -r and -u add it again, tar -A another tar's): "
                        "unpack the tar, which leaves the last one, and read the folder; or rename one"
                    )
                names.add(number)
                yield _tar_file(archive, info, name, f"{origin}!{shown(name)}")
        _check_end(forward, origin)


def _tar_members(forward: "_Forward", origin: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    try:
        archive = tarfile.TarFile(fileobj=cast("IO[bytes]", forward), tarinfo=_StrictTarInfo)
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined] # it would keep one for each file of the tar
            yield archive, info
    except DAMAGE as error:
        raise damaged(origin, error) from error


def _tar_file(archive: tarfile.TarFile, info: tarfile.TarInfo, name: str, origin: str) -> TextFile:
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
            raise DataError(
                f"{origin} has more after its end (were several tars joined?): unpack it and read the folder"
            )


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


@dataclass(frozen=True, slots=True)
class _Zip:
    """An open zip."""

    file: CountedFile
    archive: zipfile.ZipFile
    expansion: Expansion
    """Of all members together: several may share their packed bytes."""


@contextmanager
def open_zip(path: Path, on_bytes: Callable[[int], None]) -> Iterator[list[TextFile]]:
    """Yield the files of a zip, hidden ones left out, in the byte order of their names; they open while it is open.

    Raises:
        DataError: it is damaged, or a member is encrypted, a link, there twice with different contents, or packed in a
            way that is not read.
    """
    origin = shown(str(path))
    with CountedFile(path, ignore_bytes) as file:
        try:
            archive = zipfile.ZipFile(cast("IO[bytes]", file))
        except DAMAGE as error:
            file.seek(0)
            if known_beginning(head := file.read(CHUNK)) not in {ZIP, None}:
                raise otherwise_named(head, ZIP, origin) from error
            refuse_lfs_pointer(path)
            raise damaged(origin, error) from error
        with archive:
            opened = _Zip(file, archive, Expansion(origin, path.stat().st_size))
            members = {name: info for name, info in _zip_members(archive, origin) if not is_hidden(name)}
            yield [
                _zip_file(opened, members[name], name, f"{origin}!{shown(name)}", on_bytes)
                for name in sorted(members, key=lambda name: name.encode("utf-8", "surrogatepass"))
            ]


def _zip_members(archive: zipfile.ZipFile, origin: str) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """Yield the name of each file, with `/` between its parts also where Windows wrote a backslash."""
    sums: dict[str, int] = {}
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        if name.endswith("/") or stat.S_ISDIR(info.external_attr >> 16):
            continue
        if sums.setdefault(name, info.CRC) != info.CRC:
            raise DataError(
                f"{origin}!{shown(name)} is there twice, with different contents: unpack the zip, keep the one that is "
                "meant, and read the folder"
            )
        yield name, info


def _zip_file(opened: _Zip, info: zipfile.ZipInfo, name: str, origin: str, on_bytes: Callable[[int], None]) -> TextFile:
    if info.flag_bits & _ENCRYPTED_FLAG:
        raise DataError(f"{origin} is encrypted: unpack the zip and read the folder, or zip it without a password")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        # Python unpacks the other methods without a bound on memory, or not at all.
        method = _METHODS.get(info.compress_type, "unknown")
        raise DataError(
            f"{origin} is packed with method {info.compress_type} ({method}), only {zipfile.ZIP_DEFLATED} (deflate) is "
            "read: unpack the zip and read the folder"
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DataError(f"{origin} is a link: unpack the zip and read the folder")
    return TextFile(
        name=name,
        origin=origin,
        size=info.file_size,
        stored_size=info.compress_size,
        open=partial(_open_member, opened, info, origin, on_bytes),
    )


@contextmanager
def _open_member(
    opened: _Zip, info: zipfile.ZipInfo, origin: str, on_bytes: Callable[[int], None]
) -> Iterator[ByteStream]:
    reported = 0

    def report(count: int) -> None:
        nonlocal reported
        reported += count
        on_bytes(count)

    try:
        stream = opened.archive.open(info)
    except DAMAGE as error:
        raise damaged(origin, error) from error
    with stream:
        opened.file.on_bytes = report  # not before: the header was read without being counted
        try:
            yield CheckedStream(stream, origin, Expansion(origin, info.compress_size), opened.expansion)
        finally:
            opened.file.on_bytes = ignore_bytes
    on_bytes(info.compress_size - reported)
