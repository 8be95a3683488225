"""The bytes of an address that have come so far: kept on disk, with what is needed to go on from them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import FileIO
from pathlib import Path
from time import monotonic

from filelock import FileLock, Timeout

from bertpipe.artifacts import read_json, write_json
from bertpipe.data.transfer.address import shown
from bertpipe.data.transfer.answer import Arrived, is_validator
from bertpipe.errors import DataError, DownloadError

_SAVE_EVERY_S = 1.0
"""Time between two saves: what a kill loses at most. fsync is too slow to call for every chunk."""
_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700


class Part:
    """The first bytes of a file, and which version of the file they are of.

    `KEY.part` holds the bytes and `KEY.json` the facts about them. The facts are written after the bytes have reached
    the disk, and say how many those are: whatever a power cut leaves behind them is cut off.
    """

    def __init__(self, stem: Path, url: str) -> None:
        """Open what is there; bytes without facts, or with facts that do not fit, count as none."""
        self.path, self._facts_path, self._url = stem.with_suffix(".part"), stem.with_suffix(".json"), url
        self._file = FileIO(os.open(self.path, os.O_RDWR | os.O_CREAT, _PRIVATE_FILE), "r+")
        self._saved_at = monotonic()
        self._disk_failed = False
        found = self._load()
        self.size = 0 if found is None else found.size
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

    def restart(self, *, validator: str | None, total: int | None) -> None:
        """Throw the bytes away: those of the version `validator` come next, `total` in all.

        Raises:
            DownloadError: the disk does not take it.
        """
        with self._disk():
            self._facts_path.unlink(missing_ok=True)
            self._file.truncate(0)
            self._file.seek(0)
            self.size, self.validator, self.total = 0, validator, total
        # Before the first byte: facts of the earlier version, back after a power cut, must not meet these bytes.
        self.save()

    def append(self, content: bytes) -> None:
        """Add bytes.

        Raises:
            DownloadError: the disk does not take them.
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
            DownloadError: the disk does not take them.
        """
        facts = {"url": shown(self._url), "validator": self.validator, "total": self.total, "bytes": self.size}
        with self._disk():
            os.fsync(self._file.fileno())
            write_json(self._facts_path, facts)
            self._facts_path.chmod(_PRIVATE_FILE)
        self._saved_at = monotonic()

    def discard(self) -> None:
        """Delete bytes and facts."""
        self._facts_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        self.size, self.validator = 0, None

    def close(self) -> None:
        """Keep what another run can go on from, and delete the rest."""
        if self.arrived is None:
            self.discard()
        elif not self._disk_failed:
            self.save()
        self._file.close()

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """After an error nothing more is saved: fsync tells of lost bytes once. What was saved before is true still."""
        try:
            with _disk(self.path, self._url):
                yield
        except DownloadError:
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
def open_part(folder: Path, url: str) -> Iterator[Part]:
    """Yield the part of `url` in `folder`, which nobody else can open meanwhile.

    When the block ends, a part that another run can go on from is kept.

    Raises:
        DownloadError: another process has it open.
    """
    stem = folder / sha256(url.encode()).hexdigest()[:32]
    lock = FileLock(stem.with_suffix(".lock"), timeout=0, mode=_PRIVATE_FILE)
    with _disk(folder, url):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(_PRIVATE_FOLDER)
        try:
            lock.acquire()
        except Timeout as error:
            raise DownloadError(
                f"{shown(url)} is being downloaded already by another process (it holds {lock.lock_file}): "
                "wait until it is done, or stop it"
            ) from error
    try:
        with _disk(folder, url):
            part = Part(stem, url)
        try:
            yield part
        finally:
            part.close()
    finally:
        # While it is held: filelock takes no lock on a file that has lost its name.
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


@contextmanager
def _disk(path: Path, url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"{path} cannot be written ({error.strerror}) for {shown(url)}: free some space, or make it writable"
        ) from error
