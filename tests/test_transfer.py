"""A file from the web comes whole, whatever the server does, or not at all: within one run."""

import dataclasses
import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path

import pytest

from bertpipe.core.errors import BertpipeError, DataError, DownloadError
from bertpipe.core.params import DownloadParams, Params
from bertpipe.core.progress import Progress, ignore_progress
from bertpipe.sources.web import fetching
from websites import ETAG, Answer, Request, Site, body, ranged, raw, reply, resets, stalls, status

pytestmark = [pytest.mark.promise("Downloads"), pytest.mark.usefixtures("workdir")]

CONTENT = b"PK" + b"".join(hashlib.sha256(bytes([i])).digest() for i in range(200))
TOTAL = len(CONTENT)
OTHER = b"PK" + CONTENT[:1:-1]
MODIFIED = "Mon, 01 Jan 2024 00:00:00 GMT"
LATER = "Mon, 01 Jan 2024 00:01:00 GMT"
TOO_SOON = "Mon, 01 Jan 2024 00:00:59 GMT"


@dataclasses.dataclass
class Time:
    """A clock that only waits move."""

    now_s: float = 1000.0
    waits_s: list[float] = dataclasses.field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.waits_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(fetching, "monotonic", lambda: time.now_s)
    monkeypatch.setattr(fetching, "sleep", time.sleep)
    return time


@pytest.fixture
def limits(tiny: Params) -> DownloadParams:
    return dataclasses.replace(tiny.download, retries=3, timeout_s=20)


Get = Callable[..., bytes]


@pytest.fixture
def get(limits: DownloadParams, time: Time) -> Get:
    """Return a fetch of a URL's bytes; limits can be changed by name."""

    def run(url: str, **changed: float) -> bytes:
        with fetching.fetch(url, dataclasses.replace(limits, **changed), ignore_progress) as path:
            return path.read_bytes()

    return run


def left_over() -> list[str]:
    return sorted(path.name for path in Path(".bertpipe/downloads").rglob("*") if path.is_file())


# What is tried again, and goes on


def test_a_short_body_is_completed_from_where_it_ended(get: Get, site: Site, time: Time) -> None:
    url = site.serve("/short", ranged(CONTENT, stop=1000), ranged(CONTENT))
    assert get(url) == CONTENT
    assert site.ranges("/short") == [(None, None), ("bytes=1000-", ETAG)]
    assert time.waits_s == [1.0]
    assert left_over() == []


def test_every_request_asks_for_the_bytes_as_they_are(get: Get, site: Site) -> None:
    get(site.serve("/plain", ranged(CONTENT)))
    (headers,) = site.requests["/plain"]
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"].startswith("bertpipe/")
    assert "Authorization" not in headers


def test_a_reset_is_gone_on_from(get: Get, site: Site) -> None:
    url = site.serve("/reset", resets(CONTENT, stop=700), resets(CONTENT, stop=900), ranged(CONTENT))
    assert get(url) == CONTENT
    assert site.ranges("/reset") == [(None, None), ("bytes=700-", ETAG), ("bytes=900-", ETAG)]


def test_a_stall_is_gone_on_from(get: Get, site: Site) -> None:
    done = threading.Event()
    url = site.serve("/stall", stalls(CONTENT, stop=700, until=done), ranged(CONTENT))
    try:
        assert get(url, timeout_s=0.05) == CONTENT
    finally:
        done.set()
    assert site.ranges("/stall") == [(None, None), ("bytes=700-", ETAG)]


@pytest.mark.usefixtures("time")
def test_a_wait_is_told(limits: DownloadParams, site: Site) -> None:
    told: list[Progress] = []
    url = site.serve("/told", ranged(CONTENT, stop=1000), ranged(CONTENT))
    with fetching.fetch(url, limits, told.append):
        pass
    assert [(report.completed, report.total, report.detail) for report in told if report.detail] == [
        (1000, TOTAL, f"it ended after 1,000 of {TOTAL:,} bytes; retry 1 of 3 in 1 s")
    ]
    assert (told[-1].completed, told[-1].total, told[-1].unit) == (TOTAL, TOTAL, "bytes")


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_after_doubling_waits(get: Get, site: Site, time: Time, code: int) -> None:
    url = site.serve(f"/{code}", *[status(code)] * 3, ranged(CONTENT))
    assert get(url) == CONTENT
    assert time.waits_s == [1.0, 2.0, 4.0]


