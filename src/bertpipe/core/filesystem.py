"""What not every file system offers: network shares, volumes and FAT lack some of it.

Without it the work is done all the same, with one note per process on what is not guaranteed then.
"""

import errno
import fcntl
import logging
import os
from functools import cache
from pathlib import Path

_NOT_OFFERED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EBADF}
_REFUSED = {errno.EPERM, errno.EACCES, errno.EISDIR}
_NO_LOCKS = {*_NOT_OFFERED, errno.ENOLCK} - {errno.EBADF}

_log = logging.getLogger(__name__)


class NoLocksError(OSError):
    """The file system has no locks."""


def flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    is_folder = path.is_dir()
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in (_NOT_OFFERED | _REFUSED if is_folder else _NOT_OFFERED):
            raise
        what = "the names in a folder" if is_folder else "a file"
        _note_once(f"cannot flush {what} to the disk", error.errno, "after a power cut the newest files may be missing")


def set_mode(path: Path, mode: int) -> None:
    """Set the permissions of a file or folder that this process made."""
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno not in _NOT_OFFERED | _REFUSED:
            raise
        if path.stat().st_mode & 0o777 != mode:
            _note_once("does not keep permissions", error.errno, "outputs have those that it gives them")


def try_lock(handle: int) -> bool:
    """Take the lock of an open file until it is closed, and return whether no other process has it.

    Raises:
        NoLocksError: the file system has none.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        advice = "a lock file alone keeps two commands from writing one output, and a lost machine leaves it"
        _note_once("has no locks", error.errno, advice)
        raise NoLocksError(error.errno, os.strerror(error.errno)) from error
    return True


@cache
def _note_once(lack: str, code: int, consequence: str) -> None:
    _log.warning("the file system of an output %s (%s): %s", lack, os.strerror(code), consequence)
