"""The files of a folder, in the byte order of their names."""

import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bertpipe.core.errors import DataError
from bertpipe.core.file_kinds import is_hidden, shown
from bertpipe.sources.text.documents.streams import TextFile, open_file, unreadable


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
            files.append(_file(path, name, on_bytes))
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


def _file(path: Path, name: str, on_bytes: Callable[[int], None]) -> TextFile:
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{shown(str(path))} is neither a file nor a folder: take it away")
    opener = partial(open_file, path, on_bytes)
    size = status.st_size
    return TextFile(name=name, origin=shown(str(path)), size=size, stored_size=size, open=opener)
