"""Files from the web: whole or not at all, resumed where an earlier try stopped (RFC 9110, sections 13 to 15)."""

import os
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from http.client import responses
from pathlib import Path
from string import punctuation
from time import monotonic, sleep
from urllib.parse import quote, urljoin, urlsplit

from requests import Response, Session, TooManyRedirects
from requests.exceptions import SSLError
from requests.utils import get_environ_proxies
from urllib3 import Retry, exceptions

from bertpipe import __version__
from bertpipe.core.artifacts import DOWNLOAD_FACTS, DOWNLOAD_PART, DOWNLOADS_DIR, read_json, write_json
from bertpipe.core.errors import DataError, DownloadError, write_errors
from bertpipe.core.locks import LOCK, exclusive_lock
from bertpipe.core.params import DownloadParams
from bertpipe.core.progress import Progress

_CHUNK_BYTES, _PROGRESS_BYTES, _LONGEST_WAIT_S, _MOST_REDIRECTS = 1 << 18, 1 << 20, 60.0, 10
_OK, _PARTIAL, _NO_RANGES, _MAY_PASS = 200, 206, (400, 412, 416, 501), (408, 425, 429, 500, 502, 503, 504)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')
_URL = re.compile(r"([\w+.-]+://)(?:[^/?#]*@)?([^@?#]*)(\?[^@#]*)?(#[^@]*)?")
_HINT = "check the network, or set download.source to `sample` or to a local copy of the file"


class RetryableError(Exception):
    """A try failed where the next one may not; the server may ask to wait before that."""

    wait_s = 0.0


@contextmanager
def fetch(url: str, limits: DownloadParams, on_progress: Callable[[Progress], None]) -> Iterator[Path]:
    """Yield the complete zip at `url`. What came before a stop is kept, unless the block finds that it is wrong.

    Proxies are those of the environment, trusted certificates those of the machine; no login is taken from `~/.netrc`.

    Raises:
        BusyError: another process is downloading it.
        WriteError: it cannot be written.
        DownloadError: it cannot be had within the limits, or from a server that can be trusted.
        DataError: what comes is not a zip.
    """
    directory = DOWNLOADS_DIR / sha256(url.encode()).hexdigest()[:16]
    with write_errors(DOWNLOADS_DIR):
        DOWNLOADS_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        lock = exclusive_lock(directory / LOCK, what=f"a download of {redact_url(url)}")
        with lock, closing(_Download(directory, url, limits, on_progress)) as download:
            download.run()
            try:
                yield directory / DOWNLOAD_PART
            except (DataError, DownloadError):
                download.etag = ""
                raise
            download.etag = ""
    finally:
        with suppress(OSError):  # it holds a part, or the lock of another process
            directory.rmdir()


