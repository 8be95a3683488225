"""A path to its documents."""

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.file_kinds import FileKind, kind_of, shown
from bertpipe.core.params import TextFormat
from bertpipe.sources.text.documents.containers import folder_files, open_zip, tar_files
from bertpipe.sources.text.documents.formats import READ_SUFFIXES, Document, documents_in, format_of
from bertpipe.sources.text.documents.notebook import notebook_documents, notebook_members
from bertpipe.sources.text.documents.selection import Selected, check_names, of_split, select, select_in_turn
from bertpipe.sources.text.documents.streams import (
    LARGEST_DOCUMENT,
    ByteStream,
    TextFile,
    ignore_bytes,
    open_file,
    too_large,
    unpacked,
    unreadable,
)

_TABLES = (".json", ".csv", ".tsv")
"""Suffixes of text that is not prose; `auto` does not read it as such."""


def read_documents(
    path: Path,
    *,
    text_format: TextFormat,
    field: str,
    split: str | None = None,
    on_bytes: Callable[[int], None] = ignore_bytes,
) -> Iterator[Document]:
    """Yield the documents of a file, a folder or an archive, in a fixed order, as they are read.

    Args:
        path: what to read; the package's docstring says what it may be.
        text_format: how a file becomes documents. `auto` takes `.jsonl` and `.ndjson` as JSON lines, another file
            given by itself as blocks, and each file of a folder or an archive as one document.
        field: the field of a JSON object that holds the text.
        split: `train` or `test` of a corpus that has splits of its own: files of the other one are not opened. None
            reads both. What belongs to no split is read in any case.
        on_bytes: told how many bytes of the disk were read; `text_size` in all, once the last document is out.

    Raises:
        MissingInputError: there is nothing at `path`.
        DataError: something there cannot be read as text; with file, line where there is one, and what to do.
    """
    _check_path(path)
    where, kind = shown(str(path)), kind_of(path.name)
    if path.is_dir():
        yield from _listed(select(folder_files(path, on_bytes), where), split, where, text_format, field)
    elif kind.container == "zip" and not kind.packing:
        with open_zip(path, on_bytes) as files:
            yield from _zipped(files, split, where, text_format, field)
    elif kind.container == "tar":
        for selected in select_in_turn(tar_files(path, kind.packing, on_bytes), where):
            yield from _listed([selected], split, where, text_format, field)
    else:
        _check_single(kind, where, text_format)
        size = path.stat().st_size
        opener = partial(open_file, path, on_bytes)
        file = TextFile(name=path.name, origin=where, size=size, stored_size=size, open=opener)
        yield from _documents(Selected(file=file, split=None), format_of(kind, text_format, alone=True), field)


def _unwatched(split: str | None) -> Callable[[int], None]:
    return ignore_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TextShard:
    """Text that one worker reads: a text as it was given, or one file of a folder. It can be pickled."""

    path: Path
    text_format: TextFormat
    field: str
    watch: Callable[[str | None], Callable[[int], None]] = _unwatched
    """Called with the split when a reading begins; returns what is told how many bytes are read."""

    def documents(self, split: str | None = None) -> Iterator[Document]:
        """Yield its documents, or those of a split of its own, as `read_documents` does; raises what that raises."""
        text_format, field, on_bytes = self.text_format, self.field, self.watch(split)
        yield from read_documents(self.path, text_format=text_format, field=field, split=split, on_bytes=on_bytes)

    def size(self, split: str | None) -> int:
        """Return how many bytes the disk has of it, or of a split of its own."""
        return text_size(self.path, split=split)


def text_shards(path: Path, *, text_format: TextFormat, field: str, as_files: bool) -> list[TextShard]:
    """Return a text as one shard, or the files of a folder as shards of the same documents in the same order.

    Raises:
        MissingInputError: there is nothing at `path`.
        DataError: it is not a folder, has no file, or has one that is not read as text, and files are asked for.
    """
    if not as_files:
        return [TextShard(path=path, text_format=text_format, field=field)]
    _check_path(path)
    where = shown(str(path))
    if not path.is_dir():
        raise DataError(f"{where} is one file, and prepare.shards is files: name a folder of files, or set it to one")
    folder = path.absolute()
    selected = select(folder_files(folder, ignore_bytes), where)
    check_names(selected, text_format, where)
    if not selected:
        raise DataError(f"{where} holds no file")
    names = [choice.file.name for choice in selected]
    formats = [format_of(kind_of(name), text_format, alone=False) for name in names]
    return [
        TextShard(path=folder / name, text_format=each, field=field) for name, each in zip(names, formats, strict=True)
    ]


def text_size(path: Path, *, split: str | None = None) -> int:
    """Return how many bytes `read_documents` will tell of, packed ones where files are packed.

    A tar is read from its beginning to its end whatever the split.

    Raises:
        MissingInputError: there is nothing at `path`.
        DataError: its files cannot be listed.
    """
    _check_path(path)
    where, kind = shown(str(path)), kind_of(path.name)
    if path.is_dir():
        selected = select(folder_files(path, ignore_bytes), where)
    elif kind.container == "zip" and not kind.packing:
        with open_zip(path, ignore_bytes) as files:
            selected = notebook_members(files, where) or select(files, where)
    else:
        return path.stat().st_size
    return sum(choice.file.stored_size for choice in of_split(selected, split))


def _check_path(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        message = f"{shown(str(path))} does not exist: name a text file, a folder or an archive"
        raise MissingInputError(message) from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise DataError(f"{shown(str(path))} is neither a file nor a folder: write what it gives to a file first")


def _check_single(kind: FileKind, where: str, text_format: TextFormat) -> None:
    if kind.container == "zip":
        raise DataError(f"{where} is a packed zip: unpack it first")
    if text_format == "auto" and kind.suffix in _TABLES and kind.suffix not in READ_SUFFIXES:
        raise DataError(
            f"{where}: {kind.suffix} is not read as prose; set text_format to jsonl if each line is a JSON object, "
            "or to file, blocks or lines to take it as plain text"
        )


def _zipped(
    files: list[TextFile], split: str | None, where: str, text_format: TextFormat, field: str
) -> Iterator[Document]:
    members = notebook_members(files, where)
    if not members:
        yield from _listed(select(files, where), split, where, text_format, field)
        return
    if text_format != "auto":
        raise DataError(f"{where} is the notebook's zip, whose texts are known: set text_format to auto")
    for member in of_split(members, split):
        with _opened(member.file) as stream:
            yield from notebook_documents(stream, origin=member.file.origin, split=member.split)


def _listed(
    selected: list[Selected], split: str | None, where: str, text_format: TextFormat, field: str
) -> Iterator[Document]:
    check_names(selected, text_format, where)
    for choice in of_split(selected, split):
        yield from _documents(choice, format_of(kind_of(choice.file.name), text_format, alone=False), field)


def _documents(choice: Selected, text_format: TextFormat, field: str) -> Iterator[Document]:
    file = choice.file
    if text_format == "file" and not kind_of(file.name).packing and file.size > LARGEST_DOCUMENT:
        raise too_large(file.origin, file.size)
    with _opened(file) as stream:
        yield from documents_in(stream, origin=file.origin, text_format=text_format, field=field, split=choice.split)


@contextmanager
def _opened(file: TextFile) -> Iterator[ByteStream]:
    """Yield the bytes of a file, unpacked if its name says that it is packed."""
    packing = kind_of(file.name).packing
    with file.open() as stored, unpacked(stored, packing, origin=file.origin, packed_size=file.size) as stream:
        yield stream
