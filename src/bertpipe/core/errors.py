"""Every error that a user can fix: each message names the value, the limit and the next step."""

import errno
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LONGEST_MESSAGE, _END = 500, 200
"""Characters of the longest message, and of its end, which says what to do."""


url_of_copy: dict[str, str] = {}
"""The URL of each directory that is a copy from, or for, an object store; messages name the URL."""


def with_urls(text: str) -> str:
    """Return a text with the URL in place of each path of a copy; `pathlib` drops one of a URL's slashes."""
    for copy, url in url_of_copy.items():
        text = text.replace(copy, url)
    return re.sub(r"\b(s3|gs|az|abfss?):/(?=[^/])", r"\1://", text)


def shortened(message: str) -> str:
    """Return a message of at most `LONGEST_MESSAGE` characters: one that is too long loses its middle."""
    if len(message) <= LONGEST_MESSAGE:
        return message
    return f"{message[: LONGEST_MESSAGE - _END - 5]} ... {message[-_END:]}"


class BertpipeError(Exception):
    """A problem in the user's input, files or machine; the command line shows its message and exits with a code.

    A message that is too long, because of what the input holds, loses its middle.
    """

    def __init__(self, message: str, *, shown: bool = True, exit_code: int = 1) -> None:
        super().__init__(shortened(with_urls(message)))
        self.shown, self.exit_code = shown, exit_code  # where several processes raise it together, one shows it


class ParamsError(BertpipeError):
    """`params.yaml` cannot be read, or one of its values is out of its limits."""


class MissingInputError(BertpipeError):
    """A file or directory that a stage reads does not exist."""


class WriteError(BertpipeError):
    """An output cannot be written: the disk is full, a folder is read-only, or something else is there."""


class BusyError(BertpipeError):
    """Another process is writing the same output."""


INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to end."""
_SIGNALS_FROM = 128
"""Added to a signal's number, the exit code of a process that the signal ended."""


class Interrupted(BaseException):
    """A signal ended the work: not an error, and caught only by `main`."""

    def __init__(self, signal_number: int, cause: str | None = None) -> None:
        names = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "the end of the terminal (SIGHUP)"}
        super().__init__(f"stopped by {cause or names[signal.Signals(signal_number)]}")
        self.exit_code = _SIGNALS_FROM + signal_number

    @classmethod
    def of_exit_code(cls, code: int) -> "Interrupted":
        """Return the interruption that ends in an exit code."""
        return cls(code - _SIGNALS_FROM)


class StoppedError(BertpipeError):
    """A run was asked to stop, and it did, with its state saved."""


class StoreError(BertpipeError):
    """An object store cannot be reached, refuses the work, or does not hold what its manifest says."""


class DownloadError(BertpipeError):
    """A source could not be fetched, or its content is not the expected one."""


class PushError(BertpipeError):
    """The Hugging Face hub did not take a model."""


class DataError(BertpipeError):
    """A data file breaks the contract: the message names the file and, where there is one, the row."""


class ModelError(BertpipeError):
    """A model directory is missing, damaged, or does not fit the data or the input."""


class TrainingError(BertpipeError):
    """Training failed, for example because a loss is not finite."""


class WorldError(BertpipeError):
    """Processes that train together had to end: one failed, hangs, differs, or never joined."""


class InputError(BertpipeError):
    """A sentence given to a model cannot be answered: it is empty, too long, or has no `[MASK]`."""


def excerpt(value: object, most: int = 80) -> str:
    """Return a value as a message shows it, quoted; the beginning alone, if it is long."""
    shown = repr(value)
    return shown if len(shown) <= most else f"{shown[:most]}..."


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without a final stop; its type if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(":. ") if lines else type(error).__name__


def excerpts(values: Sequence[str], most: int = 5) -> str:
    """Return the first of some values as `excerpt` does, and how many more there are."""
    more = f" and {len(values) - most:,} more" if len(values) > most else ""
    return ", ".join(map(excerpt, values[:most])) + more


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system within the block into a WriteError that names `path`."""
    try:
        yield
    except BertpipeError:
        raise
    except Exception as error:
        code = _system_error(error)
        if code is None:
            raise
        fix = (
            "make room on the disk" if code in {errno.ENOSPC, errno.EDQUOT}
            else "make its folder writable" if code in {errno.EACCES, errno.EPERM, errno.EROFS}
            else "check the disk" if code == errno.EIO
            else "fix this"
        )  # fmt: skip
        file = getattr(error, "filename", None)
        at = f" at {os.fsdecode(file)}" if file else ""
        raise WriteError(
            f"{path} cannot be written ({os.strerror(code)}{at}): {fix} and run the command again; "
            "nothing half-written is left"
        ) from error


def _system_error(error: Exception) -> int | None:
    """Return the operating system's number of an error; libraries written in Rust have it only in their message."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None
