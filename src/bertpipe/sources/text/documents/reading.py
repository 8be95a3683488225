"""A path to its documents."""

import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bertpipe.core.errors import DataError, MissingInputError
from bertpipe.core.file_kinds import FileKind, kind_of, shown
from bertpipe.core.params import TextFormat
from bertpipe.sources.text.documents.containers import folder_files, open_zip, tar_files
from bertpipe.sources.text.documents.formats import FORMATS, READ_SUFFIXES, Document, documents_in, format_of
from bertpipe.sources.text.documents.notebook import notebook_members
from bertpipe.sources.text.documents.selection import Selected, select, select_in_turn
from bertpipe.sources.text.documents.streams import (
    LARGEST_DOCUMENT,
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
        on_bytes: called with the number of bytes of each read of the disk; they add up to `text_size`.

    Raises:
        MissingInputError: there is nothing at `path`.
        DataError: something there cannot be read as text; with file, line where there is one, and what to do.
    """
    with _selected(path, text_format, on_bytes) as selected:
        for choice in selected:
            if split is None or choice.split in {split, None}:
                yield from _documents(choice, field)


def _unwatched(split: str | None) -> Callable[[int], None]:
    return ignore_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TextShard:
    """Text that one worker reads: a text as it was given, or one file of a folder. It can be pickled."""

    path: Path
    text_format: TextFormat
    field: str
    watch: Callable[[str | None], Callable[[int], None]] = _unwatched
    """Called with the split when a reading begins; returns what is called with the bytes of each read."""

    def documents(self, split: str | None = None) -> Iterator[Document]:
        """Yield its documents, or those of a split of its own, as `read_documents` does; raises what that raises."""
        text_format, field, on_bytes = self.text_format, self.field, self.watch(split)
        yield from read_documents(self.path, text_format=text_format, field=field, split=split, on_bytes=on_bytes)

    def size(self, split: str | None) -> int:
        """Return how many bytes the disk has of it, or of a split of its own."""
        return text_size(self.path, text_format=self.text_format, split=split)


def text_shards(path: Path, *, text_format: TextFormat, field: str, as_files: bool) -> list[TextShard]:
    """Return a text as one shard, or the files of a folder as shards of the same documents in the same order.

    Raises:
        MissingInputError: there is nothing at `path`.
        DataError: it is not a folder, has no file, or has one that is not read as text, and files are asked for.
    """
    if not as_files:
        return [TextShard(path=path, text_format=text_format, field=field)]
    _check_path(path)
    where, folder = shown(str(path)), path.absolute()
    if not path.is_dir():
        raise DataError(f"{where} is one file, and prepare.shards is files: name a folder of files, or set it to one")
    names = [choice.file.name for choice in select(folder_files(folder, ignore_bytes), where, text_format)]
    if not names:
        raise DataError(f"{where} holds no file")
    formats = [format_of(kind_of(name), text_format, alone=False) for name in names]
    return [
        TextShard(path=folder / name, text_format=each, field=field) for name, each in zip(names, formats, strict=True)
    ]


def text_size(path: Path, *, text_format: TextFormat = "auto", split: str | None = None) -> int:
    """Return how many bytes `read_documents` reports, packed ones where files are packed.

    A tar is read from its beginning to its end whatever the split.

    Raises:
        MissingInputError: there is nothing at `path`.
        DataError: its files cannot be listed, or are not read as text.
    """
    _check_path(path)
    if kind_of(path.name).container == "tar" and not path.is_dir():
        return path.stat().st_size
    with _selected(path, text_format, ignore_bytes) as selected:
        return sum(choice.file.stored_size for choice in selected if split is None or choice.split in {split, None})


@contextmanager
def _selected(path: Path, text_format: TextFormat, on_bytes: Callable[[int], None]) -> Iterator[Iterable[Selected]]:
    """Yield the files that are read; they open until the block ends, those of a tar until the next is asked for."""
    _check_path(path)
    where, kind = shown(str(path)), kind_of(path.name)
    if path.is_dir():
        yield select(folder_files(path, on_bytes), where, text_format)
    elif kind.container == "zip" and not kind.packing:
        with open_zip(path, on_bytes) as files:
            yield notebook_members(files, where, text_format) or select(files, where, text_format)
    elif kind.container == "tar":
        yield select_in_turn(tar_files(path, kind.packing, on_bytes), where, text_format)
    else:
        _check_single(kind, where, text_format)
        size = path.stat().st_size
        opener = partial(open_file, path, on_bytes)
        file = TextFile(name=path.name, origin=where, size=size, stored_size=size, open=opener)
        yield [Selected(file=file, split=None, format=FORMATS[format_of(kind, text_format, alone=True)])]


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


def _documents(choice: Selected, field: str) -> Iterator[Document]:
    file = choice.file
    packing = kind_of(file.name).packing
    if choice.format is FORMATS["file"] and not packing and file.size > LARGEST_DOCUMENT:
        raise too_large(file.origin, file.size)
    with file.open() as stored, unpacked(stored, packing, origin=file.origin, packed_size=file.size) as stream:
        yield from documents_in(stream, origin=file.origin, file_format=choice.format, field=field, split=choice.split)
