"""A file from the web comes whole, whatever the server does, or not at all; what came is kept for the next run."""

import base64
import dataclasses
import hashlib
import json
import os
import resource
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from bertpipe.commands.state import run_state
from bertpipe.core.errors import BertpipeError, BusyError, DataError, DownloadError, WriteError
from bertpipe.core.params import DownloadParams, Params
from bertpipe.core.progress import Progress, ignore_progress
from bertpipe.sources import web
from bertpipe.sources.web import redact_url
from websites import ETAG, Answer, Request, Site, body, ranged, raw, reply, resets, stalls, status

pytestmark = [pytest.mark.promise("Downloads"), pytest.mark.usefixtures("workdir")]

CONTENT = b"PK" + b"".join(hashlib.sha256(bytes([i])).digest() for i in range(200))
TOTAL = len(CONTENT)
OTHER = b"PK" + CONTENT[:1:-1]
FOLDER = Path(".bertpipe/downloads")
LOGIN = "Basic " + base64.b64encode(b"me:p@ss/w?rd").decode()


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
    monkeypatch.setattr(web, "monotonic", lambda: time.now_s)
    monkeypatch.setattr(web, "sleep", time.sleep)
    return time


@pytest.fixture
def limits(tiny: Params) -> DownloadParams:
    return dataclasses.replace(tiny.download, retries=3, timeout_s=20)


Get = Callable[..., bytes]


@pytest.fixture
def get(limits: DownloadParams, time: Time) -> Get:
    """Return a fetch of a URL's bytes; limits can be changed by name."""

    def run(url: str, on_progress: Callable[[Progress], None] = ignore_progress, **changed: float) -> bytes:
        with web.fetch(url, dataclasses.replace(limits, **changed), on_progress) as path:
            return path.read_bytes()

    return run


@pytest.fixture
def begun(get: Get, site: Site, tmp_path: Path) -> str:
    """Return a URL whose first 1,000 bytes came in an earlier run; what it says next is the file as it is."""
    url = site.serve(f"/{tmp_path.name}", ranged(CONTENT, stop=1000), ranged(CONTENT))
    with pytest.raises(DownloadError, match=r"ended after 1,000 of 6,402 bytes"):
        get(url, retries=0)
    return url


def left_over() -> list[str]:
    return sorted(path.name for path in FOLDER.rglob("*") if path.is_file())


def only(name: str) -> Path:
    (path,) = FOLDER.glob(f"*/{name}")
    return path


def ranges(site: Site, url: str) -> list[tuple[str | None, str | None]]:
    return site.ranges(url.removeprefix(site.base))


WHOLE = (None, None)


def resumed(size: int, etag: str = ETAG) -> tuple[str, str]:
    """Return Range and If-Range of a request that resumes: the last byte comes again."""
    return f"bytes={size - 1}-", etag


# What is tried again, and resumed


def test_a_short_body_is_completed_from_where_it_ended(get: Get, site: Site, time: Time) -> None:
    reports: list[Progress] = []
    url = site.serve("/short", ranged(CONTENT, stop=1000), ranged(CONTENT))
    assert get(url, reports.append) == CONTENT
    assert site.ranges("/short") == [WHOLE, resumed(1000)]
    assert time.waits_s == [1.0]
    assert list(FOLDER.iterdir()) == []
    assert [(report.completed, report.total, report.detail) for report in reports if report.detail] == [
        (1000, TOTAL, "ended after 1,000 of 6,402 bytes; retry 1 of 3 in 1 s")
    ]
    assert (reports[-1].completed, reports[-1].total, reports[-1].unit) == (TOTAL, TOTAL, "bytes")
    first, _ = site.requests["/short"]
    assert (first["Accept-Encoding"], first.get("Authorization"), first.get("Cookie")) == ("identity", None, None)
    assert first["User-Agent"].startswith("bertpipe/")


def test_a_reset_is_resumed(get: Get, site: Site) -> None:
    url = site.serve("/reset", resets(CONTENT, stop=700), resets(CONTENT, stop=900), ranged(CONTENT))
    assert get(url) == CONTENT
    assert site.ranges("/reset") == [WHOLE, resumed(700), resumed(900)]


