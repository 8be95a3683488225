"""Addresses: redirects, proxies, logins, and what of them may be seen."""

import base64
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bertpipe.core.errors import DownloadError
from bertpipe.core.params import DownloadParams, Params
from bertpipe.core.progress import Progress
from bertpipe.sources.web import fetching
from bertpipe.sources.web.address import parse_address, shown
from websites import ETAG, Site, body, ranged, running, status

pytestmark = [pytest.mark.promise("Downloads"), pytest.mark.usefixtures("workdir")]

CONTENT = b"PK" + bytes(range(256)) * 8
LOGIN = "Basic " + base64.b64encode(b"me:p@ss/w?rd").decode()


@pytest.fixture
def site() -> Iterator[Site]:
    with running() as site:
        yield site


@pytest.fixture
def limits(tiny: Params) -> DownloadParams:
    return dataclasses.replace(tiny.download, retries=2, timeout_s=20)


Get = Callable[[str], bytes]


@pytest.fixture
def get(limits: DownloadParams, monkeypatch: pytest.MonkeyPatch) -> Get:
    monkeypatch.setattr(fetching, "sleep", lambda _: None)

    def run(url: str) -> bytes:
        with fetching.fetch(url, limits, lambda _: None) as path:
            return path.read_bytes()

    return run


def with_login(url: str) -> str:
    return url.replace("://", "://me:p%40ss%2Fw%3Frd@")


# What is shown


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("sample", "sample"),
        ("some/path@2?.zip", "some/path@2?.zip"),
        ("file:///some/file.zip", "file:///some/file.zip"),
        ("https://host/a/b.zip", "https://host/a/b.zip"),
        ("https://host:81/a@b/c.zip#part", "https://host:81/a@b/c.zip"),
        ("https://me:secret@host/x.zip", "https://host/x.zip"),
        ("https://token@host/x.zip", "https://host/x.zip"),
        ("https://me:se@cret@host/x.zip", "https://host/x.zip"),
        ("https://host/x.zip?sig=secret&v=1", "https://host/x.zip?…"),
        ("https://host?secret", "https://host?…"),
        ("https://me:secret@[::1]:81/x", "https://[::1]:81/x"),
        ("https://me:se/cret@host/x.zip", "https://…"),
        ("https://me:se?cret@host/x.zip", "https://…"),
        ("https://me:se#cret@host/x.zip", "https://…"),
        ("https://host:port/x.zip", "https://host:port/x.zip"),
        ("https://", "https://"),
    ],
)
def test_a_source_is_shown_without_secrets(source: str, seen: str) -> None:
    assert shown(source) == seen


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("HTTP://Host/a b.zip", "http://Host/a%20b.zip"),
        ("http://host/a%20b.zip?q=ü#part", "http://host/a%20b.zip?q=%C3%BC"),
        ("http://me@host", "http://host"),
    ],
)
def test_an_address_is_asked_in_plain_ascii_without_the_login(url: str, asked: str) -> None:
    assert parse_address(url).url == asked


@pytest.mark.parametrize(
    "url",
    ["http://", "http:///x.zip", "http://host:port/x", "http://host:99999/x", "http://[::1/x", "http://a b/x",
     "http://me:se/cret@host/x"],
)  # fmt: skip
def test_what_has_no_host_is_refused(url: str) -> None:
    with pytest.raises(DownloadError, match="has no valid host and port: write scheme://host/path") as caught:
        parse_address(url)
    assert "cret" not in str(caught.value)


def test_a_host_that_cannot_stand_in_a_request_is_refused(get: Get) -> None:
    with pytest.raises(DownloadError, match=r"^http://a\.\.b/x\.zip cannot be asked \(Unicode"):
        get("http://a..b/x.zip")


def test_a_login_is_sent_and_shown_nowhere(limits: DownloadParams, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "sleep", lambda _: None)
    seen: list[str] = []

    def look(report: Progress) -> None:
        seen.append(report.label + report.detail)
        seen.extend(path.name for path in Path(".bertpipe").rglob("*"))
        seen.extend(path.read_text() for path in Path(".bertpipe").rglob("*.json"))

    answers = [ranged(CONTENT, stop=100), status(503), status(403), ranged(CONTENT)]
    url = with_login(site.serve("/private.zip", *answers)) + "?signature=tops3cret"
    with (
        pytest.raises(DownloadError, match=r"/private\.zip\?… answered 403") as caught,
        fetching.fetch(url, limits, look),
    ):
        pass
    with fetching.fetch(url, limits, look) as path:
        assert path.read_bytes() == CONTENT
    assert [headers.get("Authorization") for headers in site.requests["/private.zip"]] == [LOGIN] * 4
    assert set(site.lines) == {"GET /private.zip?signature=tops3cret HTTP/1.1"}
    everything = " ".join([*seen, str(caught.value)])
    assert "answered 503" in everything
    for secret in ("tops3cret", "signature", "p@ss", "p%40ss", "me:", LOGIN.removeprefix("Basic ")):
        assert secret not in everything