class _Download:
    """The first bytes of a file, kept on disk, and the requests that complete them."""

    def __init__(self, directory: Path, url: str, limits: DownloadParams, report: Callable[[Progress], None]) -> None:
        self._part, self._facts, self._url = directory / DOWNLOAD_PART, directory / DOWNLOAD_FACTS, url
        self._name, self._limits, self._on_progress = redact_url(url), limits, report
        self._size, self._total, self.etag, self._ends_at = 0, 0, "", monotonic() + 60 * limits.max_minutes
        with suppress(DataError, FileNotFoundError):
            match read_json(self._facts), self._part.stat().st_size:
                case {"etag": str(etag), "total": int(total)}, size if _STRONG_ETAG.fullmatch(etag) and size <= total:
                    self._size, self._total, self.etag = size, total, etag

    def close(self) -> None:
        """Delete what no other try can resume from."""
        if not (self.etag and self._size):
            self._facts.unlink(missing_ok=True)
            self._part.unlink(missing_ok=True)

    def run(self) -> None:
        """Try until the file is complete."""
        failed, farthest, retries = 0, self._size, self._limits.retries
        while True:
            try:
                return self._try()
            except (RetryableError, OSError, exceptions.HTTPError, ValueError) as caught:
                error = caught if isinstance(caught, RetryableError) else self._retryable(caught)
                if self._size >= farthest + _PROGRESS_BYTES:  # then all retries are available again
                    farthest, failed = self._size, 0
                failed += 1
                if failed > retries:
                    tries = f"that was try {failed} in a row without progress, download.retries is {retries}"
                    raise DownloadError(f"{self._name} {error}; {tries}: {_HINT}") from caught
                wait_s = min(max(2.0 ** min(failed - 1, 10), error.wait_s), _LONGEST_WAIT_S)
                self._report(f"{error}; retry {failed} of {retries} in {wait_s:.0f} s", wait_s)
                sleep(wait_s)

    def _try(self) -> None:
        """Complete the file with the answer to one request."""
        headers = {"User-Agent": f"bertpipe/{__version__}", "Accept-Encoding": "identity"}
        kept = self._size if self.etag else 0
        if kept:  # the last byte comes again: no range is empty
            headers |= {"Range": f"bytes={kept - 1}-", "If-Range": self.etag}
        session, trusted, proxies = Session(), ssl.get_default_verify_paths(), get_environ_proxies(self._url)
        session.trust_env, session.max_redirects = False, _MOST_REDIRECTS  # the environment includes ~/.netrc
        session.verify, session.hooks["response"] = trusted.cafile or trusted.capath or True, [_check]
        session.rebuild_proxies = lambda request, _: get_environ_proxies(str(request.url))  # type: ignore[assignment]
        answer = session.get(self._url, headers=headers, stream=True, timeout=self._limits.timeout_s, proxies=proxies)
        with session, closing(answer):
            raw, told = answer.raw, answer.headers
            raw.enforce_content_length = False  # an early end is reported below, with the number of bytes
            if {told.get("Content-Encoding", ""), told.get("Transfer-Encoding", "")} - {"", "identity", "chunked"}:
                raise DownloadError(f"{self._name} sends the file with an encoding: take another address of the file")
            expected = f"bytes {kept - 1}-{self._total - 1}/{self._total}", self.etag
            if answer.status_code == _OK:
                self._restart(answer)
            elif (told.get("Content-Range"), told.get("ETag")) == expected:
                raw.read1(1)
            else:
                self.etag = ""  # the next try asks for the whole file
                raise RetryableError(f"answered {answer.status_code} and not with the range that was asked for")
            while content := raw.read1(min(_CHUNK_BYTES, (self._total or self._limits.max_bytes + 1) - self._size)):
                with write_errors(self._part), self._part.open("ab") as file:
                    self._size += file.write(content)
                self._report()
        if self._size < self._total:
            raise RetryableError(f"ended after {self._size:,} of {self._total:,} bytes")

    def _restart(self, answer: Response) -> None:
        """Replace what is kept by the first bytes of a zip, and by nothing else."""
        total, first, etag = answer.raw.length_remaining, answer.raw.read1(2), answer.headers.get("ETag", "")
        if total is None and "Content-Length" in answer.headers and not answer.raw.chunked:
            raise RetryableError("sent a Content-Length that is not a number")
        if not b"PK".startswith(first):
            raise DataError(f"what came from {self._name} is not a zip file: open it in a browser, it may be a sign-in")
        with write_errors(self._part):
            with self._part.open("wb") as file:
                self._size = file.write(first)
                os.fsync(file.fileno())  # new facts must not meet the bytes of another version
            self._total, self.etag = total or 0, etag if total and _STRONG_ETAG.fullmatch(etag) else ""
            write_json(self._facts, {"url": self._name, "etag": self.etag, "total": total})
        self._report()

    def _report(self, detail: str = "", wait_s: float = 0.0) -> None:
        """Report how far it is, within the limits of size and time."""
        limits, size, total = self._limits, max(self._size, self._total), self._total or None
        if size > limits.max_bytes:
            limit = f"the limit is download.max_bytes {limits.max_bytes:,}"
            raise DownloadError(f"{self._name} has {size:,} bytes or more, {limit}: raise it if the file is right")
        if monotonic() + wait_s >= self._ends_at:
            limit = f"{detail or 'is not complete'}, and the time of download.max_minutes {limits.max_minutes:g} is up"
            raise DownloadError(f"{self._name} {limit}: raise it, or {_HINT}")
        label = f"downloading {self._name}"
        self._on_progress(Progress(label=label, completed=self._size, total=total, unit="bytes", detail=detail))

    def _retryable(self, error: Exception) -> RetryableError:
        """Return what went wrong on the way, in words that hold no URL and so no secret."""
        root: BaseException = error
        while inner := root.__cause__ or root.__context__:
            root = inner
        what = getattr(root, "verify_message", None) or getattr(root, "strerror", None) or type(root).__name__
        if isinstance(error, ValueError | TooManyRedirects | SSLError) and not isinstance(root, ssl.SSLEOFError):
            hint = "check the address, SSL_CERT_FILE, http_proxy, https_proxy and this machine's clock"
            raise DownloadError(f"{self._name} cannot be asked ({what}): {hint}") from error
        return RetryableError(f"failed ({what})")


def _check(answer: Response, **_: object) -> None:
    """Refuse an answer that cannot be of the file, and a redirect to a weaker scheme."""
    name, status, ranged = redact_url(answer.url), answer.status_code, "Range" in answer.request.headers
    if status == _OK or (ranged and status == _PARTIAL):
        return
    answer.close()  # requests would read the content of a redirect, however long
    told = f"answered {status} {responses.get(status, '')}".rstrip()
    if answer.is_redirect:
        target = urljoin(answer.url, quote(answer.headers["Location"], safe=punctuation))
        if urlsplit(target).scheme not in {"https", urlsplit(answer.url).scheme}:
            raise DownloadError(f"{name} redirects to {redact_url(target)}: only https, or http to http, is followed")
    elif status in (*_MAY_PASS, _PARTIAL):
        error = RetryableError(told)
        with suppress(exceptions.HTTPError, ValueError, OverflowError):
            error.wait_s = Retry().get_retry_after(answer.raw) or 0.0
        raise error
    elif not (ranged and status in _NO_RANGES):
        raise DownloadError(f"{name} {told}: correct the address, or {_HINT}")


def redact_url(source: str) -> str:
    """Return a URL without user, password, query and fragment, or its scheme alone where it is ambiguous."""
    if match := _URL.fullmatch(source):
        return f"{match[1]}{match[2]}{'?…' if match[3] else ''}"
    return f"{source.partition('://')[0]}://…" if "://" in source else source