def test_a_stall_is_resumed(get: Get, site: Site) -> None:
    done = threading.Event()
    url = site.serve("/stall", stalls(CONTENT, stop=700, until=done), ranged(CONTENT))
    try:
        assert get(url, timeout_s=0.05) == CONTENT
    finally:
        done.set()
    assert site.ranges("/stall") == [WHOLE, resumed(700)]


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_after_doubling_waits(get: Get, site: Site, time: Time, code: int) -> None:
    assert get(site.serve(f"/{code}", *[status(code)] * 3, ranged(CONTENT))) == CONTENT
    assert time.waits_s == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 451, 501, 505, 204, 304])
def test_other_statuses_fail_at_once(get: Get, site: Site, time: Time, code: int) -> None:
    url = site.serve(f"/at-once/{code}", status(code))
    with pytest.raises(DownloadError, match=rf"^{url} answered {code} [A-Z].*set download\.source"):
        get(url)
    assert len(site.requests[f"/at-once/{code}"]) == 1
    assert time.waits_s == []
    assert list(FOLDER.iterdir()) == []


@pytest.mark.parametrize(
    ("retry_after", "wait_s"),
    [
        ("7", 7.0), ("0", 1.0), ("86400", 60.0), ("soon", 1.0), ("9" * 5000, 1.0),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 1.0), ("Fri, 01 Jan 2100 00:00:00 GMT", 60.0),
    ],
)  # fmt: skip
def test_retry_after_is_heeded_up_to_a_minute(
    get: Get, site: Site, time: Time, retry_after: str, wait_s: float
) -> None:
    assert get(site.serve("/busy", status(429, Retry_After=retry_after), ranged(CONTENT))) == CONTENT
    assert time.waits_s == [wait_s]


def test_a_retry_after_date_counts_from_now(get: Get, site: Site, time: Time) -> None:
    def busy(request: Request) -> None:
        reply(request, 503, Retry_After=format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True))

    assert get(site.serve("/date", busy, ranged(CONTENT))) == CONTENT
    assert 25 < time.waits_s[0] <= 30


@pytest.mark.parametrize(("retries", "waits_s"), [(3, [1.0, 2.0, 4.0]), (0, [])])
def test_tries_without_progress_are_limited(
    get: Get, site: Site, time: Time, retries: int, waits_s: list[float]
) -> None:
    url = site.serve(f"/down/{retries}", status(502))
    with pytest.raises(DownloadError) as caught:
        get(url, retries=retries)
    assert str(caught.value) == (
        f"{url} answered 502 Bad Gateway; that was try {retries + 1} in a row without progress, download.retries is "
        f"{retries}: check the network, or set download.source to `sample` or to a local copy of the file"
    )
    assert time.waits_s == waits_s


