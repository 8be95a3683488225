"""Whole writes: what appears under a name is complete, or it is what stood there before.

What is being written stands beside its place as `.NAME.partial`, private, under a lock that ends with the process. A
partial that nobody holds was left by an ended process; the next writer of that name removes it.
"""

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from bertpipe.errors import WriteError, write_errors
from bertpipe.locks import hold, hold_new_directory, hold_new_file, is_at


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it becomes `path` at once when the block ends without an error.

    Raises:
        BusyError: another process is writing `path`.
        WriteError: the operating system refuses a write; what stood at `path` stays.
    """
    partial = _beside(path, "partial")
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = hold_new_file(partial)
        try:
            yield partial
            _sync(partial)
            partial.chmod(0o666 & ~_umask())
            partial.replace(path)
            _sync(path.parent)
        finally:
            _remove(partial, [handle])
            os.close(handle)


@contextmanager
def whole_directory(path: Path, *, mark: str | None = None) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; it takes the place of `path` when the block ends without an error.

    Where two names can be exchanged (Linux, on the usual file systems), `path` is complete at every moment. Elsewhere
    an earlier directory stands aside as `.NAME.earlier` for the moment of the change; the next writer brings it back if
    the process ended in that moment. A symbolic link stays one: what it leads to changes.

    Args:
        path: the directory.
        mark: name of a file that every such directory has; see `check_place`. None takes any place.

    Raises:
        BusyError: another process is writing `path`.
        WriteError: the operating system refuses a write, or something else stands at `path`; it stays.
    """
    if mark is not None:
        check_place(path, mark=mark)
    with write_errors(path):
        path = path.resolve()
        partial = _beside(path, "partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        handles = [hold_new_directory(partial)]
        try:
            _settle(path)
            yield partial
            _finish(partial)
            if path.exists():
                handles.append(hold(path))  # it is ours to remove under the partial's name, too
            _take_place(partial, path)
            _sync(path.parent)
        finally:
            _remove(partial, handles)
            for handle in handles:
                os.close(handle)


@contextmanager
def scratch_directory(path: Path) -> Iterator[Path]:
    """Yield a private directory beside `path`, which goes away with the block.

    Raises:
        BusyError: another process has it.
        WriteError: the operating system refuses it.
    """
    scratch = _beside(path, "scratch")
    with write_errors(path):
        handle = hold_new_directory(scratch)
        try:
            yield scratch
        finally:
            _remove(scratch, [handle])
            os.close(handle)


def check_place(path: Path, *, mark: str) -> None:
    """Refuse a place for a directory of ours where something of the user's stands.

    Args:
        path: where the directory is to go.
        mark: name of a file that is in every directory of its kind.

    Raises:
        WriteError: `path` is a file, or a directory with something in it, and without the mark.
    """
    with write_errors(path):
        if path.is_dir():
            others = sorted(entry.name for entry in path.iterdir())
            if others and mark not in others:
                raise WriteError(
                    f"{path} holds {', '.join(others[:3])}{', ...' if len(others) > 3 else ''} and no {mark}, so it "  # noqa: PLR2004
                    "is something else than what would take its place: name another directory, or empty this one"
                )
        elif path.exists():
            raise WriteError(f"{path} is a file, and a directory is to be written: name another place, or remove it")


def _remove(partial: Path, handles: Sequence[int]) -> None:
    """Remove what stands at `partial` if it is one of ours."""
    if any(is_at(handle, partial) for handle in handles):
        _discard(partial)


def _discard(path: Path) -> None:
    """Remove whatever stands at `path`; what cannot be removed is left to the next writer."""
    if path.is_symlink() or path.is_file():
        with suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _beside(path: Path, role: str) -> Path:
    return path.with_name(f".{path.name}.{role}")


def _finish(directory: Path) -> None:
    """Give everything the permissions of the user's other files, and bring it to the disk."""
    for file in directory.rglob("*"):
        # safetensors makes its files private.
        file.chmod((0o777 if file.is_dir() else 0o666) & ~_umask())
        _sync(file)
    directory.chmod(0o777 & ~_umask())
    _sync(directory)


def _take_place(partial: Path, path: Path) -> None:
    """Put `partial` at `path`, and what stood there at `partial` or nowhere."""
    if not path.exists():
        partial.replace(path)
    elif not _exchange(partial, path):
        earlier = _beside(path, "earlier")
        path.replace(earlier)
        try:
            partial.replace(path)
        except BaseException:
            earlier.replace(path)
            raise
        _discard(earlier)


def _settle(path: Path) -> None:
    """Undo or finish a change of place in the midst of which a process ended."""
    earlier = _beside(path, "earlier")
    if earlier.exists() and not path.exists():
        earlier.replace(path)
    _discard(earlier)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one operation; return False where system or file system has none."""
    import ctypes  # noqa: PLC0415

    rename = _renameat2()
    if rename is None:
        return False
    if rename(_AT_CWD, os.fsencode(first), _AT_CWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EXDEV}:
        return False
    raise OSError(code, os.strerror(code), str(second))


_AT_CWD, _RENAME_EXCHANGE = -100, 2
"""Of Linux: linux/fcntl.h and linux/fs.h."""


@cache
def _renameat2() -> Callable[..., int] | None:
    import ctypes  # noqa: PLC0415

    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    # The process's mask can only be read by setting it; private files are made without it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
