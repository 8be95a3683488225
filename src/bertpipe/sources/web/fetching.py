"""A file from the web: tried again until it is complete, within limits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from bertpipe.core.artifacts import DOWNLOADS_DIR
from bertpipe.core.errors import DataError, DownloadError, WriteError
from bertpipe.core.params import DownloadParams
from bertpipe.core.progress import Progress
from bertpipe.sources.web.address import Address, parse_address
from bertpipe.sources.web.answer import HINT, Answer, Setback, ask
from bertpipe.sources.web.part import Part, open_part

_CHUNK_BYTES = 1 << 18
_PROGRESS_BYTES = 1 << 20
"""New bytes that count as progress: after them all retries are there again."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
"""The wait before a retry doubles each time; a server may ask for a longer one, up to the longest."""
_ZIP_BEGINS = b"PK"


@contextmanager
def fetch(url: str, limits: DownloadParams, on_progress: Callable[[Progress], None]) -> Iterator[Path]:
    """Yield the complete file that `url` names, a zip by its first bytes.

    A stop on the way, of whatever kind, leaves a part in `DOWNLOADS_DIR` from which the next call goes on. Where the
    block ends well, or says with a DataError or DownloadError that the file is wrong, nothing is left.

    Raises:
        BusyError: another process is downloading it.
        WriteError: the disk does not take it.
        DownloadError: the file cannot be had within the limits, or from a server that can be trusted.
        DataError: what comes is no zip.
    """
    address = parse_address(url)
    with open_part(DOWNLOADS_DIR, url) as part:
        try:
            _Transfer(address, part, limits, on_progress).run()
        except (DownloadError, WriteError) as error:
            raise type(error)(f"{error}{_kept(part)}") from error
        try:
            yield part.path
        except (DataError, DownloadError):
            part.discard()
            raise
        part.discard()


class _Transfer:
    """Fills one part."""

    def __init__(
        self, address: Address, part: Part, limits: DownloadParams, on_progress: Callable[[Progress], None]
    ) -> None:
        self._address, self._part, self._limits, self._on_progress = address, part, limits, on_progress
        self._ends_at = monotonic() + 60 * limits.max_minutes
        self._failed_tries = 0
        self._farthest = part.size

    def run(self) -> None:
        """Try until the part is complete."""
        arrived = self._part.arrived
        while True:
            try:
                with ask(self._address, arrived, timeout_s=self._timeout_s()) as answer:
                    self._receive(answer)
            except Setback as setback:
                self._wait(setback)
                arrived = None if setback.from_the_start else self._part.arrived
            else:
                return

    def _receive(self, answer: Answer) -> None:
        """Add what the answer holds to the part, which is complete then."""
        self._check_size(answer.total or 0)
        if answer.start == 0:
            first = self._first_bytes(answer)
            self._part.restart(validator=answer.validator, total=answer.total)
            self._add(first)
        self._part.total = answer.total
        while chunk := answer.read(_left(answer, self._part.size)):
            self._add(chunk)
        if answer.stop is not None and self._part.size < answer.stop:
            raise Setback(f"ended after {self._part.size:,} of {answer.total:,} bytes")
        if answer.total is not None and answer.stop != answer.total:
            raise Setback(f"sent no more than {answer.stop:,} of {answer.total:,} bytes")

    def _first_bytes(self, answer: Answer) -> bytes:
        """Return enough bytes to tell a zip from the page of a sign-in, before any earlier byte is given up for it."""
        first = b""
        while len(first) < len(_ZIP_BEGINS) and (more := answer.read(len(_ZIP_BEGINS) - len(first))):
            first += more
        if _ZIP_BEGINS.startswith(first):
            return first
        is_page = answer.content_type == "text/html" or first.startswith(b"<")
        raise DataError(
            f"what came from {self._address.shown} is not a zip file"
            + (": it is a web page, of a sign-in or an error perhaps; open the address in a browser" if is_page else "")
        )

    def _add(self, content: bytes) -> None:
        self._check_size(self._part.size + len(content))
        self._part.append(content)
        self._report()
        self._timeout_s()

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_bytes:
            raise DownloadError(
                f"{self._address.shown} has {size:,} bytes or more, the limit is {self._limits.max_bytes:,}: "
                "raise download.max_bytes if that is the right file"
            )

    def _timeout_s(self) -> float:
        """Return how long to wait for a byte, which is no longer than the rest of the time."""
        left_s = self._ends_at - monotonic()
        if left_s <= 0:
            raise self._too_late("is not complete")
        return min(self._limits.timeout_s, left_s)

    def _wait(self, setback: Setback) -> None:
        """Wait before the next try, if there may be one."""
        self._part.save()
        if self._part.size >= self._farthest + _PROGRESS_BYTES:
            self._farthest, self._failed_tries = self._part.size, 0
        self._failed_tries += 1
        if self._failed_tries > self._limits.retries:
            raise DownloadError(
                f"{self._address.shown} {setback.reason}; that was try {self._failed_tries} in a row without progress, "
                f"download.retries is {self._limits.retries}: {HINT}"
            ) from setback
        wait_s = min(max(_FIRST_WAIT_S * 2 ** min(self._failed_tries - 1, 10), setback.wait_s), _LONGEST_WAIT_S)
        if monotonic() + wait_s >= self._ends_at:
            raise self._too_late(setback.reason) from setback
        self._report(f"it {setback.reason}; retry {self._failed_tries} of {self._limits.retries} in {wait_s:.0f} s")
        sleep(wait_s)

    def _too_late(self, reason: str) -> DownloadError:
        return DownloadError(
            f"{self._address.shown} {reason}, and the time of download.max_minutes {self._limits.max_minutes:g} is up: "
            f"raise it, or {HINT}"
        )

    def _report(self, detail: str = "") -> None:
        label, part = f"downloading {self._address.shown}", self._part
        report = Progress(label=label, completed=part.size, total=part.total, unit="bytes", detail=detail)
        self._on_progress(report)


def _left(answer: Answer, size: int) -> int:
    """Return how many bytes to read next: whatever follows those that the answer announced is not of the file."""
    return _CHUNK_BYTES if answer.stop is None else min(_CHUNK_BYTES, answer.stop - size)


def _kept(part: Part) -> str:
    return f" ({part.kept_size:,} bytes of it are kept: run it again to go on from there)" if part.kept_size else ""
