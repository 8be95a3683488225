"""The kind of a file, by its name."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

TEXT_SUFFIXES = (".txt", ".text", ".md")
JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")
BYTE_ORDER_MARK = "\ufeff"
"""Begins many files, and stands in the midst of one that was joined from several; it is no part of any text."""

_BESIDE = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "_SUCCESS", "_metadata", "_common_metadata"})
"""What macOS, Windows, Spark and Hive add to folders."""

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""Begins what a clone without Git LFS has in place of a large file."""

Container = Literal["zip", "tar"]
Packing = Literal["gz", "zst", "bz2", "xz"]

_CONTAINERS: dict[str, Container] = {".zip": "zip", ".tar": "tar"}
_PACKINGS: dict[str, Packing] = {".gz": "gz", ".zst": "zst", ".bz2": "bz2", ".xz": "xz"}
_SHORT = {".tgz": ".tar.gz", ".tzst": ".tar.zst", ".tbz2": ".tar.bz2", ".tbz": ".tar.bz2", ".txz": ".tar.xz"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """What the suffixes of a name mean."""

    container: Container | None
    packing: Packing | None
    suffix: str
    """The last one before the packing's, in lower case; empty if there is none."""


def kind_of(name: str) -> FileKind:
    """Return the kind of a file name; capitals do not matter."""
    name = name.lower()
    for short, long in _SHORT.items():
        if name.endswith(short):
            name = name.removesuffix(short) + long
    path = PurePosixPath(name)
    packing = _PACKINGS.get(path.suffix)
    suffix = path.with_suffix("").suffix if packing else path.suffix
    return FileKind(container=_CONTAINERS.get(suffix), packing=packing, suffix=suffix)


def is_hidden(name: str) -> bool:
    """Return whether a relative path is hidden: below a dot name, or in what systems add to folders and zips."""
    parts = PurePosixPath(name).parts
    return any(part in _BESIDE or (part.startswith(".") and part != "..") for part in parts)


def shown(name: str) -> str:
    """Return a name with unprintable characters escaped, for one line of a message."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)
