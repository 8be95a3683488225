"""One request for a file on the web, and what its answer means (RFC 9110, sections 13 to 15)."""

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, IncompleteRead, InvalidURL, RemoteDisconnected
from urllib.error import URLError
from urllib.request import HTTPErrorProcessor, Request, build_opener

from bertpipe import __version__
from bertpipe.core.errors import DownloadError
from bertpipe.sources.web.address import Address

_OK, _PARTIAL, _RANGE_NOT_SATISFIABLE = 200, 206, 416
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 10
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses of a server that may answer otherwise a little later."""
_NO_RANGES = (400, 412, 501)
"""Statuses with which a server may refuse the range and not the file."""
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]*"')
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_UNSATISFIED_RANGE = re.compile(r"bytes \*/(\d{1,18})")
_DATE_IS_STRONG_AFTER = timedelta(seconds=60)
"""How much older than the answer a Last-Modified must be: a file may change twice within a second, or on two clocks."""
_ELSEWHERE = "set download.source to `sample` or to a local copy of the file"
HINT = f"check the network, or {_ELSEWHERE}"


class Setback(Exception):  # noqa: N818 - no error for the user: the next try may well succeed
    """A try that failed where another one may not."""

    def __init__(self, reason: str, *, wait_s: float = 0.0, from_the_start: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s
        """How long the server asks to wait, in seconds."""
        self.from_the_start = from_the_start
        """Whether the next try must ask for the whole file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """What of a file has come before."""

    size: int
    """In bytes."""
    validator: str
    """What the server calls this version of the file: a strong ETag, or a Last-Modified."""
    total: int | None
    """Bytes of the whole file, where that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The bytes of a file from `start` to `stop`, as the server sends them."""

    response: HTTPResponse
    timeout_s: float
    start: int
    """Place of the first byte in the file; after 0, it goes on exactly where the earlier bytes end."""
    stop: int | None
    """Place behind the last byte; None where only the end of the connection tells."""
    total: int | None
    """Bytes of the whole file."""
    validator: str | None
    """What may stand in If-Range for this version of the file; None if it cannot be told from another one."""
    content_type: str

    def read(self, size: int) -> bytes:
        """Return between 1 and `size` bytes as soon as some are there; nothing at the end.

        Raises:
            Setback: the connection broke, or nothing came for too long.
        """
        try:
            return self.response.read1(size)
        except (OSError, HTTPException) as error:
            raise Setback(f"broke off ({_reason(error, self.timeout_s)})") from error


