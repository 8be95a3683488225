"""A web server on this machine that answers as a test tells it to, faults included, and records what it was asked."""

import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

ETAG = '"one"'


class Request(BaseHTTPRequestHandler):
    """One request; an `Answer` writes to it."""

    site: "Site"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.close_connection = True
        path = urlsplit(self.path).path
        self.site.requests.setdefault(path, []).append({name.title(): value for name, value in self.headers.items()})
        self.site.lines.append(self.requestline)
        self.site.answer(path)(self)

    def log_message(self, *_: object) -> None:
        pass

    def asked_from(self, etag: str | None) -> int:
        """Return the byte that the request wants to resume from, if it is of the version `etag`; else 0."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found and self.headers.get("If-Range") == etag else 0


Answer = Callable[[Request], None]


class Site:
    """What the paths of a server answer, and what they were asked."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.requests: dict[str, list[dict[str, str]]] = {}
        """Headers of each request, by path."""
        self.lines: list[str] = []
        """First line of each request."""
        self._answers: dict[str, list[Answer]] = {}

    def serve(self, path: str, *answers: Answer) -> str:
        """Let `path` give these answers in turn, the last one again and again, and return its URL."""
        self._answers[path] = list(answers)
        return f"{self.base}{path}"

    def answer(self, path: str) -> Answer:
        answers = self._answers[path]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def ranges(self, path: str) -> list[tuple[str | None, str | None]]:
        """Return Range and If-Range of each request for `path`."""
        return [(headers.get("Range"), headers.get("If-Range")) for headers in self.requests.get(path, [])]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    tls: ssl.SSLContext | None = None

    def get_request(self) -> tuple[socket.socket, object]:
        connection, client = super().get_request()
        return (connection if self.tls is None else self.tls.wrap_socket(connection, server_side=True)), client

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is what many tests are about."""


@contextmanager
def running(tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    """Yield a site that is up for the length of the block."""

    class Own(Request):
        pass

    with _Server(("127.0.0.1", 0), Own) as server:
        server.tls = tls
        Own.site = Site(f"http{'' if tls is None else 's'}://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Own.site
        finally:
            server.shutdown()
            thread.join()


def reply(request: Request, status: int, content: bytes = b"", **headers: str | None) -> None:
    """Send an answer; `Content_Length=None` leaves a header out, and underscores are hyphens."""
    request.send_response_only(status)
    for name, value in ({"Content_Length": str(len(content))} | headers).items():
        if value is not None:
            request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(content)
    request.wfile.flush()


def status(code: int, **headers: str) -> Answer:
    """Answer with a status and no content."""
    return lambda request: reply(request, code, **headers)


def body(content: bytes, **headers: str | None) -> Answer:
    """Answer with all of `content`, whatever was asked."""
    return lambda request: reply(request, 200, content, **headers)


def ranged(content: bytes, *, etag: str | None = ETAG, stop: int | None = None, **headers: str | None) -> Answer:
    """Answer as RFC 9110 says, but send no byte from the place `stop` on."""

    def answer(request: Request) -> None:
        start, total = request.asked_from(etag), len(content)
        told = {"ETag": etag, "Content_Length": str(total - start)}
        if start >= total:
            reply(request, 416, Content_Range=f"bytes */{total}")
        elif start:
            told["Content_Range"] = f"bytes {start}-{total - 1}/{total}"
            reply(request, 206, content[start:stop], **(told | headers))
        else:
            reply(request, 200, content[:stop], **(told | headers))

    return answer


def resets(content: bytes, *, stop: int, etag: str | None = ETAG) -> Answer:
    """Answer up to `stop`, then break the connection with a reset instead of an end."""

    def answer(request: Request) -> None:
        ranged(content, etag=etag, stop=stop)(request)
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The file that the handler reads from holds the socket open too.
        request.rfile.close()
        request.connection.close()

    return answer


def stalls(content: bytes, *, stop: int, until: threading.Event, etag: str | None = ETAG) -> Answer:
    """Answer up to `stop`, then send nothing more, and hold the connection open until the test is done."""

    def answer(request: Request) -> None:
        ranged(content, etag=etag, stop=stop)(request)
        until.wait(20)

    return answer


def raw(content: bytes) -> Answer:
    """Write bytes as they are: no HTTP but what they hold."""
    return lambda request: (request.wfile.write(content), request.wfile.flush())[1]
