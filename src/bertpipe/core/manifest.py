"""The manifest of a directory: the names and hashes of the files that bertpipe wrote there.

bertpipe replaces or removes only files that the manifest names, and only while they have the recorded bytes. Everything
else in a directory is the user's.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bertpipe.core.file_kinds import LFS_POINTER

MANIFEST_NAME = "bertpipe-manifest.json"
MANIFEST_FORMAT = "bertpipe-manifest-1"
_LFS_POINTER = re.compile(re.escape(LFS_POINTER) + rb"v1\noid sha256:([0-9a-f]{64})\nsize [0-9]+\n")
_LONGEST_POINTER = 200
"""Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of directory that bertpipe writes."""

    name: str
    """For messages."""
    entries: Collection[str]
    """Names that may be at its top level."""


Digests = Mapping[str, frozenset[str]]
"""By name, relative to the directory with `/` between folders: the SHA-256 values that a file may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The entries of a directory, by who wrote them."""

    own: frozenset[str] = frozenset()
    """Files that are as bertpipe wrote them, including the manifest."""
    changed: frozenset[str] = frozenset()
    """Files that were changed since bertpipe wrote them."""
    kind: str | None = None
    """Name of the kind that bertpipe wrote; None if it wrote nothing."""
    foreign: frozenset[str] = frozenset()
    """What bertpipe did not write: files, links, and folders without a file of the manifest."""

    def not_replaceable(self, names: Collection[str]) -> list[str]:
        """Return the entries that new files with these names would destroy, and the changed ones.

        Args:
            names: relative names, or their first folders.
        """
        taken = {name for name in self.foreign if any(_overlap(name, new) for new in names)}
        return sorted({*self.changed, *taken})


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What bertpipe wrote into a directory."""

    kind: str
    """Name of its kind."""
    digests: Digests


def read_manifest(directory: Path) -> Manifest | None:
    """Return the manifest of a directory; None if there is none that can be read."""
    try:
        content = json.loads((directory / MANIFEST_NAME).read_text(encoding="utf-8"))
        if content["format"] != MANIFEST_FORMAT:
            return None
        recorded = content["sha256"].items()
        digests = {name: frozenset([each] if isinstance(each, str) else each) for name, each in recorded}
        return Manifest(kind=str(content["kind"]), digests=digests)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_manifest(directory: Path, kind: Kind, digests: Digests) -> None:
    """Write the manifest of a directory, atomically.

    Args:
        directory: the directory.
        kind: of the directory.
        digests: one for each file; two for a file that is being replaced.
    """
    recorded = {name: min(each) if len(each) == 1 else sorted(each) for name, each in sorted(digests.items())}
    temporary = directory / f".{MANIFEST_NAME}.bertpipe-partial"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"format": MANIFEST_FORMAT, "kind": kind.name, "sha256": recorded}, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(directory / MANIFEST_NAME)


def digests_of(directory: Path) -> Digests:
    """Return the SHA-256 of every file below a directory, except the manifest."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    names = {path.relative_to(directory).as_posix(): path for path in files}
    return {name: frozenset([_sha256(path)]) for name, path in sorted(names.items()) if name != MANIFEST_NAME}


def contents_of(directory: Path) -> Contents:
    """Return the entries of a directory by who wrote them; a folder without a file of the manifest is one entry."""
    manifest = read_manifest(directory)
    recorded: Digests = manifest.digests if manifest else {}
    own, changed, foreign = set(), set(), set()
    for name, path in _entries(directory, "", _folders(recorded)):
        if name == MANIFEST_NAME and manifest:
            own.add(name)
        elif name not in recorded:
            foreign.add(name)
        elif path.is_file() and not recorded[name].isdisjoint(_sha256s(path)):
            own.add(name)
        else:
            changed.add(name)
    return Contents(
        own=frozenset(own),
        changed=frozenset(changed),
        foreign=frozenset(foreign),
        kind=manifest.kind if manifest else None,
    )


def _entries(directory: Path, prefix: str, folders: Collection[str]) -> Iterable[tuple[str, Path]]:
    for path in directory.iterdir():
        name = prefix + path.name
        if name in folders and path.is_dir() and not path.is_symlink():
            yield from _entries(path, f"{name}/", folders)
        else:
            yield name, path


def _folders(names: Iterable[str]) -> set[str]:
    return {parent.as_posix() for name in names for parent in Path(name).parents}


def _overlap(first: str, second: str) -> bool:
    """Return whether one of two names is or contains the other, on a file system that ignores case."""
    first, second = first.casefold(), second.casefold()
    return first == second or first.startswith(f"{second}/") or second.startswith(f"{first}/")


def _sha256s(path: Path) -> Iterator[str]:
    """Yield the SHA-256 of a file, and that of the file which a Git LFS pointer stands for in a clone."""
    yield _sha256(path)
    if path.stat().st_size <= _LONGEST_POINTER and (pointer := _LFS_POINTER.fullmatch(path.read_bytes())):
        yield pointer[1].decode("ascii")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
