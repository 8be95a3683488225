"""The members of a zip, in the byte order of their names."""

import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from bertpipe.core.errors import DataError
from bertpipe.core.file_kinds import is_hidden, shown
from bertpipe.sources.text.documents.limits import Expansion
from bertpipe.sources.text.documents.streams import (
    DAMAGE,
    ByteStream,
    CheckedStream,
    CountedFile,
    TextFile,
    damaged,
    ignore_bytes,
)

_ENCRYPTED_FLAG = 0x1


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
        DataError: it is damaged, or a member is encrypted, a link, or packed in a way that is not read.
    """
    origin = shown(str(path))
    with CountedFile(path, ignore_bytes) as file:
        try:
            archive = zipfile.ZipFile(cast("IO[bytes]", file))
        except DAMAGE as error:
            raise damaged(origin, error) from error
        with archive:
            members = sorted(archive.infolist(), key=lambda info: info.filename.encode("utf-8", "surrogatepass"))
            opened = _Zip(file, archive, Expansion(origin, path.stat().st_size))
            yield [
                _member(opened, info, f"{origin}!{shown(info.filename)}", on_bytes)
                for info in members
                if not info.filename.endswith("/") and not is_hidden(info.filename)
            ]


def _member(opened: _Zip, info: zipfile.ZipInfo, origin: str, on_bytes: Callable[[int], None]) -> TextFile:
    if info.flag_bits & _ENCRYPTED_FLAG:
        raise DataError(f"{origin} is encrypted: unpack the zip and read the folder, or zip it without a password")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        # Python unpacks the other methods without a bound on memory, or not at all.
        raise DataError(
            f"{origin} is packed with method {info.compress_type}, only {zipfile.ZIP_DEFLATED} (deflate) is read: "
            "unpack the zip and read the folder"
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DataError(f"{origin} is a link: unpack the zip and read the folder")
    return TextFile(
        name=info.filename,
        origin=origin,
        size=info.file_size,
        stored_size=info.compress_size,
        open=partial(_open_member, opened, info, origin, on_bytes),
    )


@contextmanager
def _open_member(
    opened: _Zip, info: zipfile.ZipInfo, origin: str, on_bytes: Callable[[int], None]
) -> Iterator[ByteStream]:
    told = 0

    def tell(count: int) -> None:
        nonlocal told
        told += count
        on_bytes(count)

    try:
        stream = opened.archive.open(info)
    except DAMAGE as error:
        raise damaged(origin, error) from error
    with stream:
        opened.file.on_bytes = tell  # not before: the header was read without being counted
        try:
            yield CheckedStream(stream, origin, Expansion(origin, info.compress_size), opened.expansion)
        finally:
            opened.file.on_bytes = ignore_bytes
    on_bytes(info.compress_size - told)