def test_progress_brings_the_retries_back(get: Get, site: Site, time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_PROGRESS_BYTES", 100)
    stops = [1100, 1101, 1200, 1300, 1399]
    url = site.serve("/drops", *[ranged(CONTENT, stop=stop) for stop in stops], ranged(CONTENT))
    assert get(url, retries=2) == CONTENT
    # 1,101 is less than 100 bytes after 1,100, as is 1,399 after 1,300; the others are progress.
    assert time.waits_s == [1.0, 2.0, 1.0, 1.0, 2.0]


def test_a_server_that_starts_over_each_time_makes_no_progress(
    get: Get, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_PROGRESS_BYTES", 100)
    url = site.serve("/again", body(CONTENT[:1000], Content_Length=str(TOTAL)))
    with pytest.raises(DownloadError, match=r"ended after 1,000 of 6,402 bytes; that was try 4"):
        get(url)
    assert site.ranges("/again") == [WHOLE] * 4
    assert list(FOLDER.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello\r\n\r\n", "BadStatusLine"),
        (b"", "RemoteDisconnected"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nPK", "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "IncompleteRead|ValueError"),
    ],
)
def test_what_is_not_http_is_tried_again(get: Get, site: Site, content: bytes, reason: str) -> None:
    assert get(site.serve("/nonsense", raw(content), body(CONTENT))) == CONTENT
    with pytest.raises(DownloadError, match=rf"^{site.base}/nonsense failed \(({reason})\); that was try 4"):
        get(site.serve("/nonsense", raw(content)))


# When the earlier bytes may not be used


@pytest.mark.parametrize("etag", [None, 'W/"weak"', "unquoted", '"sp ace"'])
def test_without_a_strong_etag_it_starts_over_and_keeps_nothing(get: Get, site: Site, etag: str | None) -> None:
    cut = body(CONTENT[:1000], Content_Length=str(TOTAL), ETag=etag)
    url = site.serve("/weak", cut, body(CONTENT, ETag=etag))
    assert get(url) == CONTENT
    with pytest.raises(DownloadError, match="ended after 1,000"):
        get(site.serve("/weak", cut), retries=0)
    assert set(site.ranges("/weak")) == {WHOLE}
    assert list(FOLDER.iterdir()) == []


@pytest.mark.parametrize("content", [OTHER, OTHER[:600]])
def test_changed_content_starts_over(get: Get, site: Site, content: bytes) -> None:
    url = site.serve(f"/{len(content)}", ranged(CONTENT, stop=1000), ranged(content, etag='"two"'))
    assert get(url) == content
    assert ranges(site, url) == [WHOLE, resumed(1000)]


def test_the_facts_of_another_version_are_written_before_more_than_its_first_bytes(
    get: Get, site: Site, begun: str
) -> None:
    seen: list[tuple[str, int]] = []

    def look(_: Progress) -> None:
        seen.append((json.loads(only("facts.json").read_text())["etag"], only("part").stat().st_size))

    site.serve(begun.removeprefix(site.base), ranged(OTHER, etag='"two"'))
    assert get(begun, look) == OTHER
    assert seen[0] == ('"two"', 2)


def partial(content: bytes, content_range: str | None, **headers: str | None) -> Answer:
    return lambda request: reply(request, 206, content, **{"Content_Range": content_range, "ETag": ETAG} | headers)


WRONG_PARTIALS = {
    "another start": partial(CONTENT[998:], f"bytes 998-{TOTAL - 1}/{TOTAL}"),
    "from the start": partial(CONTENT, f"bytes 0-{TOTAL - 1}/{TOTAL}"),
    "another total": partial(CONTENT[999:], f"bytes 999-{TOTAL - 1}/{TOTAL + 1}"),
    "an unknown total": partial(CONTENT[999:], f"bytes 999-{TOTAL - 1}/*"),
    "another end": partial(CONTENT[999:1999], f"bytes 999-1998/{TOTAL}"),
    "other units": partial(CONTENT[999:], f"rows 999-{TOTAL - 1}/{TOTAL}"),
    "no range": partial(CONTENT[999:], None),
    "another version": partial(OTHER[999:], f"bytes 999-{TOTAL - 1}/{TOTAL}", ETag='"two"'),
    "no version": partial(OTHER[999:], f"bytes 999-{TOTAL - 1}/{TOTAL}", ETag=None),
    **{str(code): status(code) for code in (400, 412, 416, 501)},
}


@pytest.mark.parametrize("wrong", WRONG_PARTIALS)
def test_a_wrong_answer_to_a_range_starts_over(get: Get, site: Site, wrong: str) -> None:
    url = site.serve("/wrong", ranged(CONTENT, stop=1000), WRONG_PARTIALS[wrong], ranged(OTHER, etag='"two"'))
    assert get(url) == OTHER
    assert site.ranges("/wrong")[-3:] == [WHOLE, resumed(1000), WHOLE]


def test_a_partial_answer_to_a_request_for_all_is_not_taken(get: Get, site: Site) -> None:
    assert get(site.serve("/unasked", partial(CONTENT[:9], f"bytes 0-8/{TOTAL}"), ranged(CONTENT))) == CONTENT
    assert site.ranges("/unasked") == [WHOLE, WHOLE]


# What is never taken

REFUSED: dict[str, tuple[Answer, type[BertpipeError], str]] = {
    "gzip": (body(CONTENT, Content_Encoding="gzip"), DownloadError, "sends the file with an encoding"),
    "transfer": (body(CONTENT, Transfer_Encoding="gzip, chunked"), DownloadError, "sends the file with an encoding"),
    "html": (body(b"<html>Sign in", Content_Type="text/html"), DataError, "is not a zip file: open it in a browser"),
    "text": (body(b"no zip", Content_Type="text/plain"), DataError, "is not a zip file"),
    "forbidden": (status(403), DownloadError, "answered 403 Forbidden"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_the_file_is_refused_at_once_and_costs_no_earlier_byte(
    get: Get, site: Site, time: Time, name: str
) -> None:
    answer, error, said = REFUSED[name]
    with pytest.raises(error, match=said):
        get(site.serve(f"/refused/{name}", answer))
    assert len(site.requests[f"/refused/{name}"]) == 1
    assert time.waits_s == []
    assert list(FOLDER.iterdir()) == []
    url = site.serve(f"/kept/{name}", ranged(CONTENT, stop=1000), answer, ranged(CONTENT))
    with pytest.raises(error):
        get(url)
    assert left_over() == ["facts.json", "part"]
    assert get(url) == CONTENT
    assert site.ranges(f"/kept/{name}")[-1] == resumed(1000)


def test_a_page_in_place_of_a_range_is_refused(get: Get, site: Site, begun: str) -> None:
    page = partial(b"<html>", f"bytes 999-{TOTAL - 1}/{TOTAL}", Content_Encoding="gzip")
    site.serve(begun.removeprefix(site.base), page, ranged(CONTENT))
    with pytest.raises(DownloadError, match="with an encoding"):
        get(begun)
    assert get(begun) == CONTENT


@pytest.mark.parametrize("length", [str(TOTAL), None])
def test_a_file_that_is_too_large_is_not_taken(get: Get, site: Site, length: str | None) -> None:
    url = site.serve("/large", body(CONTENT, Content_Length=length))
    limit = r"6,402 bytes or more, the limit is download\.max_bytes 6,401: raise it"
    with pytest.raises(DownloadError, match=limit):
        get(url, max_bytes=TOTAL - 1)
    assert list(FOLDER.iterdir()) == []
    assert get(url, max_bytes=TOTAL) == CONTENT


def test_what_follows_the_announced_length_is_not_of_the_file(get: Get, site: Site) -> None:
    assert get(site.serve("/more", body(CONTENT + b"more", Content_Length=str(TOTAL)))) == CONTENT
    more = partial(CONTENT[999:] + b"more", f"bytes 999-{TOTAL - 1}/{TOTAL}", Content_Length=None)
    assert get(site.serve("/more-range", ranged(CONTENT, stop=1000), more)) == CONTENT


@pytest.mark.parametrize("length", ["-5", "5.0", "five", ""])
def test_a_length_that_is_none_is_tried_again(get: Get, site: Site, length: str) -> None:
    assert get(site.serve("/length", body(CONTENT[:1000], Content_Length=length), body(CONTENT))) == CONTENT


def test_two_lengths_are_not_believed(get: Get, site: Site) -> None:
    twice = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nPK345")
    with pytest.raises(DownloadError, match=r"cannot be asked \(InvalidHeader\)"):
        get(site.serve("/twice", twice))


# Time


def test_the_whole_time_is_limited(get: Get, site: Site, time: Time) -> None:
    def slow(request: Request) -> None:
        time.now_s += 30
        ranged(CONTENT, stop=request.asked_from(ETAG) + 1000)(request)

    url = site.serve("/slow", slow)
    with pytest.raises(DownloadError, match=r"and the time of download\.max_minutes 1 is up: raise it"):
        get(url, max_minutes=1)
    assert site.ranges("/slow") == [WHOLE, resumed(1000)]
    assert left_over() == ["facts.json", "part"]


def test_no_wait_goes_beyond_the_time(get: Get, site: Site, time: Time) -> None:
    with pytest.raises(DownloadError, match=r"answered 503 .* in 50 s, and the time of download\.max_minutes"):
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


# What is kept from run to run


def test_a_failed_download_is_listed_and_resumed_in_the_next_run(get: Get, site: Site, begun: str) -> None:
    assert only("part").read_bytes() == CONTENT[:1000]
    assert json.loads(only("facts.json").read_text()) == {"url": begun, "etag": ETAG, "total": TOTAL}
    (kept,) = run_state(FOLDER.parent)["kept"]
    assert (kept["kind"], kept["what"], kept["done"], kept["held"]) == (
        "download", begun, "1,000 of 6,402 bytes", False,
    )  # fmt: skip
    assert get(begun) == CONTENT
    assert ranges(site, begun) == [WHOLE, resumed(1000)]
    assert list(FOLDER.iterdir()) == []


def test_what_is_kept_can_be_cleared(get: Get, site: Site, begun: str) -> None:
    run_state(FOLDER.parent, clear=["all"])
    assert get(begun) == CONTENT
    assert ranges(site, begun) == [WHOLE, WHOLE]


def test_an_interrupted_download_is_resumed_in_the_next_run(get: Get, site: Site) -> None:
    def interrupt(report: Progress) -> None:
        if report.completed > 2:
            raise KeyboardInterrupt

    url = site.serve("/interrupted", ranged(CONTENT, stop=1000), ranged(CONTENT))
    with pytest.raises(KeyboardInterrupt):
        get(url, interrupt)
    assert get(url) == CONTENT
    assert site.ranges("/interrupted") == [WHOLE, resumed(1000)]


@pytest.mark.parametrize("then", ["unchanged", "changed"])
def test_a_complete_part_is_compared_with_the_server_before_it_is_used(
    limits: DownloadParams, get: Get, site: Site, then: str
) -> None:
    url = site.serve(f"/complete/{then}", ranged(CONTENT))
    with pytest.raises(KeyboardInterrupt), web.fetch(url, limits, ignore_progress):
        raise KeyboardInterrupt
    expected = CONTENT
    if then == "changed":
        expected = CONTENT[:-1] + b"!"
        site.serve(f"/complete/{then}", ranged(expected, etag='"two"'))
    assert get(url) == expected
    assert ranges(site, url) == [WHOLE, resumed(TOTAL)]


def test_a_file_that_its_reader_finds_wrong_is_not_kept(limits: DownloadParams, site: Site) -> None:
    with pytest.raises(DataError), web.fetch(site.serve("/bad", ranged(CONTENT)), limits, ignore_progress):
        raise DataError("bad")
    assert list(FOLDER.iterdir()) == []


FACTS: dict[str, Any] = {"url": "x", "etag": ETAG, "total": TOTAL}


@pytest.mark.parametrize(
    "facts",
    [
        None, b"", b"{", b"[]", b"\xff\xfe", FACTS | {"total": 999}, FACTS | {"total": "many"}, FACTS | {"total": None},
        FACTS | {"etag": None}, FACTS | {"etag": 'W/"weak"'}, FACTS | {"etag": '"a"\r\nHost: b'}, {"etag": ETAG},
    ],
)  # fmt: skip
def test_a_part_without_true_facts_is_thrown_away(get: Get, site: Site, begun: str, facts: Any) -> None:  # noqa: ANN401
    only("facts.json").unlink()
    if facts is not None:
        only("part").with_name("facts.json").write_bytes(
            facts if isinstance(facts, bytes) else json.dumps(facts).encode()
        )
    assert get(begun) == CONTENT
    assert ranges(site, begun) == [WHOLE, WHOLE]


def test_facts_without_a_part_are_thrown_away(get: Get, site: Site, begun: str) -> None:
    only("part").unlink()
    assert get(begun) == CONTENT
    assert ranges(site, begun) == [WHOLE, WHOLE]


def test_another_url_has_a_part_of_its_own(get: Get, site: Site, begun: str) -> None:
    kept = {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
    assert get(site.serve("/another", ranged(CONTENT[:3000]))) == CONTENT[:3000]
    assert get(f"{begun}?version=2") == CONTENT
    assert {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()} == kept


def test_two_downloads_of_one_url_do_not_share_a_part(get: Get, site: Site) -> None:
    begun, done = threading.Event(), threading.Event()
    url = site.serve("/two", stalls(CONTENT, stop=1000, until=done), ranged(CONTENT))
    ended: list[BaseException] = []

    def first() -> None:
        try:
            get(url, lambda report: begun.set() if report.completed == 1000 else None, retries=0)
        except DownloadError as error:
            ended.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert begun.wait(10)
        said = rf"^a download of {url} is already under way \(process {os.getpid()} on .*: wait for it, or stop it$"
        with pytest.raises(BusyError, match=said):
            get(url)
        (kept,) = run_state(FOLDER.parent)["kept"]
        assert (kept["kind"], kept["held"]) == ("download", True)
        assert FOLDER.stat().st_mode & 0o777 == 0o700
    finally:
        done.set()
        thread.join()
    assert len(ended) == 1
    assert get(url) == CONTENT
    assert site.ranges("/two") == [WHOLE, resumed(1000)]


def test_a_full_disk_is_named_and_what_was_written_is_kept(get: Get, site: Site) -> None:
    url = site.serve("/full", ranged(CONTENT))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, unlimited[1]))
    try:
        with pytest.raises(WriteError, match=r"/part cannot be written \(File too large"):
            get(url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    kept = only("part").read_bytes()
    assert kept == CONTENT[: len(kept)]
    assert get(url) == CONTENT
    assert site.ranges("/full") == [WHOLE, resumed(len(kept))]


# Addresses, and what of them is shown


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("sample", "sample"),
        ("some/path@2?.zip", "some/path@2?.zip"),
        ("file:///some/file.zip", "file:///some/file.zip"),
        ("https://host:81/a/b.zip#part", "https://host:81/a/b.zip"),
        ("https://me:secret@host/x.zip", "https://host/x.zip"),
        ("https://token@host/x.zip", "https://host/x.zip"),
        ("https://me:se@cret@host/x.zip", "https://host/x.zip"),
        ("https://host/x.zip?sig=secret&v=1", "https://host/x.zip?…"),
        ("https://host?secret", "https://host?…"),
        ("https://me:secret@[::1]:81/x", "https://[::1]:81/x"),
        ("https://me:se/cret@host/x.zip", "https://…"),
        ("https://me:se?cret@host/x.zip", "https://…"),
        ("https://me:se#cret@host/x.zip", "https://…"),
        ("https://", "https://"),
    ],
)
def test_a_source_is_shown_without_secrets(source: str, seen: str) -> None:
    assert redact_url(source) == seen


@pytest.mark.parametrize(
    "url",
    ["http://", "http:///x.zip", "http://host:port/x", "http://host:99999/x", "http://[::1/x", "http://a b/x",
     "http://me:se/cret@host/x", "http://a..b/x", "ftp://me:secret@host/x", "s3://bucket/x"],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(get: Get, url: str) -> None:
    with pytest.raises(DownloadError, match=r" cannot be asked \(\w+\): check the address") as caught:
        get(url)
    assert "cret" not in str(caught.value)
    assert list(FOLDER.iterdir()) == []


def with_login(url: str) -> str:
    return url.replace("://", "://me:p%40ss%2Fw%3Frd@")


def test_a_login_is_sent_and_shown_nowhere(get: Get, site: Site) -> None:
    seen: list[str] = []

    def look(report: Progress) -> None:
        seen.append(report.label + report.detail)
        seen.extend(path.name for path in Path(".bertpipe").rglob("*"))
        seen.extend(path.read_text() for path in Path(".bertpipe").rglob("*.json"))

    answers = [ranged(CONTENT, stop=100), status(503), raw(b""), status(403), ranged(CONTENT)]
    url = with_login(site.serve("/private.zip", *answers)) + "?signature=tops3cret"
    with pytest.raises(DownloadError, match=r"/private\.zip\?… answered 403") as caught:
        get(url, look)
    assert get(url, look) == CONTENT
    assert [headers.get("Authorization") for headers in site.requests["/private.zip"]] == [LOGIN] * 5
    assert set(site.lines[-5:]) == {"GET /private.zip?signature=tops3cret HTTP/1.1"}
    everything = " ".join([*seen, str(caught.value)])
    assert "answered 503" in everything
    for secret in ("tops3cret", "signature", "p@ss", "p%40ss", "me:", LOGIN.removeprefix("Basic ")):
        assert secret not in everything


def test_no_login_is_taken_from_netrc(get: Get, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hidden\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    site.serve("/target.zip", ranged(CONTENT))
    assert get(site.serve("/netrc.zip", status(302, Location="/target.zip"))) == CONTENT
    for path in ("/netrc.zip", "/target.zip"):
        assert "Authorization" not in site.requests.pop(path)[-1]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/to a.zip", "to%20a.zip", "{base}/to%20a.zip", "//{host}/to%20a.zip"])
def test_redirects_are_followed_and_the_range_with_them(get: Get, site: Site, code: int, location: str) -> None:
    site.serve("/to%20a.zip", ranged(CONTENT, stop=100), ranged(CONTENT))
    where = location.format(base=site.base, host=site.base.removeprefix("http://"))
    assert get(site.serve("/here.zip", status(code, Location=where))) == CONTENT
    assert site.ranges("/to%20a.zip")[-2:] == [WHOLE, resumed(100)]


def test_a_login_goes_along_to_the_same_server_alone(get: Get, site: Site) -> None:
    site.serve("/there.zip", body(CONTENT))
    other = site.base.replace("127.0.0.1", "localhost")
    get(with_login(site.serve("/same.zip", status(302, Location=f"{site.base}/there.zip"))))
    get(with_login(site.serve("/other.zip", status(302, Location=f"{other}/there.zip"))))
    assert [headers.get("Authorization") for headers in site.requests["/there.zip"]] == [LOGIN, None]


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("ftp://me:secret@host/x.zip?secret", r"redirects to ftp://host/x\.zip\?…: only https, or http to http, is"),
        ("file:///etc/passwd", "redirects to file:///etc/passwd: only https"),
        ("data:,PK", "redirects to data:,PK: only https"),
        ("http://me:se/cret@host/x", r"here\.zip cannot be asked \(\w+\)"),
        ("ftp://host/x\x1b[31m", r"redirects to ftp://host/x%1B\[31m"),
        ("/here.zip", r"cannot be asked \(TooManyRedirects\)"),
    ],
)
def test_a_redirect_elsewhere_or_in_a_circle_is_refused(get: Get, site: Site, location: str, said: str) -> None:
    site.requests.pop("/here.zip", None)
    with pytest.raises(DownloadError, match=said) as caught:
        get(site.serve("/here.zip", status(302, Location=location)))
    assert len(site.requests["/here.zip"]) == (11 if location == "/here.zip" else 1)
    assert "cret" not in str(caught.value)


def test_the_content_of_a_redirect_is_not_read(get: Get, site: Site) -> None:
    done = threading.Event()

    def endless(request: Request) -> None:
        reply(request, 302, b"x", Content_Length=None, Location="/target.zip")
        done.wait(20)

    site.serve("/target.zip", ranged(CONTENT))
    try:
        assert get(site.serve("/endless.zip", endless), timeout_s=5) == CONTENT
    finally:
        done.set()


def test_a_proxy_of_the_environment_is_used(get: Get, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", site.base.replace("://", "://proxy:pw@"))
    site.serve("/x.zip", ranged(CONTENT))
    assert get("http://host.invalid/x.zip") == CONTENT
    assert site.lines[-1] == "GET http://host.invalid/x.zip HTTP/1.1"
    sent = site.requests["/x.zip"][-1]["Proxy-Authorization"]
    assert sent == "Basic " + base64.b64encode(b"proxy:pw").decode()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert get(site.serve("/out.zip", status(302, Location="http://host.invalid/x.zip"))) == CONTENT
    monkeypatch.setenv("http_proxy", "http://host.invalid:1")
    assert get(site.serve("/direct.zip", ranged(CONTENT))) == CONTENT


@pytest.mark.parametrize("proxy", ["socks5://proxy:secret@host:1", "http://proxy:secret@host:port"])
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    get: Get, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(DownloadError, match=r"^http://host\.invalid/x\.zip cannot be asked .*http_proxy") as caught:
        get("http://host.invalid/x.zip")
    assert "secret" not in str(caught.value)
