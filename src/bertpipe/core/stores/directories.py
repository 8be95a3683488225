"""Directories in object stores: fetched, and published whole.

A published directory is objects, each named after its file and its hash, and a manifest that names them. The manifest
is written last, so a reader sees the directory before or after a change, never a mixture. Objects of the manifest
before it, which nothing names any more, are then removed; everything else in the bucket stays.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp

from bertpipe.core.artifacts import DATA, WORK_DIR, file_sha256
from bertpipe.core.atomic import atomic_directory, check_target
from bertpipe.core.errors import DataError, MissingInputError, StoreError, WriteError, url_of_copy
from bertpipe.core.manifest import MANIFEST_FORMAT, MANIFEST_NAME, Kind, read_manifest
from bertpipe.core.stores.objects import (
    StoredObject,
    download,
    has_bucket,
    info,
    listed,
    put,
    read_small,
    remove,
    stored_objects,
    url_of,
    without_file_scheme,
)

COPIES_DIR = WORK_DIR / "objects"
"""Copies of what is in object stores; it may be removed while no command runs."""
_MOST_MANIFEST = 2**26
"""Bytes."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 60
_HASH = 16
"""Characters of a hash in an object's name."""
_CHECK_NAME = ".bertpipe-check"
_THREADS = 4
_ATTEMPTS = 3
"""How often a directory is fetched that is replaced meanwhile."""