class _EveryAnswer(HTTPErrorProcessor):
    """Hands out redirects and errors as answers, so that what becomes of them is decided in one place: here."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        """Return the answer as it is."""
        return response

    https_response = http_response


@contextmanager
def ask(address: Address, arrived: Arrived | None, *, timeout_s: float) -> Iterator[Answer]:
    """Yield what the server sends of the file: what comes after `arrived` if that is of the same version, else all.

    An answer that starts at `arrived.size` and stops there says that nothing is lacking.

    Raises:
        Setback: this try failed, another one may not.
        DownloadError: another try would fail as well.
    """
    headers = {"User-Agent": f"bertpipe/{__version__}", "Accept-Encoding": "identity"}
    if arrived is not None:
        headers |= {"Range": f"bytes={arrived.size}-", "If-Range": arrived.validator}
    with _open(address, headers, timeout_s) as response:
        if response.status != _RANGE_NOT_SATISFIABLE:
            _refuse_encodings(address, response.headers)
        if response.status == _OK:
            length = _content_length(response.headers)
            start, stop, total, validator = 0, length, length, _validator(response.headers)
        elif arrived is None:
            raise Setback(f"answered {_named(response.status)} to a request for all of it")
        else:
            _compare_version(response.headers, arrived)
            validator, start = arrived.validator, arrived.size
            partial = response.status == _PARTIAL
            stop, total = (_range if partial else _end)(response.headers, arrived)
        yield Answer(
            response=response, timeout_s=timeout_s, start=start, stop=stop, total=total, validator=validator,
            content_type=response.headers.get_content_type(),
        )  # fmt: skip


@contextmanager
def _open(address: Address, headers: Mapping[str, str], timeout_s: float) -> Iterator[HTTPResponse]:
    """Yield the answer with status 200, 206 or 416 at the end of the redirects."""
    at = address
    for _ in range(_MOST_REDIRECTS + 1):
        login = {} if at.authorization is None else {"Authorization": at.authorization}
        request = Request(at.url, headers={**headers, **login})  # noqa: S310
        with _send(request, at, timeout_s) as response:
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                _check_status(at, response, ranged="Range" in headers)
                yield response
                return
        at = at.redirected(location)
    raise DownloadError(f"{address.shown} redirects more than {_MOST_REDIRECTS} times: take the file's own address")


def _send(request: Request, address: Address, timeout_s: float) -> HTTPResponse:
    """Return the answer to one request; proxies and trusted certificates are those of the environment."""
    try:
        answer: HTTPResponse = build_opener(_EveryAnswer).open(request, timeout=timeout_s)
    except (ValueError, InvalidURL) as error:  # a host that has no form on the wire, here or in http_proxy
        raise DownloadError(
            f"{address.shown} cannot be asked ({type(error).__name__}): correct its host, or http_proxy and https_proxy"
        ) from error
    except (OSError, HTTPException) as error:
        # A URLError, itself an OSError, holds what went wrong while connecting.
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, str):
            raise DownloadError(f"{address.shown} cannot be asked ({cause}): see http_proxy and https_proxy") from error
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            raise DownloadError(_distrusted(address, cause)) from error
        raise Setback(f"cannot be reached ({_reason(cause, timeout_s)})") from error
    return answer


def _check_status(address: Address, response: HTTPResponse, *, ranged: bool) -> None:
    status = response.status
    if status in (_OK, _PARTIAL) or (status == _RANGE_NOT_SATISFIABLE and ranged):
        return
    if status in _PASSING:
        wait_s = _retry_after_s(response.headers)
        asks = f" and asks to wait {wait_s:,.0f} s" if wait_s else ""
        raise Setback(f"answered {_named(status)}{asks}", wait_s=wait_s)
    if ranged and status in _NO_RANGES:
        raise Setback(f"answered {_named(status)}", from_the_start=True)
    raise DownloadError(f"{address.shown} answered {_named(status)}: correct the address, or {_ELSEWHERE}")


def _refuse_encodings(address: Address, headers: Message) -> None:
    for name, plain in (("Content-Encoding", "identity"), ("Transfer-Encoding", "chunked")):
        encoding = headers.get(name, plain).strip().lower()
        if encoding not in {plain, ""}:
            raise DownloadError(
                f"{address.shown} sends the file with {name} {encoding[:40]!r}, though it was asked for the bytes "
                f"as they are: take another address of the file, or {_ELSEWHERE}"
            )


def _content_length(headers: Message) -> int | None:
    told = set(headers.get_all("Content-Length", []))
    if not told or headers.get("Transfer-Encoding"):
        return None
    length = told.pop()
    if told or not re.fullmatch(r"\d{1,18}", length, re.ASCII):
        raise Setback("told a Content-Length that is none")
    return int(length)


def _validator(headers: Message) -> str | None:
    etag: str | None = headers.get("ETag")
    if etag is not None:  # a weak one, even beside a date, says that the bytes may differ
        return etag if _STRONG_ETAG.fullmatch(etag) else None
    modified, answered = _http_date(headers, "Last-Modified"), _http_date(headers, "Date")
    if modified and answered and answered - modified >= _DATE_IS_STRONG_AFTER:
        return str(headers["Last-Modified"])
    return None


def is_validator(text: object) -> bool:
    """Return whether `text` has the form of a strong ETag or of a date."""
    headers = Message()
    headers["Last-Modified"] = str(text)
    return isinstance(text, str) and bool(_STRONG_ETAG.fullmatch(text) or _http_date(headers, "Last-Modified"))


def _compare_version(headers: Message, arrived: Arrived) -> None:
    """A server that knows ranges but not If-Range goes on with another version of the file."""
    told = headers.get("ETag" if arrived.validator.startswith('"') else "Last-Modified")
    if told not in (None, arrived.validator):
        raise Setback("has another version of the file by now", from_the_start=True)


def _range(headers: Message, arrived: Arrived) -> tuple[int, int]:
    """Return where a 206 stops, and the total; it must be the one range that was asked for, or the beginning of it."""
    told = headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(told)
    if match is None or headers.get_content_type() == "multipart/byteranges":
        raise Setback("answered 206 without a range that can be read", from_the_start=True)
    start, stop = int(match[1]), int(match[2]) + 1
    total = arrived.total if match[3] == "*" else int(match[3])
    length = _content_length(headers)
    if (
        start != arrived.size
        or total is None
        or not start < stop <= total
        or arrived.total not in (None, total)
        or length not in (None, stop - start)
    ):
        raise Setback(f"answered {told!r} where the bytes from {arrived.size:,} on were asked", from_the_start=True)
    return stop, total


def _end(headers: Message, arrived: Arrived) -> tuple[int, int]:
    """Return where a 416 says that the file ends: nothing may be lacking."""
    match = _UNSATISFIED_RANGE.fullmatch(headers.get("Content-Range", ""))
    if match is None or int(match[1]) != arrived.size or arrived.total not in (None, arrived.size):
        raise Setback(f"answered {_named(_RANGE_NOT_SATISFIABLE)}", from_the_start=True)
    return arrived.size, arrived.size


def _http_date(headers: Message, name: str) -> datetime | None:
    """Return a date in the one form that RFC 9110 lets a server write; None for all others."""
    text = headers.get(name, "")
    try:
        date = parsedate_to_datetime(text)
        return date if format_datetime(date, usegmt=True) == text else None
    except (TypeError, ValueError, OverflowError):
        return None


def _retry_after_s(headers: Message) -> float:
    """Return the seconds that the server asks to wait, by its own clock if it tells the time; 0 if it asks nothing."""
    told = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", told, re.ASCII):
        return float(told)
    until = _http_date(headers, "Retry-After")
    if until is None:
        return 0.0
    return max(0.0, (until - (_http_date(headers, "Date") or datetime.now(UTC))).total_seconds())


def _named(status: int) -> str:
    """Return a status in our words: the server's own could hold anything."""
    known = {each.value: each.phrase for each in HTTPStatus}
    return f"{status} {known.get(status, '')}".rstrip()


def _reason(error: BaseException, timeout_s: float) -> str:
    match error:
        case TimeoutError():
            return f"no byte came for {timeout_s:g} s"
        case RemoteDisconnected():
            return "it closed the connection without an answer"
        case IncompleteRead():
            return "the connection broke in the middle of a chunk"
        case HTTPException():
            return f"what it sends is not HTTP: {type(error).__name__}"
        case OSError(strerror=str(reason)):
            return reason
    return str(error)


def _distrusted(address: Address, error: ssl.SSLError) -> str:
    what = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason or str(error)
    return (
        f"{address.shown} cannot be trusted, its TLS connection failed ({what}): check the address and this machine's "
        "clock; a certificate of your own is named by SSL_CERT_FILE"
    )