def test_a_status_in_between_does_not_lose_what_is_there(get: Get, site: Site) -> None:
    url = site.serve("/between", ranged(CONTENT, stop=1000), status(503), ranged(CONTENT))
    assert get(url) == CONTENT
    assert site.ranges("/between") == [(None, None), ("bytes=1000-", ETAG), ("bytes=1000-", ETAG)]


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 451, 501, 505, 204, 304])
def test_other_statuses_fail_at_once(get: Get, site: Site, time: Time, code: int) -> None:
    url = site.serve(f"/at-once/{code}", status(code))
    with pytest.raises(DownloadError, match=rf"^{url} answered {code} [A-Z].*set download\.source"):
        get(url)
    assert len(site.requests[f"/at-once/{code}"]) == 1
    assert time.waits_s == []
    assert left_over() == []


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "0"}, 1.0),
        ({"Retry_After": "86400"}, 60.0),
        ({"Retry_After": LATER, "Date": MODIFIED}, 60.0),
        ({"Retry_After": TOO_SOON, "Date": MODIFIED}, 59.0),
        ({"Retry_After": MODIFIED, "Date": LATER}, 1.0),
        ({"Retry_After": MODIFIED}, 1.0),
        ({"Retry_After": "soon"}, 1.0),
        ({"Retry_After": "9" * 5000}, 1.0),
    ],
)
def test_retry_after_is_heeded_up_to_a_minute(
    get: Get, site: Site, time: Time, headers: dict[str, str], wait_s: float
) -> None:
    assert get(site.serve("/busy", status(429, **headers), ranged(CONTENT))) == CONTENT
    assert time.waits_s == [wait_s]


def test_a_retry_after_date_counts_from_now_where_the_server_tells_no_time(get: Get, site: Site, time: Time) -> None:
    def busy(request: Request) -> None:
        reply(request, 503, Retry_After=formatdate(usegmt=True, timeval=datetime.now(UTC).timestamp() + 30))

    assert get(site.serve("/date", busy, ranged(CONTENT))) == CONTENT
    assert 25 < time.waits_s[0] <= 30


def test_tries_without_progress_are_limited(get: Get, site: Site, time: Time) -> None:
    url = site.serve("/down", status(502))
    with pytest.raises(DownloadError) as caught:
        get(url)
    assert str(caught.value) == (
        f"{url} answered 502 Bad Gateway; that was try 4 in a row without progress, download.retries is 3: "
        "check the network, or set download.source to `sample` or to a local copy of the file"
    )
    assert len(site.requests["/down"]) == 4
    assert time.waits_s == [1.0, 2.0, 4.0]


def test_without_retries_there_is_one_try(get: Get, site: Site) -> None:
    with pytest.raises(DownloadError, match=r"try 1 in a row without progress, download\.retries is 0"):
        get(site.serve("/once", status(502)), retries=0)
    assert len(site.requests["/once"]) == 1


