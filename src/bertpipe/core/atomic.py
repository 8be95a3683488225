"""Atomic writes: a name always has a complete file or directory, the new one or the earlier one.

While it is written, an output is beside its target as `.NAME.bertpipe-partial`, private, under a lock that ends with
the process. A partial without a lock was left by an ended process; the next writer of that name removes it.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from bertpipe.core.errors import WriteError, write_errors
from bertpipe.core.filesystem import flush, set_mode
from bertpipe.core.locks import exclusive_lock
from bertpipe.core.manifest import (
    MANIFEST_NAME,
    Contents,
    Digests,
    Kind,
    contents_of,
    digests_of,
    read_manifest,
    write_manifest,
)
from bertpipe.core.stores.objects import refuse_url

_LONG_NAME = 100
"""Bytes; of a longer name the file beside it has a hash, since names end at 255 bytes or, encrypted, at 143."""
_NO_RENAME = {errno.EXDEV, errno.EBUSY, errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP}
"""Of a directory: a lower layer of an overlay, a mount point, another owner's, a file system without it."""
_STREAMS, _STREAM_FOLDERS = ("/dev/stdout", "/dev/stderr"), ("/dev/fd", "/proc/self/fd")
_PRIVATE_FILE, _PRIVATE_DIRECTORY = 0o600, 0o700


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which is renamed to `path` when the block ends without an error.

    A device or a pipe, such as `/dev/null` or `/dev/stdout`, is written to instead.

    Raises:
        BusyError: another process is writing `path`.
        WriteError: `path` is a directory or belongs to one of ours; or writing failed, and an earlier file at `path`
            is unchanged.
    """
    _check_output_file(path)
    if _is_device(path):
        with write_errors(path), TemporaryDirectory() as folder:
            yield Path(folder) / path.name
            with (Path(folder) / path.name).open("rb") as source, path.open("ab") as device:
                shutil.copyfileobj(source, device)
        return
    with write_errors(path), _partial(path) as partial:
        partial.touch(_PRIVATE_FILE)
        yield partial
        flush(partial)
        set_mode(partial, 0o666 & ~_umask())
        partial.replace(path)
        flush(path.parent)


@contextmanager
def atomic_directory(path: Path, *, kind: Kind | None) -> Iterator[Path]:
    """Yield a temporary directory, whose content is at `path` when the block ends without an error.

    If `path` holds nothing but files that bertpipe wrote, the new directory replaces it: the earlier one is renamed to
    `.NAME.bertpipe-earlier` in between, and the next writer restores it if the process ends there. If it holds anything
    else, or cannot be renamed (a mount point, a read-only parent folder), the new files are moved into it one by one,
    and the earlier files of the manifest are removed; everything else stays. A symbolic link is followed.

    Args:
        path: the directory.
        kind: what the block writes; see `check_target`. None for a private directory, which is replaced whatever it
            holds.

    Raises:
        BusyError: another process is writing `path`.
        WriteError: writing failed, or the new files would destroy one of the user's.
    """
    with write_errors(path):
        place, path = path, path.resolve()
        inside = _must_stay(path)
        with _partial(path, inside=inside) as partial:
            _make_renamable(partial)
            if not inside:
                _finish_earlier_change(path, private=kind is None)
            if kind is not None:
                _check_contents(place, kind)
            yield partial
            # Locks of files in it that could not be removed at once.
            _remove_files(
                partial, {str(left.relative_to(partial)) for left in partial.rglob(".*.bertpipe-partial.lock")}
            )
            if kind is not None:
                write_manifest(partial, kind, digests_of(partial))
            _finish(partial)
            _put_at(partial, path, kind, inside=inside)
            flush(path.parent)


@contextmanager
def scratch_directory(path: Path) -> Iterator[Path]:
    """Yield a private directory beside `path`, which is removed when the block ends.

    Raises:
        BusyError: another process has it.
        WriteError: it cannot be made.
    """
    with write_errors(path), _partial(path, "scratch") as scratch:
        scratch.mkdir(_PRIVATE_DIRECTORY)
        yield scratch


@contextmanager
def _partial(path: Path, role: str = "partial", *, inside: bool = False, output: Path | None = None) -> Iterator[Path]:
    """Yield a path beside `path`, or in it, that only this process uses; nothing is there before and after.

    An error names `output`, or `path`.
    """
    output = output or path
    partial = path / f".bertpipe-{role}" if inside else _beside(path, role)
    with exclusive_lock(partial.with_name(f"{partial.name}.lock"), what=f"writing {output}", output=output):
        _discard(partial)
        try:
            yield partial
        finally:
            _discard(partial)


def check_target(path: Path, kind: Kind) -> None:
    """Refuse a target directory that cannot be written, or where writing would destroy something of the user's.

    Args:
        path: where the directory is written.
        kind: what will be written.

    Raises:
        BusyError: another process is writing there.
        WriteError: `path` is a file; bertpipe wrote another kind of directory there; it has an entry of this kind that
            bertpipe did not write, or a file that was changed since; or nothing can be written or renamed there.
    """
    with write_errors(path):
        _check_contents(path, kind)
        _try_to_write(path.resolve())


def check_target_file(path: Path) -> None:
    """Refuse a target file that cannot be written.

    Raises:
        BusyError: another process is writing there.
        WriteError: `path` is a directory or belongs to one of ours, or nothing can be written or renamed there.
    """
    _check_output_file(path)
    if not _is_device(path):
        with write_errors(path):
            _try_to_write(path)


def lock_path(path: Path, role: str) -> Path:
    """Return the lock file of an output directory for one kind of work: beside it, or in it if it cannot be renamed."""
    path = path.resolve()
    return path / f".bertpipe-{role}.lock" if _must_stay(path) else _beside(path, f"{role}.lock")


def remove_own(directory: Path) -> None:
    """Remove the files that bertpipe wrote into a directory, and the directory if it is empty then."""
    _remove_files(directory, contents_of(directory).own)
    with suppress(OSError):
        directory.rmdir()


def _check_replaceable(path: Path, contents: Contents, kind: Kind, names: Collection[str]) -> None:
    if contents.kind not in {None, kind.name}:
        raise WriteError(
            f"{path} holds the {contents.kind} that bertpipe wrote there, and the {kind.name} would replace it: name "
            "another directory"
        )
    lost = contents.not_replaceable(names)
    if lost:
        changed = lost[0] in contents.changed
        raise WriteError(
            f"{path} holds {', '.join(lost[:3])}{', ...' if len(lost) > 3 else ''}, which "  # noqa: PLR2004
            f"{'was changed since bertpipe wrote it' if changed else 'bertpipe did not write'} "
            f"(see {MANIFEST_NAME}) and would be replaced: name another directory, or move what you want to keep"
        )


def _check_output_file(path: Path) -> None:
    refuse_url(path)
    if path.is_dir():
        raise WriteError(f"{path} is a directory, and the output is a file: name a file in it, or another path")
    manifest = read_manifest(path.parent)
    if manifest and path.name in {*manifest.digests, MANIFEST_NAME}:
        raise WriteError(f"{path} belongs to the {manifest.kind} that bertpipe wrote there: name another file")


def _check_contents(path: Path, kind: Kind) -> None:
    refuse_url(path)
    if path.is_dir():
        _check_replaceable(path, contents_of(path), kind, [*kind.entries, MANIFEST_NAME])
    elif path.exists():
        raise WriteError(f"{path} is a file, and the output is a directory: name another path, or remove it")


def _try_to_write(path: Path) -> None:
    """Raise an OSError if nothing can be written at `path`, or what was written cannot be renamed."""
    place = path
    while not place.parent.exists():
        place = place.parent
    with _partial(place, inside=_must_stay(place), output=path) as partial:
        _make_renamable(partial)


def _make_renamable(partial: Path) -> None:
    """Make a private directory; raise an OSError if files in it cannot be renamed, as on some mounts of object stores.

    Permissions alone do not tell: a server has its own.
    """
    partial.mkdir(_PRIVATE_DIRECTORY)
    before, after = partial / "before", partial / "after"
    before.touch()
    before.replace(after)
    after.unlink()


def _is_device(path: Path) -> bool:
    """Return whether a name must not be replaced by a file."""
    if str(path.absolute()) in _STREAMS or str(path.absolute().parent) in _STREAM_FOLDERS:
        return True  # it may lead to a file, but the name is the system's
    return path.exists() and not path.is_file() and not path.is_dir()


def _must_stay(path: Path) -> bool:
    """Return whether a directory exists that cannot be renamed: a mount point, or one in a read-only folder."""
    return path.is_dir() and (path.is_mount() or not os.access(path.parent, os.W_OK | os.X_OK))


def _discard(path: Path) -> None:
    """Remove whatever is at `path`; what cannot be removed is left to the next writer."""
    if path.is_symlink() or path.is_file():
        with suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _beside(path: Path, role: str) -> Path:
    encoded = os.fsencode(path.name)
    name = path.name if len(encoded) <= _LONG_NAME else hashlib.sha256(encoded).hexdigest()
    return path.with_name(f".{name}.bertpipe-{role}")


def _finish(directory: Path) -> None:
    """Give everything the user's default permissions, and flush it to the disk."""
    for file in directory.rglob("*"):
        # safetensors makes its files private.
        set_mode(file, (0o777 if file.is_dir() else 0o666) & ~_umask())
        flush(file)
    set_mode(directory, 0o777 & ~_umask())
    flush(directory)


