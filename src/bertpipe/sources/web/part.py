"""The bytes of an address that have come so far: kept on disk, with what is needed to go on from them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from io import FileIO
from pathlib import Path
from time import monotonic

from bertpipe.core.artifacts import read_json, write_json
from bertpipe.core.errors import DataError, WriteError, write_errors
from bertpipe.core.locks import LOCK, only_one
from bertpipe.sources.web.address import shown
from bertpipe.sources.web.answer import Arrived, is_validator

FACTS = "facts.json"
_BYTES = "part"
_SAVE_EVERY_S = 1.0
"""Time between two saves: what a kill loses at most. fsync is too slow to call for every chunk."""
_PRIVATE_FILE, _PRIVATE_DIRECTORY = 0o600, 0o700


class Part:
    """The first bytes of a file, and which version of the file they are of.

    The facts about them are written after the bytes have reached the disk, and say how many those are: whatever a power
    cut leaves behind them is cut off.
    """

    def __init__(self, directory: Path, url: str) -> None:
        """Open what is there; bytes without facts, or with facts that do not fit, count as none."""
        self.path, self._facts_path, self._url = directory / _BYTES, directory / FACTS, url
        self._file = FileIO(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _PRIVATE_FILE), "r+")
        self._saved_at = monotonic()
        self._disk_failed = False
        found = self._load()
        self.size = self._saved_size = 0 if found is None else found.size
        self.validator = None if found is None else found.validator
        self.total = None if found is None else found.total
        self._file.truncate(self.size)
        self._file.seek(self.size)

    @property
    def arrived(self) -> Arrived | None:
        """What a server may be asked to go on from, if anything."""
        if self.size == 0 or self.validator is None:
            return None
        return Arrived(size=self.size, validator=self.validator, total=self.total)

    @property
    def kept_size(self) -> int:
        """Bytes that another run can go on from, should this one end here."""
        if self.arrived is None:
            return 0
        return self._saved_size if self._disk_failed else self.size

    def restart(self, *, validator: str | None, total: int | None) -> None:
        """Throw the bytes away: those of the version `validator` come next, `total` in all.

        Raises:
            WriteError: the disk does not take it.
        """
        with self._disk():
            self._facts_path.unlink(missing_ok=True)
            self._file.truncate(0)
            self._file.seek(0)
            self.size, self._saved_size, self.validator, self.total = 0, 0, validator, total
        # Before the first byte: facts of the earlier version, back after a power cut, must not meet these bytes.
        self.save()

    def append(self, content: bytes) -> None:
        """Add bytes.

        Raises:
            WriteError: the disk does not take them.
        """
        with self._disk():
            while content:
                written = self._file.write(content)
                self.size += written
                content = content[written:]
        if monotonic() - self._saved_at >= _SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Bring the bytes to the disk, then the facts about them.

        Raises:
            WriteError: the disk does not take them.
        """
        facts = {"url": shown(self._url), "validator": self.validator, "total": self.total, "bytes": self.size}
        with self._disk():
            os.fsync(self._file.fileno())
            write_json(self._facts_path, facts)
            self._facts_path.chmod(_PRIVATE_FILE)
        self._saved_at, self._saved_size = monotonic(), self.size

    def discard(self) -> None:
        """Delete bytes and facts."""
        self._facts_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        self.size, self.validator = 0, None

    def close(self) -> None:
        """Keep what another run can go on from, and delete the rest."""
        if self.kept_size == 0:
            self.discard()
        elif not self._disk_failed:
            self.save()
        self._file.close()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """After an error nothing more is saved: fsync tells of lost bytes once. What was saved before is true still."""
        try:
            with write_errors(self.path):
                yield
        except WriteError:
            self._disk_failed = True
            raise

    def _load(self) -> Arrived | None:
        try:
            facts = read_json(self._facts_path)
        except DataError:
            return None
        match facts:
            case {"validator": str(validator), "total": int() | None as total, "bytes": int(size)} if (
                is_validator(validator)
                and 0 < size <= os.fstat(self._file.fileno()).st_size
                and (total is None or size <= total)
            ):
                return Arrived(size=size, validator=validator, total=total)
        return None


@contextmanager
def open_part(downloads: Path, url: str) -> Iterator[Part]:
    """Yield the part of `url`, which has a directory in `downloads` and which nobody else can open meanwhile.

    When the block ends, a part that another run can go on from is kept.

    Raises:
        BusyError: another process has it open.
        WriteError: the disk does not take it.
    """
    directory = downloads / sha256(url.encode()).hexdigest()[:16]
    with write_errors(directory):
        downloads.mkdir(parents=True, exist_ok=True)
        downloads.chmod(_PRIVATE_DIRECTORY)
        directory.mkdir(mode=_PRIVATE_DIRECTORY, exist_ok=True)
    try:
        with only_one(directory / LOCK, what=f"a download of {shown(url)}"):
            with write_errors(directory):
                part = Part(directory, url)
            try:
                yield part
            finally:
                part.close()
    finally:
        with suppress(OSError):  # it holds a part, or another process's lock
            directory.rmdir()
