"""Web addresses: what of one is asked, and what of it may be shown."""

import re
import string
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from bertpipe.core.errors import DownloadError

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s\[\]:@]+)(:\d{0,5})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An http or https URL, its user and password taken out."""

    url: str
    """What is asked: percent-encoded, without user, password and fragment."""
    authorization: str | None
    """Value of the `Authorization` header, where the URL came with a user."""

    @property
    def shown(self) -> str:
        """The URL as messages may show it."""
        return shown(self.url)

    def redirected(self, location: str) -> "Address":
        """Return where a redirect leads; user and password go along to the same scheme, host and port alone.

        Raises:
            DownloadError: it leads from https to http, or to what is no web address.
        """
        # http.client reads the bytes of headers as ISO 8859-1.
        url = urljoin(self.url, quote(location, safe=string.punctuation, encoding="iso-8859-1"))
        here, there = urlsplit(self.url), urlsplit(url)
        if there.scheme not in {"http", "https"}:
            raise DownloadError(f"{self.shown} redirects to {shown(url)}: only http and https are followed")
        if (here.scheme, there.scheme) == ("https", "http"):
            raise DownloadError(
                f"{self.shown} redirects to {shown(url)}, from https to http, where anyone on the way can change "
                "what comes: take an https address of the file"
            )
        target = parse_address(url)
        if target.authorization is None and (here.scheme, here.netloc) == (there.scheme, there.netloc):
            return Address(url=target.url, authorization=self.authorization)
        return target


def parse_address(url: str) -> Address:
    """Return an http or https URL as it is asked.

    Raises:
        DownloadError: it has another scheme, or no valid host and port.
    """
    scheme = url.partition("://")[0].lower()
    if scheme not in {"http", "https"}:
        raise DownloadError(f"{shown(url)} has the scheme {scheme!r}: use http, https, file, or a path")
    try:
        parts = urlsplit(url)
        valid = parts.hostname is not None and _HOST.fullmatch(parts.netloc.rpartition("@")[2])
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        valid = None
    if not valid:
        raise DownloadError(
            f"{shown(url)} has no valid host and port: write scheme://host/path, "
            "with %40 %2F %3F %23 for @ / ? # in a user or password"
        )
    login, _, host = parts.netloc.rpartition("@")
    path, query = (quote(part, safe=string.punctuation) for part in (parts.path, parts.query))
    user, _, password = login.partition(":")
    secret = b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return Address(
        url=urlunsplit((parts.scheme, host, path, query, "")), authorization=f"Basic {secret}" if login else None
    )


def shown(source: str) -> str:
    """Return a source as messages and files may show it: a URL without user, password, query and fragment.

    Where the host cannot be told apart from a password, nothing but the scheme is; a path is shown as it is.
    """
    scheme, separator, rest = source.partition("://")
    if not separator:
        return source
    authority, path, query = re.match(r"([^/?#]*)([^?#]*)(\??)", rest).groups()  # type: ignore[union-attr]  # all may be empty
    host = authority.rpartition("@")[2]
    if "@" in rest and not _HOST.fullmatch(host):
        return f"{scheme}://…"
    return f"{scheme}://{host}{path}{'?…' if query else ''}"