# Redirects


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/target.zip", "target.zip", "{base}/target.zip", "//{host}/target.zip"])
def test_redirects_are_followed_and_the_range_with_them(get: Get, site: Site, code: int, location: str) -> None:
    site.serve("/target.zip", ranged(CONTENT, stop=100), ranged(CONTENT))
    where = location.format(base=site.base, host=site.base.removeprefix("http://"))
    assert get(site.serve("/here.zip", status(code, Location=where))) == CONTENT
    assert site.ranges("/target.zip") == [(None, None), ("bytes=100-", ETAG)]
    assert len(site.requests["/here.zip"]) == 2


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        ("/a b.zip", "/a%20b.zip"),
        ("/\xc3\xbc.zip", "/%C3%BC.zip"),
        ("/a%20b.zip", "/a%20b.zip"),
        ("/x?a=1&b=%20", "/x?a=1&b=%20"),
    ],
)
def test_a_location_is_asked_in_plain_ascii(get: Get, site: Site, location: str, asked: str) -> None:
    site.serve(asked.partition("?")[0], ranged(CONTENT))
    assert get(site.serve("/here.zip", status(302, Location=location))) == CONTENT
    assert site.lines[-1] == f"GET {asked} HTTP/1.1"


def test_a_login_goes_along_to_the_same_server_alone(get: Get, site: Site) -> None:
    site.serve("/there.zip", body(CONTENT))
    other = site.base.replace("127.0.0.1", "localhost")
    get(with_login(site.serve("/same.zip", status(302, Location="/there.zip"))))
    get(with_login(site.serve("/other.zip", status(302, Location=f"{other}/there.zip"))))
    get(site.serve("/own.zip", status(302, Location=with_login(f"{other}/there.zip"))))
    assert [headers.get("Authorization") for headers in site.requests["/there.zip"]] == [LOGIN, None, LOGIN]


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("ftp://me:secret@host/x.zip?secret", r"redirects to ftp://host/x\.zip\?…: only http and https are followed"),
        ("file:///etc/passwd", "redirects to file:///etc/passwd: only http"),
        ("data:,PK", "redirects to data:,PK: only http"),
        ("http://me:se/cret@host/x", "^http://… has no valid host"),
        ("http://host:port/x\x1b[31m", r"^http://host:port/x%1B\[31m has no valid host"),
    ],
)
def test_a_redirect_elsewhere_is_refused_at_once(get: Get, site: Site, location: str, said: str) -> None:
    with pytest.raises(DownloadError, match=said) as caught:
        get(site.serve("/here.zip", status(302, Location=location)))
    assert len(site.lines) == 1
    assert "cret" not in str(caught.value)


def test_redirects_in_a_circle_end(get: Get, site: Site) -> None:
    with pytest.raises(DownloadError, match=r"/loop redirects more than 10 times: take the file's own address"):
        get(site.serve("/loop", status(302, Location="/loop")))
    assert len(site.lines) == 11


def test_a_redirect_to_nowhere_fails_at_once(get: Get, site: Site) -> None:
    with pytest.raises(DownloadError, match="answered 302 Found: correct the address"):
        get(site.serve("/nowhere", status(302)))


# Proxies


def test_a_proxy_of_the_environment_is_used(get: Get, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", site.base.replace("://", "://proxy:pw@"))
    site.serve("/x.zip", ranged(CONTENT))
    assert get("http://host.invalid/x.zip") == CONTENT
    assert site.lines == ["GET http://host.invalid/x.zip HTTP/1.1"]
    assert site.requests["/x.zip"][0]["Proxy-Authorization"] == "Basic " + base64.b64encode(b"proxy:pw").decode()


def test_no_proxy_is_heeded(get: Get, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://host.invalid:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
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