def test_progress_brings_the_retries_back(get: Get, site: Site, time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_PROGRESS_BYTES", 100)
    stops = [1100, 1101, 1200, 1300, 1399]
    url = site.serve("/drops", *[ranged(CONTENT, stop=stop) for stop in stops], ranged(CONTENT))
    assert get(url, retries=2) == CONTENT
    # 1,101 is less than 100 bytes after 1,100, as is 1,399 after 1,300; the others are progress.
    assert time.waits_s == [1.0, 2.0, 1.0, 1.0, 2.0]


def test_a_server_that_starts_over_each_time_makes_no_progress(
    get: Get, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_PROGRESS_BYTES", 100)
    url = site.serve("/again", body(CONTENT[:1000], Content_Length=str(TOTAL)))
    with pytest.raises(DownloadError, match=r"ended after 1,000 of 6,402 bytes; that was try 4"):
        get(url)
    assert len(site.requests["/again"]) == 4
    assert left_over() == []


# When the earlier bytes may not be used


@pytest.mark.parametrize("etag", [None, 'W/"weak"', "unquoted", '"sp ace"'])
def test_without_a_strong_validator_it_starts_over(get: Get, site: Site, etag: str | None) -> None:
    cut = body(CONTENT[:1000], Content_Length=str(TOTAL), ETag=etag)
    assert get(site.serve("/weak", cut, body(CONTENT, ETag=etag))) == CONTENT
    assert site.ranges("/weak")[-2:] == [(None, None), (None, None)]


@pytest.mark.parametrize(
    ("headers", "if_range"),
    [
        ({"Last_Modified": MODIFIED, "Date": LATER}, MODIFIED),
        ({"Last_Modified": MODIFIED, "Date": TOO_SOON}, None),
        ({"Last_Modified": MODIFIED}, None),
        ({"Last_Modified": "2024-01-01", "Date": LATER}, None),
        ({"Last_Modified": MODIFIED, "Date": LATER, "ETag": 'W/"weak"'}, None),
        ({"Last_Modified": MODIFIED, "Date": LATER, "ETag": ETAG}, ETAG),
    ],
)
def test_a_date_is_a_validator_where_it_is_a_minute_older_than_the_answer(
    get: Get, site: Site, headers: dict[str, str], if_range: str | None
) -> None:
    site.requests.pop("/date", None)
    cut = body(CONTENT[:1000], Content_Length=str(TOTAL), **headers)
    url = site.serve("/date", cut, ranged(CONTENT, etag=if_range, ETag=headers.get("ETag")))
    assert get(url) == CONTENT
    assert site.ranges("/date")[1] == (None if if_range is None else "bytes=1000-", if_range)


def test_changed_content_starts_over(get: Get, site: Site) -> None:
    url = site.serve("/changed", ranged(CONTENT, stop=1000), ranged(OTHER, etag='"two"'))
    assert get(url) == OTHER
    assert site.ranges("/changed") == [(None, None), ("bytes=1000-", ETAG)]


def partial(content: bytes, told: str | None, **headers: str | None) -> Answer:
    return lambda request: reply(request, 206, content, Content_Range=told, **headers)


WRONG_PARTIALS = {
    "another start": partial(CONTENT[999:], f"bytes 999-{TOTAL - 1}/{TOTAL}"),
    "from the start": partial(CONTENT, f"bytes 0-{TOTAL - 1}/{TOTAL}"),
    "another total": partial(CONTENT[1000:], f"bytes 1000-{TOTAL - 1}/{TOTAL + 1}"),
    "end behind the total": partial(CONTENT[1000:] + b"!", f"bytes 1000-{TOTAL}/{TOTAL}"),
    "end before the start": partial(b"", f"bytes 1000-999/{TOTAL}"),
    "another length": partial(CONTENT[1000:-1], f"bytes 1000-{TOTAL - 1}/{TOTAL}"),
    "other units": partial(CONTENT[1000:], f"rows 1000-{TOTAL - 1}/{TOTAL}"),
    "no range": partial(CONTENT[1000:], None),
    "several ranges": partial(
        CONTENT[1000:], f"bytes 1000-{TOTAL - 1}/{TOTAL}", Content_Type="multipart/byteranges; boundary=x"
    ),
    "another version": partial(OTHER[1000:], f"bytes 1000-{TOTAL - 1}/{TOTAL}", ETag='"two"'),
    "416 with another total": status(416, Content_Range=f"bytes */{TOTAL}"),
    "416 with nothing": status(416),
    "400": status(400),
    "412": status(412),
    "501": status(501),
}


@pytest.mark.parametrize("wrong", WRONG_PARTIALS)
def test_a_wrong_answer_to_a_range_starts_over(get: Get, site: Site, wrong: str) -> None:
    path = f"/wrong/{wrong.replace(' ', '-')}"
    url = site.serve(path, ranged(CONTENT, stop=1000), WRONG_PARTIALS[wrong], ranged(OTHER, etag='"two"'))
    assert get(url) == OTHER
    assert site.ranges(path) == [(None, None), ("bytes=1000-", ETAG), (None, None)]


def test_a_416_for_all_of_it_says_that_it_is_complete(get: Get, site: Site) -> None:
    # A body of unknown length, whose end is lost.
    chunks = b"%x\r\n%s\r\n" % (TOTAL, CONTENT)
    cut = raw(b'HTTP/1.1 200 OK\r\nETag: "one"\r\nTransfer-Encoding: chunked\r\n\r\n' + chunks)
    assert get(site.serve("/all", cut, ranged(CONTENT))) == CONTENT
    assert site.ranges("/all") == [(None, None), (f"bytes={TOTAL}-", ETAG)]


def test_a_416_for_a_file_of_another_size_starts_over(get: Get, site: Site) -> None:
    cut = raw(b'HTTP/1.1 200 OK\r\nETag: "one"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nPK!\r\n')
    url = site.serve("/end", cut, status(416, Content_Range="bytes */2"), ranged(CONTENT))
    assert get(url) == CONTENT
    assert site.ranges("/end") == [(None, None), ("bytes=3-", ETAG), (None, None)]


def test_a_version_that_is_shorter_than_the_part_has_nothing_behind_it(get: Get, site: Site) -> None:
    url = site.serve("/shorter", ranged(CONTENT, stop=1000), ranged(OTHER[:600], etag='"two"'))
    assert get(url) == OTHER[:600]


def test_what_follows_the_announced_range_is_not_of_the_file(get: Get, site: Site) -> None:
    more = partial(CONTENT[1000:] + b"more", f"bytes 1000-{TOTAL - 1}/{TOTAL}", Content_Length=None)
    assert get(site.serve("/more-range", ranged(CONTENT, stop=1000), more)) == CONTENT


def test_a_range_that_is_answered_in_pieces_is_put_together(get: Get, site: Site) -> None:
    url = site.serve(
        "/pieces",
        ranged(CONTENT, stop=1000),
        partial(CONTENT[1000:3000], f"bytes 1000-2999/{TOTAL}"),
        partial(CONTENT[3000:], "bytes 3000-6401/*"),
    )
    assert get(url) == CONTENT
    assert site.ranges("/pieces")[2] == ("bytes=3000-", ETAG)


def test_a_partial_answer_to_a_request_for_all_is_not_taken(get: Get, site: Site) -> None:
    url = site.serve("/unasked", partial(CONTENT[:9], f"bytes 0-8/{TOTAL}"), ranged(CONTENT))
    assert get(url) == CONTENT
    assert site.ranges("/unasked") == [(None, None), (None, None)]


def test_a_range_that_is_forbidden_fails_at_once_and_keeps_the_part(get: Get, site: Site) -> None:
    url = site.serve("/expired", ranged(CONTENT, stop=1000), status(403))
    with pytest.raises(DownloadError, match=r"answered 403 Forbidden.* \(1,000 bytes of it are kept: run it again"):
        get(url)
    assert left_over() == ["facts.json", "part"]


# What is never taken


REFUSED: dict[str, tuple[Answer, type[BertpipeError], str]] = {
    "gzip": (body(CONTENT, Content_Encoding="gzip"), DownloadError, r"with Content-Encoding 'gzip', though it was"),
    "transfer": (body(CONTENT, Transfer_Encoding="gzip, chunked"), DownloadError, "Transfer-Encoding 'gzip, chunked'"),
    "html": (body(b"<html>Sign in", Content_Type="text/html"), DataError, "is not a zip file: it is a web page"),
    "untold-html": (body(b"<!doctype html>"), DataError, "it is a web page"),
    "text": (body(b"no zip", Content_Type="text/plain"), DataError, "is not a zip file$"),
    "large": (body(CONTENT, Content_Length="10001"), DownloadError, "has 10,001 bytes or more, the limit is 10,000"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_the_file_is_refused_at_once(get: Get, site: Site, time: Time, name: str) -> None:
    answer, error, said = REFUSED[name]
    with pytest.raises(error, match=said):
        get(site.serve(f"/refused/{name}", answer), max_bytes=10_000)
    assert len(site.requests[f"/refused/{name}"]) == 1
    assert time.waits_s == []
    assert left_over() == []


@pytest.mark.parametrize("name", REFUSED)
def test_it_does_not_cost_the_bytes_that_are_there(get: Get, site: Site, name: str) -> None:
    answer, error, _ = REFUSED[name]
    url = site.serve(f"/kept/{name}", ranged(CONTENT, stop=1000), answer, ranged(CONTENT))
    with pytest.raises(error):
        get(url, max_bytes=10_000)
    assert get(url) == CONTENT
    assert site.ranges(f"/kept/{name}")[-1] == ("bytes=1000-", ETAG)


def test_a_file_that_tells_no_size_is_cut_off_at_the_limit(get: Get, site: Site) -> None:
    url = site.serve("/endless", body(CONTENT, Content_Length=None))
    with pytest.raises(DownloadError, match=r"bytes or more, the limit is 6,401: raise download\.max_bytes"):
        get(url, max_bytes=TOTAL - 1)
    assert get(url, max_bytes=TOTAL) == CONTENT


def test_what_follows_the_announced_length_is_not_of_the_file(get: Get, site: Site) -> None:
    assert get(site.serve("/more", body(CONTENT + b"more", Content_Length=str(TOTAL)))) == CONTENT


@pytest.mark.parametrize("length", ["-5", "+5", "5.0", "five", "", "9" * 30])
def test_a_length_that_is_none_is_tried_again(get: Get, site: Site, length: str) -> None:
    assert get(site.serve("/length", body(CONTENT, Content_Length=length), body(CONTENT))) == CONTENT


def test_two_lengths_are_not_believed(get: Get, site: Site) -> None:
    twice = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nPK345")
    assert get(site.serve("/twice", twice, body(CONTENT))) == CONTENT


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello\r\n\r\n", "cannot be reached (what it sends is not HTTP: BadStatusLine)"),
        (b"", "cannot be reached (it closed the connection without an answer)"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nPK",
            "broke off (the connection broke in the middle",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "broke off (the connection broke in the middle",
        ),
    ],
)
def test_what_is_not_http_is_tried_again(get: Get, site: Site, content: bytes, reason: str) -> None:
    url = site.serve("/nonsense", raw(content), body(CONTENT))
    assert get(url) == CONTENT
    with pytest.raises(DownloadError) as caught:
        get(site.serve("/nonsense", raw(content)))
    assert str(caught.value).startswith(f"{url} {reason}")


# Time


def test_the_whole_time_is_limited(get: Get, site: Site, time: Time) -> None:
    def slow(request: Request) -> None:
        time.now_s += 30
        ranged(CONTENT, stop=request.asked_from(ETAG) + 1000)(request)

    url = site.serve("/slow", slow)
    with pytest.raises(
        DownloadError, match=r"and the time of download\.max_minutes 1 is up: raise it, .* \(2,000 bytes of it are kept"
    ):
        get(url, max_minutes=1)
    assert site.ranges("/slow") == [(None, None), ("bytes=1000-", ETAG)]


def test_no_wait_goes_beyond_the_time(get: Get, site: Site, time: Time) -> None:
    with pytest.raises(
        DownloadError, match=r"answered 503 .* asks to wait 50 s, and the time of download\.max_minutes"
    ):
        get(site.serve("/long", status(503, Retry_After="50")), max_minutes=0.5)
    assert time.waits_s == []


def test_a_drip_of_bytes_does_not_hold_the_end_off(get: Get, site: Site, time: Time) -> None:
    dripped: list[int] = []

    def drip(request: Request) -> None:
        reply(request, 200, CONTENT[:2], Content_Length=str(TOTAL))
        for place in range(2, TOTAL):
            time.now_s += 1
            dripped.append(place)
            request.wfile.write(CONTENT[place : place + 1])
            threading.Event().wait(0.005)

    with pytest.raises(DownloadError, match=r"is not complete, and the time of download\.max_minutes 0\.1 is up"):
        get(site.serve("/drip", drip), max_minutes=0.1)
    assert len(dripped) < 100