def _put_at(partial: Path, path: Path, kind: Kind | None, *, inside: bool) -> None:
    """Put the content of `partial` at `path`, and remove what bertpipe wrote there before."""
    contents = Contents() if kind is None or not path.exists() else contents_of(path)
    if kind is not None and (inside or contents.foreign):
        _put_into(partial, path, kind, contents)
        return
    if kind is not None:
        _check_replaceable(path, contents, kind, ())
    try:
        _exchange(partial, path)
    except OSError as error:
        if kind is None or error.errno not in _NO_RENAME:
            raise
        _put_into(partial, path, kind, contents)
    else:
        _remove_earlier(_beside(path, "earlier"), private=kind is None)


def _exchange(partial: Path, path: Path) -> None:
    """Move what is at `path`, if anything, aside, and `partial` to `path`."""
    earlier = _beside(path, "earlier")
    had_one = path.exists()
    if had_one:
        path.replace(earlier)
    try:
        partial.replace(path)
    except BaseException:
        if had_one:
            earlier.replace(path)
        raise


def _put_into(partial: Path, path: Path, kind: Kind, contents: Contents) -> None:
    """Move the files of `partial` into `path` one by one; meanwhile the manifest allows earlier and new hashes."""
    path.mkdir(exist_ok=True)
    before, new = read_manifest(path), digests_of(partial)
    earlier: Digests = before.digests if before else {}
    _check_replaceable(path, contents, kind, [*new, MANIFEST_NAME])
    nothing: frozenset[str] = frozenset()
    either = {name: earlier.get(name, nothing) | new.get(name, nothing) for name in {**earlier, **new}}
    write_manifest(path, kind, either)
    for name in new:
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (partial / name).replace(target)
        flush(target.parent)
    _remove_files(path, contents.own - {*new, MANIFEST_NAME})
    (partial / MANIFEST_NAME).replace(path / MANIFEST_NAME)
    flush(path)


def _remove_files(directory: Path, names: Collection[str]) -> None:
    """Remove files of a directory, the manifest last, and the folders that are empty without them."""
    for name in sorted(names, key=lambda name: (name == MANIFEST_NAME, name)):  # without it the others are a user's
        (directory / name).unlink()
    folders = {parent for name in names for parent in Path(name).parents if parent.name}
    for folder in sorted(folders, reverse=True):
        with suppress(OSError):  # not empty
            (directory / folder).rmdir()


def _finish_earlier_change(path: Path, *, private: bool) -> None:
    """Undo or finish the renames of a writer that ended between them."""
    earlier = _beside(path, "earlier")
    if path.exists():
        _remove_earlier(earlier, private=private)
    elif earlier.exists():
        earlier.replace(path)


def _remove_earlier(earlier: Path, *, private: bool) -> None:
    """Remove a directory that has been replaced, if there was one, except for files of the user's."""
    if not earlier.exists():
        return
    if private:
        _discard(earlier)
    else:
        remove_own(earlier)  # the user may have added a file at the last moment


def _umask() -> int:
    # The process's mask can only be read by setting it; private files are made without it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
