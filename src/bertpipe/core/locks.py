"""Locks that end with their process: on a file or directory being made, and on a name that one process may work on."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bertpipe.core.errors import BusyError, write_errors

LOCK = "lock"
"""Name of the lock file of a directory that one process may work in."""

_PRIVATE_FILE, _PRIVATE_DIRECTORY = 0o600, 0o700
_GLANCES, _GLANCE_S = 3, 0.02
"""How often, and after how many seconds, a lock is tried again that `is_held` may be holding for a moment."""


def hold_new_file(name: Path) -> int:
    """Return a handle that locks the file `name`, made empty and private; one that an ended process left is emptied.

    Raises:
        BusyError: another process holds it.
    """
    while True:
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _PRIVATE_FILE)
        if _locked(handle, name):
            os.ftruncate(handle, 0)
            os.fchmod(handle, _PRIVATE_FILE)
            return handle
        os.close(handle)


def hold_new_directory(name: Path) -> int:
    """Return a handle that locks the directory `name`, made empty and private.

    Raises:
        BusyError: another process holds it.
    """
    while True:
        with suppress(FileExistsError):
            name.mkdir(mode=_PRIVATE_DIRECTORY)
        try:
            handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        if _locked(handle, name):
            if next(name.iterdir(), None) is None:
                os.fchmod(handle, _PRIVATE_DIRECTORY)
                return handle
            shutil.rmtree(name)  # an ended process left it
        os.close(handle)


def hold(path: Path) -> int:
    """Return a handle that locks a file or directory that exists.

    Raises:
        BusyError: another process holds it.
    """
    handle = os.open(path, os.O_RDONLY)
    if not _locked(handle, path):
        os.close(handle)
        return hold(path)
    return handle


@contextmanager
def only_one(lock: Path, *, what: str) -> Iterator[None]:
    """Keep other processes out of a block with the same lock file, which names its holder and goes with the block.

    Args:
        lock: the lock file. One that was left by an ended process does not block.
        what: what the holder does, for the message to others.

    Raises:
        BusyError: another process is in the block.
        WriteError: the lock file cannot be made.
    """
    try:
        with write_errors(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = _hold_patiently(lock)
    except BusyError as error:
        raise BusyError(f"{what} is under way already{_holder(lock)}: wait for it, or stop it") from error
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        holder = {"process": os.getpid(), "host": os.uname().nodename, "since": since}
        with write_errors(lock):
            os.write(handle, json.dumps(holder).encode("utf-8"))
        yield
    finally:
        with suppress(OSError):  # one that stays does not block
            lock.unlink()
        os.close(handle)


def is_held(lock: Path) -> bool:
    """Return whether a process holds a lock file."""
    try:
        os.close(hold(lock))
    except FileNotFoundError:
        return False
    except (BusyError, PermissionError):  # another user's
        return True
    return False


def _hold_patiently(lock: Path) -> int:
    """Hold a new lock file, and do not mind whoever only looks whether it is held."""
    for _ in range(_GLANCES):
        with suppress(BusyError):
            return hold_new_file(lock)
        time.sleep(_GLANCE_S)
    return hold_new_file(lock)


def _locked(handle: int, name: Path) -> bool:
    """Lock a handle and return whether it is still what stands at `name`; close it where another process has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise BusyError(f"another process holds {name}: wait for it, or stop it") from error
    return is_at(handle, name)


def is_at(handle: int, name: Path) -> bool:
    """Return whether what a handle is of stands under a name."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), name.stat())
    return False


def _holder(lock: Path) -> str:
    with suppress(OSError, ValueError, KeyError, TypeError):
        holder = json.loads(lock.read_text(encoding="utf-8"))
        return f" (process {holder['process']} on {holder['host']}, since {holder['since']})"
    return ""
