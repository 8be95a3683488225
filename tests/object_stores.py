"""An S3 server on this machine that checks signatures, and a proxy before it that fails as a test tells it to."""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from pyarrow import fs

BUCKET = "shelf"
REGION = "eu-north-1"
_SETTING_UP = 4
"""Requests that the server takes without a signature: those that make the user and the bucket."""

Fault = Callable[["Request"], bool]
"""Answers a request in its own way and returns true, or leaves it to the server and returns false."""


class Request(BaseHTTPRequestHandler):
    """One request to the store, which a fault may answer."""

    store: "Store"
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        self.content = self._content()
        with self.store.lock:
            self.store.lines.append(f"{self.command} {self.path}")
        if not self.store.fault(self):
            status, headers, content = self.answer()
            self.reply(status, headers, content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward  # noqa: N815

    def _content(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def answer(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return what the server answers."""
        server = http.client.HTTPConnection(self.store.server, timeout=30)
        headers_in = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        is_chunked = self.headers.get("Transfer-Encoding") == "chunked"
        body = [self.content] if is_chunked else self.content
        server.request(self.command, self.path, body, headers_in, encode_chunked=is_chunked)
        response = server.getresponse()
        content = response.read()
        headers = [pair for pair in response.getheaders() if pair[0].lower() not in {"connection", "transfer-encoding"}]
        server.close()
        return response.status, headers, content

    def reply(self, status: int, headers: list[tuple[str, str]], content: bytes, *, sent: int | None = None) -> None:
        """Send an answer; or only its first bytes, and then cut the connection."""
        self.send_response_only(status)
        has_length = False
        for name, value in headers:
            has_length |= name.lower() == "content-length"
            self.send_header(name, value)
        if not has_length:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])
        with self.store.lock:
            self.store.sent += len(content[:sent])
        if sent is not None:
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def no_fault(_: Request) -> bool:
    """Leave every request to the server."""
    return False


@dataclass
class Store:
    """The server, by way of the proxy."""

    server: str
    key: str
    secret: str
    endpoint: str = ""
    fault: Fault = no_fault
    lines: list[str] = field(default_factory=list)
    """Method and path of each request."""
    sent: int = 0
    """Bytes of all answers."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a command needs to use it."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def files(self) -> fs.FileSystem:
        """Return the file system behind the proxy, without its faults."""
        return fs.S3FileSystem(
            access_key=self.key, secret_key=self.secret, region=REGION, endpoint_override=self.server, scheme="http"
        )

    def names(self, folder: str) -> list[str]:
        """Return the names of all objects in a folder of the bucket."""
        found = self.files().get_file_info(fs.FileSelector(f"{BUCKET}/{folder}", recursive=True, allow_not_found=True))
        return sorted(each.path.removeprefix(f"{BUCKET}/{folder}/") for each in found if each.type == fs.FileType.File)

    def read(self, name: str) -> bytes:
        """Return an object of the bucket."""
        with self.files().open_input_stream(f"{BUCKET}/{name}") as file:
            return bytes(file.read())

    def write(self, name: str, content: bytes) -> None:
        """Write an object of the bucket."""
        with self.files().open_output_stream(f"{BUCKET}/{name}") as file:
            file.write(content)


@contextmanager
def running_store() -> Iterator[Store]:
    """Yield a store with an empty bucket, on ports of its own, and stop it."""
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(_SETTING_UP)}
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-p", "0"]
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        address = next(found[1] for line in process.stderr if (found := re.search(r"Running on http://(\S+)", line)))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        key, secret = _user_with_bucket(f"http://{address}")
        store = Store(server=address, key=key, secret=secret)
        proxy = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Request,), {"store": store}))
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        store.endpoint = f"http://127.0.0.1:{proxy.server_address[1]}"
        try:
            yield store
        finally:
            proxy.shutdown()
            proxy.server_close()
            process.terminate()


def _user_with_bucket(endpoint: str) -> tuple[str, str]:
    import boto3

    options: Any = {
        "endpoint_url": endpoint, "region_name": REGION, "aws_access_key_id": "x", "aws_secret_access_key": "x",
    }  # fmt: skip
    iam = boto3.client("iam", **options)
    iam.create_user(UserName="reader")
    made = iam.create_access_key(UserName="reader")["AccessKey"]
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_user_policy(UserName="reader", PolicyName="shelf", PolicyDocument=json.dumps(policy))
    place = {"LocationConstraint": REGION}
    boto3.client("s3", **options).create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
    return made["AccessKeyId"], made["SecretAccessKey"]


def use(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process use the store, without long pauses."""
    from bertpipe.core.stores import objects as object_store

    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(object_store, "_PAUSE_S", 0.01)
    monkeypatch.setattr(object_store, "_TRIES_WITHIN", 1)
    object_store._connected.cache_clear()


# Faults


def each_first(answer: Callable[[Request], None], *, path: str = "", times: int = 1) -> Fault:
    """Answer the first requests of each line whose path contains `path`."""
    seen: dict[str, int] = {}

    def fault(request: Request) -> bool:
        line = f"{request.command} {urlsplit(request.path).path} {request.headers.get('Range', '')}"
        if path not in request.path:
            return False
        with request.store.lock:
            seen[line] = seen.get(line, 0) + 1
        if seen[line] > times:
            return False
        answer(request)
        return True

    return fault


def busy(request: Request) -> None:
    """Answer as S3 does when it is asked too often."""
    content = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    request.reply(503, [("Content-Type", "application/xml")], content)


def cut(request: Request) -> None:
    """Send half of the answer, and cut the connection."""
    status, headers, content = request.answer()
    request.reply(status, headers, content, sent=len(content) // 2)


def slow(request: Request) -> None:
    """Answer late."""
    time.sleep(0.3)
    request.reply(*request.answer())
