"""Which files of a folder or an archive are read.

Hidden files (a dot name, and what systems add to folders: `__MACOSX`, `Thumbs.db`, `_SUCCESS`) are left out. With
`auto`, every other file must have one of `formats.READ_SUFFIXES`, or be packed as `.gz`, `.zst`, `.bz2` or `.xz`;
with another format it may have any name. A file that is not read is an error, never passed over. So is an archive,
which must be given by itself.

Of aclImdb's own tree (Maas et al. 2011) the reviews are read: `train` and `test` hold `pos` and `neg`, `train` also
`unsup`; one review per file. Word lists, counts and addresses beside them are not documents.
https://ai.stanford.edu/~amaas/data/sentiment/
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from bertpipe.core.errors import DataError
from bertpipe.core.file_kinds import kind_of, shown
from bertpipe.core.params import TextFormat
from bertpipe.sources.text.documents.formats import FORMATS, READ_SUFFIXES, Format, format_of
from bertpipe.sources.text.documents.streams import TextFile

_SHOWN_NAMES = 5
TREE = "aclImdb/"
"""The top folder of the archive as Stanford distributes it."""
_FIRST_FOLDER = "train/pos/"
_REVIEW = re.compile(r"(train|test)/(?:pos|neg|unsup)/[^/]+\.txt")
_BESIDE = re.compile(r"README|imdb\.vocab|imdbEr\.txt|(?:train|test)/(?:urls_\w+\.txt|\w+Bow\.feat)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """A file that is read, and its split where the corpus has splits."""

    file: TextFile
    split: str | None
    format: Format


def select(files: Sequence[TextFile], where: str, text_format: TextFormat) -> list[Selected]:
    """Return the files that are read, in their order.

    Args:
        files: all those of a folder or a zip.
        where: what messages call that.
        text_format: how a file becomes documents.

    Raises:
        DataError: aclImdb's tree has other files among its own, there is an archive, or there are files of which `auto`
            does not know that they are text; the message names a few.
    """
    return _select(files, tree_root(file.name for file in files), where, text_format)


def select_in_turn(files: Iterable[TextFile], where: str, text_format: TextFormat) -> Iterator[Selected]:
    """Yield the files that are read, as `select`, where they come one by one.

    aclImdb's tree is then known by its top folder alone.

    Raises:
        DataError: as `select`, as soon as a file shows it.
    """
    roots = set[str | None]()
    for file in files:
        root = TREE if file.name.startswith(TREE) else None
        roots.add(root)
        if len(roots) > 1 or (root is None and tree_root([file.name]) is not None):
            raise DataError(
                f"{where} holds aclImdb's tree in a form that is not known ({shown(file.name)}): "
                "unpack it and read the folder that holds train and test"
            )
        yield from _select([file], root, where, text_format)


def _select(files: Iterable[TextFile], root: str | None, where: str, text_format: TextFormat) -> list[Selected]:
    selected, archives, strangers, unknown = list[Selected](), list[str](), list[str](), list[str]()
    for file in files:
        split = None if root is None else review_split(file.name, root)
        kind = kind_of(file.name)
        if kind.container:
            archives.append(file.name)
        elif root is None or split is not None:
            file_format = FORMATS[format_of(kind, text_format, alone=False)]
            selected.append(Selected(file=file, split=split, format=file_format))
            if text_format == "auto" and kind.suffix not in READ_SUFFIXES:
                unknown.append(file.name)
        elif not stands_beside(file.name, root):
            strangers.append(file.name)
    if archives:
        raise DataError(f"{where} holds {_named(archives)} within: unpack it first, or read it by itself")
    if strangers:
        raise DataError(f"{where} is aclImdb's tree but holds {_named(strangers)} too: take that away")
    if unknown:
        raise DataError(
            f"{where} holds {_named(unknown)} beside text; with text_format auto {', '.join(READ_SUFFIXES)} and .gz, "
            ".zst, .bz2 or .xz of these are read: take the others away, or set text_format to read every file whatever "
            "its name"
        )
    return selected


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES:,} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(shown(str(PurePosixPath(name))) for name in names[:_SHOWN_NAMES]) + more


def tree_root(names: Iterable[str]) -> str | None:
    """Return the prefix below which names make the tree: `aclImdb/` or nothing; None where they do not."""
    for name in names:
        for root in ("", TREE):
            if name.startswith(root + _FIRST_FOLDER):
                return root
    return None


def review_split(name: str, root: str) -> str | None:
    """Return `train` or `test` for a review; None for another file."""
    match = _REVIEW.fullmatch(name.removeprefix(root)) if name.startswith(root) else None
    return match[1] if match else None


def stands_beside(name: str, root: str) -> bool:
    """Return whether a file belongs to the tree and is not a document."""
    return name.startswith(root) and _BESIDE.fullmatch(name.removeprefix(root)) is not None
