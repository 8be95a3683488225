"""What bertpipe wrote into a directory: names and hashes, in a file of the directory itself.

Only what the manifest names, as long as its bytes are the recorded ones, is bertpipe's to replace or remove. All else
in a directory is the user's.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

MANIFEST_NAME = "bertpipe-manifest.json"
_FORMAT = "bertpipe-manifest-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of directory that bertpipe writes."""

    name: str
    """As messages say it."""
    entries: Collection[str]
    """What may be at its top."""


Digests = Mapping[str, frozenset[str]]
"""By name, relative to the directory with `/` between folders: the SHA-256 that a file of ours may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The entries of a directory, by whose they are."""

    own: frozenset[str] = frozenset()
    """Files that are as bertpipe wrote them, the manifest among them."""
    changed: frozenset[str] = frozenset()
    """Files that bertpipe wrote, and somebody changed since."""
    kind: str | None = None
    """Name of the kind of what bertpipe wrote; None where it wrote nothing."""
    foreign: frozenset[str] = frozenset()
    """What bertpipe did not write: files, links, and folders without a file of the manifest."""

    def not_replaceable(self, names: Collection[str]) -> list[str]:
        """Return what new files with these names would destroy, and what of ours was changed.

        Args:
            names: relative names, or the first folders of names.
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
    """Return the manifest of a directory; None where there is none that can be read."""
    try:
        content = json.loads((directory / MANIFEST_NAME).read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            return None
        recorded = content["sha256"].items()
        digests = {name: frozenset([each] if isinstance(each, str) else each) for name, each in recorded}
        return Manifest(kind=str(content["kind"]), digests=digests)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_manifest(directory: Path, kind: Kind, digests: Digests) -> None:
    """Write the manifest of a directory, in no moment a half-written one.

    Args:
        directory: whose manifest it is.
        kind: of the directory.
        digests: of each file; two of a file that is being replaced.
    """
    recorded = {name: min(each) if len(each) == 1 else sorted(each) for name, each in sorted(digests.items())}
    temporary = directory / f".{MANIFEST_NAME}.bertpipe-partial"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"format": _FORMAT, "kind": kind.name, "sha256": recorded}, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(directory / MANIFEST_NAME)


def digests_of(directory: Path) -> Digests:
    """Return the SHA-256 of every file below a directory, but for the manifest."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    names = {path.relative_to(directory).as_posix(): path for path in files}
    return {name: frozenset([_sha256(path)]) for name, path in sorted(names.items()) if name != MANIFEST_NAME}


def contents_of(directory: Path) -> Contents:
    """Return whose the entries of a directory are; folders without a file of the manifest are not looked into."""
    manifest = read_manifest(directory)
    recorded: Digests = manifest.digests if manifest else {}
    own, changed, foreign = set(), set(), set()
    for name, path in _entries(directory, "", _folders(recorded)):
        if name == MANIFEST_NAME and manifest:
            own.add(name)
        elif name not in recorded:
            foreign.add(name)
        elif path.is_file() and _sha256(path) in recorded[name]:
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
    """Return whether one of two names is the other, or lies in it, on a file system that takes `A` and `a` for one."""
    first, second = first.casefold(), second.casefold()
    return first == second or first.startswith(f"{second}/") or second.startswith(f"{first}/")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
