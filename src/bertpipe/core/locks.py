"""Locks that end with their process, each on a file that names its holder and is removed with the lock."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from bertpipe.core.errors import BusyError, write_errors
from bertpipe.core.filesystem import NoLocksError, try_lock

LOCK = "lock"
"""Name of the lock file of a directory that one process may work in."""

_PRIVATE = 0o600
_ATTEMPTS, _RETRY_S = 4, 0.02
"""A lock is tried again because `is_held` may hold it for a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holder:
    process: int
    host: str
    since: str
    """In UTC, for messages."""


@contextmanager
def exclusive_lock(lock: Path, *, what: str, output: Path | None = None) -> Iterator[None]:
    """Keep other processes out of a block with the same lock file.

    Args:
        lock: the lock file. One that an ended process left does not block.
        what: what the holder does, for messages.
        output: the output that an error names if the lock file cannot be made; None for the lock file.

    Raises:
        BusyError: another process is in the block.
        WriteError: the lock file cannot be made.
    """
    with write_errors(output or lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = _acquired(lock, what)
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        holder = _Holder(process=os.getpid(), host=os.uname().nodename, since=since)
        with write_errors(output or lock):
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps(asdict(holder)).encode("utf-8"))
        yield
    finally:
        with suppress(OSError):  # a file that stays does not block
            lock.unlink()
        os.close(handle)


def is_held(lock: Path) -> bool:
    """Return whether a process holds a lock file."""
    try:
        handle = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except PermissionError:  # another user's
        return True
    try:
        return not _locked(handle, lock)
    finally:
        os.close(handle)


def _acquired(lock: Path, what: str) -> int:
    """Return a handle that holds the lock file, made private."""
    attempts = 0
    while attempts < _ATTEMPTS:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _PRIVATE)
        if not _locked(handle, lock):
            attempts += 1
            time.sleep(_RETRY_S)
        elif _is_at(handle, lock):  # else its last holder has just removed it
            return handle
        os.close(handle)
    raise BusyError(f"{what} is already under way{_holder(lock)}: wait for it, or stop it")


def _locked(handle: int, lock: Path) -> bool:
    try:
        return try_lock(handle)
    except NoLocksError:
        return not _is_at_work(_read_holder(lock))


def _is_at(handle: int, lock: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), lock.stat())
    return False


def _holder(lock: Path) -> str:
    holder = _read_holder(lock)
    if holder is None:
        return ""
    return f" (process {holder.process} on {holder.host}, since {holder.since}; its lock file is {lock})"


def _read_holder(lock: Path) -> _Holder | None:
    """Return who wrote a lock file; None if that is not known."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(lock.read_text(encoding="utf-8"))
        return _Holder(process=int(found["process"]), host=str(found["host"]), since=str(found["since"]))
    return None


def _is_at_work(holder: _Holder | None) -> bool:
    """Return whether the process that wrote a lock file may still be running."""
    if holder is None:
        return False
    if holder.host != os.uname().nodename:
        return True
    if holder.process == os.getpid():  # in a container each process may have the number of the one before it
        return False
    try:
        os.kill(holder.process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