_seen: dict[str, set[bytes | None]] = {}
"""By URL, where this process writes: the manifests that it found there, or may have written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Directory:
    """A directory in an object store, as its manifest has it."""

    manifest: bytes
    kind: str
    files: Mapping[str, StoredObject]
    """By name, relative to the directory."""


def fetched(place: str | Path, *, by_ranges: bool = False) -> Path:
    """Return a directory of this machine: the place itself, or a copy of what is at its URL.

    Args:
        place: a path or a URL.
        by_ranges: leave Parquet files in the store; `file_to_read` reads what is needed of them.

    Raises:
        MissingInputError, DataError: there is no such directory, or it is not whole, or damaged.
        StoreError: the store cannot be reached, or refuses.
    """
    url = url_of(place)
    if url is None:
        return without_file_scheme(place)
    home = _home(url)
    for attempt in range(_ATTEMPTS):
        directory = _read(url)
        if directory is None:
            raise MissingInputError(_no_directory(url))
        if (directory.kind == DATA.name) is not by_ranges:
            wanted = DATA.name if by_ranges else "model"
            raise DataError(f"{url} holds a {directory.kind}: name the URL of a {wanted}")
        role = "ranges" if by_ranges else "whole"
        copy = home / f"{hashlib.sha256(directory.manifest).hexdigest()[:_HASH]}-{role}"
        url_of_copy[str(copy)] = url
        try:
            if not copy.is_dir():
                _fetch(directory.files, copy, remote=filter(_is_parquet, directory.files) if by_ranges else ())
        except MissingInputError:
            # An object is missing: perhaps the directory was replaced meanwhile.
            now = _read(url)
            if attempt + 1 == _ATTEMPTS or (now and now.manifest == directory.manifest):
                raise
            continue
        if by_ranges:
            for name, each in directory.files.items():
                if _is_parquet(name):
                    stored_objects[copy.absolute() / name] = replace(each, ranges=home / "ranges")
        return copy
    raise AssertionError


def fetched_text(place: str | Path) -> Path:
    """Return a file or a folder of this machine: the place itself, or a copy of what is at its URL.

    A copy is used again as long as names, sizes and times in the store stay the same.

    Raises:
        MissingInputError: there is nothing.
        StoreError: the store cannot be reached, or refuses.
    """
    url = url_of(place)
    if url is None:
        return without_file_scheme(place)
    name = url.rsplit("/", 1)[1]
    found = {name: info(url)}
    if found[name].size is None:
        found = {f"{name}/{inner}": each for inner, each in listed(url).items() if _is_inner(inner)}
    if not found:
        bucket = "/".join(url.split("/")[:3])
        raise MissingInputError(
            f"there is nothing at {url}: correct the URL" if has_bucket(url)
            else f"there is no bucket {bucket}: make it, or correct the URL"
        )  # fmt: skip
    parent = url.removesuffix(f"/{name}")
    version = hashlib.sha256(repr([(each, found[each].size, found[each].mtime_ns) for each in sorted(found)]).encode())
    copy = _home(url) / f"{version.hexdigest()[:_HASH]}-text"
    url_of_copy[str(copy / name)] = url
    if not copy.is_dir():
        files = {each: StoredObject(f"{parent}/{each}", found[each].size, None) for each in found}
        _fetch(files, copy, remote=())
    return copy / name


def copy_for(place: str | Path) -> Path:
    """Return where a directory is written on this machine: the place itself, or what `publish` sends to its URL."""
    url = url_of(place)
    if url is None:
        return without_file_scheme(place)
    copy = _home(url) / "written" / url.rsplit("/", 1)[1]
    url_of_copy[str(copy)] = url
    return copy


@contextmanager
def output_directory(place: Path, *, kind: Kind) -> Iterator[Path]:
    """Yield a temporary directory, whose content is at a path or a URL when the block ends without an error.

    Raises:
        BusyError, WriteError: see `atomic_directory`.
        StoreError: the store cannot be reached, or refuses; what was there before stays.
    """
    copy = copy_for(place)
    if url := url_of_copy.get(str(copy)):
        _check_url(url, kind.name)
    with atomic_directory(copy, kind=kind) as staging:
        yield staging
    publish(copy)


def check_output(copy: Path, kind: Kind) -> None:
    """Refuse a target directory that cannot be written, here or at its URL; see `check_target`.

    Raises:
        BusyError, WriteError: see `check_target`; or bertpipe published another kind of directory there.
        StoreError: the store cannot be reached, or does not let us write.
    """
    check_target(copy, kind)
    url = url_of_copy.get(str(copy))
    if url is not None:
        _check_url(url, kind.name)


def _replaceable(url: str, kind: str) -> _Directory | None:
    """Return what is published at a URL, which a directory of this kind may replace; None if there is nothing.

    Raises:
        WriteError: bertpipe published another kind of directory there.
        MissingInputError, DataError, StoreError: see `_read`.
    """
    directory = _read(url)
    if directory and directory.kind != kind:
        raise WriteError(
            f"{url} holds the {directory.kind} that bertpipe wrote there, and the {kind} would replace it: name "
            "another URL"
        )
    return directory


def _check_url(url: str, kind: str) -> None:
    directory = _replaceable(url, kind)
    _seen[url] = {directory.manifest if directory else None}
    check = f"{url}/{_CHECK_NAME}"
    put(check, b"")
    remove(check)


def publish(copy: Path) -> None:
    """Send a directory that `copy_for` named to its URL; nothing if it is no copy.

    Raises:
        StoreError: the store cannot be reached, or refuses; what was there before stays.
        WriteError: another process has written there since this one looked.
    """
    url = url_of_copy.get(str(copy))
    if url is None:
        return
    manifest = read_manifest(copy)
    if manifest is None:
        raise WriteError(f"{copy} has no {MANIFEST_NAME}: run the command again")
    upload(copy, url, kind=manifest.kind, names={name: min(each) for name, each in manifest.digests.items()})


def upload(directory: Path, url: str, *, kind: str, names: Mapping[str, str]) -> None:
    """Write files of a directory to a URL, in place of those that bertpipe wrote there before.

    Args:
        directory: the directory.
        url: where it is written.
        kind: name of its kind.
        names: SHA-256 of each file by its name.

    Raises:
        StoreError, WriteError: see `publish`.
    """
    before = _replaceable(url, kind)
    present = {each.url for each in before.files.values()} if before else set()
    files = {
        name: StoredObject(f"{url}/{name}.{digest[:_HASH]}", (directory / name).stat().st_size, digest)
        for name, digest in sorted(names.items())
    }
    missing = {name: each for name, each in files.items() if each.url not in present}
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(lambda item: put(item[1].url, directory / item[0]), missing.items()):
            pass
    manifest = json.dumps(
        {
            "format": MANIFEST_FORMAT,
            "kind": kind,
            "sha256": {name: each.sha256 for name, each in files.items()},
            "objects": {
                name: {"name": each.url.removeprefix(f"{url}/"), "bytes": each.size} for name, each in files.items()
            },
        },
        indent=2,
    ).encode("utf-8")
    now = read_small(f"{url}/{MANIFEST_NAME}", _MOST_MANIFEST)
    seen = _seen.setdefault(url, {before.manifest if before else None})
    if now not in {*seen, manifest}:
        raise WriteError(
            f"{url} was written by another process while this one worked: stop one of them, or name another URL; "
            f"this one's files are at {directory.absolute()}"
        )
    seen.add(manifest)
    if now != manifest:
        put(f"{url}/{MANIFEST_NAME}", manifest)
    _remove_objects(url, before, kept={each.url for each in files.values()})


def unpublish(url: str, *, kind: str) -> None:
    """Remove a directory that bertpipe published, if it is there: its manifest, then the objects of the manifest.

    Raises:
        WriteError: it is a directory of another kind, which stays.
        StoreError: the store cannot be reached, or refuses.
    """
    directory = _replaceable(url, kind)
    if directory is not None:
        remove(f"{url}/{MANIFEST_NAME}")
        _remove_objects(url, directory, kept=())
    _seen[url] = {None}


def published_folders(url: str, *, kind: str) -> list[str]:
    """Return the names of the folders in what is published at a URL; none if there is nothing.

    Raises:
        WriteError: it is a directory of another kind.
        StoreError: the store cannot be reached, or refuses.
    """
    directory = _replaceable(url, kind)
    _seen[url] = {directory.manifest if directory else None}
    return sorted({name.partition("/")[0] for name in (directory.files if directory else ()) if "/" in name})


def fetch_folder(url: str, name: str, target: Path) -> None:
    """Write a folder of what is published at a URL to a private directory, in place of what is there.

    Raises:
        MissingInputError, DataError, StoreError: a file is missing or damaged, or the store cannot be reached.
    """
    directory = _read(url)
    files = directory.files if directory else {}
    prefix = f"{name}/"
    with atomic_directory(target, kind=None) as staging:
        staging.mkdir(exist_ok=True)
        inner = {path.removeprefix(prefix): each for path, each in files.items() if path.startswith(prefix)}
        _download(inner, staging)


def _read(url: str) -> _Directory | None:
    """Return what is published at a URL; None if there is no manifest.

    Raises:
        MissingInputError, DataError: a file is missing, or its manifest is damaged.
        StoreError: the store cannot be reached, or refuses.
    """
    manifest = read_small(f"{url}/{MANIFEST_NAME}", _MOST_MANIFEST)
    if manifest is None:
        return None
    try:
        content = json.loads(manifest)
        if content["format"] != MANIFEST_FORMAT:
            raise ValueError
        # A directory of this machine that was copied there has a manifest without `objects`, and its own names.
        objects = content.get("objects")
        sizes = {name: each.size for name, each in listed(url).items()} if objects is None else {}
        files = {}
        for name, digest in content["sha256"].items():
            place = name if objects is None else objects[name]["name"]
            size = sizes.get(name) if objects is None else objects[name]["bytes"]
            if size is None:
                raise MissingInputError(f"{url}/{name} is missing, and the manifest names it: write it again")
            if not (_is_inner(name) and _is_inner(place) and _DIGEST.fullmatch(digest) and int(size) >= 0):
                raise ValueError
            files[name] = StoredObject(f"{url}/{place}", int(size), digest)
        return _Directory(manifest=manifest, kind=str(content["kind"]), files=files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{url}/{MANIFEST_NAME} is damaged, or not bertpipe's: write the directory again") from error


def _is_inner(name: str) -> bool:
    """Return whether a name stays within its directory."""
    path = PurePosixPath(name)
    return not path.is_absolute() and not {"..", ".", ""} & set(name.split("/")) and "\0" not in name


def _fetch(files: Mapping[str, StoredObject], copy: Path, *, remote: Iterable[str]) -> None:
    """Write a copy of a directory; files that stay remote are empty there."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(mkdtemp(dir=copy.parent, prefix=f".{copy.name}."))
    try:
        empty = set(remote)
        _download({name: each for name, each in files.items() if name not in empty}, staging)
        for name in empty:
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).touch()
        with suppress(FileExistsError, OSError):  # another process was faster
            staging.rename(copy)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _download(files: Mapping[str, StoredObject], directory: Path) -> None:
    for name, each in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        download(each, directory / name, hashed=file_sha256)


def _remove_objects(url: str, directory: _Directory | None, *, kept: Collection[str]) -> None:
    """Remove what bertpipe wrote: what was put there by hand has another name."""
    for name, each in directory.files.items() if directory else ():
        if each.url not in kept and each.url == f"{url}/{name}.{str(each.sha256)[:_HASH]}":
            with suppress(StoreError):  # it may be written, and not removed
                remove(each.url)


def _is_parquet(name: str) -> bool:
    return name.endswith(".parquet")


def _home(url: str) -> Path:
    """Return the folder of the copies of a URL."""
    name = url.rsplit("/", 1)[1][:_LONGEST_NAME]
    return COPIES_DIR / f"{name}-{hashlib.sha256(url.encode('utf-8')).hexdigest()[:_HASH]}"


def _no_directory(url: str) -> str:
    bucket = "/".join(url.split("/")[:3])
    if not has_bucket(url):
        return f"there is no bucket {bucket}: make it, or correct the URL"
    return (
        f"{url} has no {MANIFEST_NAME}: nothing was written there, or not to its end, or not by bertpipe; write it "
        "with `--out URL`, or copy a directory that bertpipe wrote there, with its manifest"
    )
