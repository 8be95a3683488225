"""TLS errors are errors: no byte comes from a server that cannot be trusted, and no second try is made."""

import dataclasses
import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bertpipe.core.errors import DownloadError
from bertpipe.core.params import Params
from bertpipe.core.progress import ignore_progress
from bertpipe.sources import web
from websites import ETAG, Site, ranged, running, status

pytestmark = [pytest.mark.promise("Downloads"), pytest.mark.usefixtures("workdir")]

CONTENT = b"PK" + bytes(range(256)) * 8
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def certificate(*, address: str = "127.0.0.1", ends: datetime.datetime = NOW + DAY) -> Path:
    """Return a file with a new key and its own certificate for a server at `address`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bertpipe test")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(NOW - 10 * DAY).not_valid_after(ends)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = Path("certificate.pem")
    file.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return file


@contextmanager
def secure(file: Path) -> Iterator[Site]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with running(context) as site:
        yield site


def get(url: str, tiny: Params) -> bytes:
    limits = dataclasses.replace(tiny.download, retries=3, timeout_s=20)
    with web.fetch(url, limits, ignore_progress) as path:
        return path.read_bytes()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr(web, "sleep", waits.append)
    return waits


def trust(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


def test_a_trusted_server_is_taken_from_and_resumed(
    tiny: Params, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    file = certificate()
    trust(monkeypatch, file)
    with secure(file) as site:
        assert get(site.serve("/x.zip", ranged(CONTENT, stop=100), ranged(CONTENT)), tiny) == CONTENT
        assert site.ranges("/x.zip") == [(None, None), ("bytes=99-", ETAG)]
    assert waits == [1.0]


@pytest.mark.parametrize(
    ("address", "ends", "trusted", "said"),
    [
        ("127.0.0.1", NOW + DAY, False, "self-signed certificate"),
        ("127.0.0.2", NOW + DAY, True, "IP address mismatch, certificate is not valid for '127.0.0.1'."),
        ("127.0.0.1", NOW - DAY, True, "certificate has expired"),
    ],
)
def test_a_server_that_cannot_be_trusted_is_refused_at_once(
    tiny: Params, monkeypatch: pytest.MonkeyPatch, waits: list[float],
    address: str, ends: datetime.datetime, trusted: bool, said: str,
) -> None:  # fmt: skip
    file = certificate(address=address, ends=ends)
    if trusted:
        trust(monkeypatch, file)
    with secure(file) as site:
        url = site.serve("/x.zip", ranged(CONTENT))
        with pytest.raises(DownloadError) as caught:
            get(url, tiny)
    assert str(caught.value) == (
        f"{url} cannot be asked ({said}): check the address, SSL_CERT_FILE, http_proxy, https_proxy and this "
        "machine's clock"
    )
    assert site.lines == []
    assert waits == []
    assert list(Path(".bertpipe/downloads").iterdir()) == []


def test_a_server_without_tls_is_refused_at_once(tiny: Params, waits: list[float]) -> None:
    with running() as site, pytest.raises(DownloadError, match=r"cannot be asked \(.*SSL_CERT_FILE"):
        get(site.serve("/x.zip", ranged(CONTENT)).replace("http:", "https:"), tiny)
    assert waits == []


def test_a_redirect_from_https_to_http_is_refused(tiny: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    file = certificate()
    trust(monkeypatch, file)
    with secure(file) as site, running() as plain:
        target = plain.serve("/x.zip", ranged(CONTENT)) + "?secret"
        with pytest.raises(DownloadError, match=rf"redirects to {plain.base}/x\.zip\?…: only https"):
            get(site.serve("/here", status(302, Location=target)), tiny)
    assert plain.lines == []


def test_a_redirect_from_http_to_https_is_followed(tiny: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    file = certificate()
    trust(monkeypatch, file)
    with secure(file) as site, running() as plain:
        target = site.serve("/x.zip", ranged(CONTENT))
        assert get(plain.serve("/here", status(302, Location=target)), tiny) == CONTENT
