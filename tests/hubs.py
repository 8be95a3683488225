"""A Hugging Face hub on this machine: it takes models as the real one does, keeps them, and can refuse."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

LARGE = (".safetensors",)
"""What goes to the store of large files."""


@dataclass
class Repository:
    """A model on the hub."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """The hub's state, and what it was asked."""

    base: str
    token: str
    """The one that may write."""
    repositories: dict[str, Repository] = field(default_factory=dict)
    store: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and Authorization of each request."""
    refusals: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """Status and answer, by the name of the function that would have answered."""
    warnings: list[str] = field(default_factory=list)
    """What it has to say of a card."""

    def create(self, content: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401
        name = f"{content['organization']}/{content['name']}"
        found = name in self.repositories
        if not found:
            is_private = content.get("private", content.get("visibility") == "private")  # as older clients say it
            self.repositories[name] = Repository(private=is_private)
        return 409 if found else 200, {"url": f"{self.base}/{name}"}

    def info(self, _: Any, name: str) -> tuple[int, dict[str, Any]]:  # noqa: ANN401
        repository = self.repositories[name]
        siblings = [{"rfilename": file} for file in repository.files]
        return 200, {"id": name, "private": repository.private, "siblings": siblings, "tags": []}

    def validate(self, content: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401
        assert content["content"].startswith("---\n")
        return 200, {"errors": [], "warnings": [{"message": warning} for warning in self.warnings]}

    def preupload(self, content: Any, _: str) -> tuple[int, dict[str, Any]]:  # noqa: ANN401
        modes = {file["path"]: "lfs" if file["path"].endswith(LARGE) else "regular" for file in content["files"]}
        return 200, {
            "files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
        }

    def batch(self, content: Any, _: str) -> tuple[int, dict[str, Any]]:  # noqa: ANN401
        objects = [
            {**wanted, "actions": {"upload": {"href": f"{self.base}/store/{wanted['oid']}"}}}
            for wanted in content["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}

    def put(self, content: bytes, digest: str) -> tuple[int, dict[str, Any]]:
        assert hashlib.sha256(content).hexdigest() == digest
        self.store[digest] = content
        return 200, {}

    def commit(self, content: list[Any], name: str) -> tuple[int, dict[str, Any]]:
        repository = self.repositories[name]
        for line in content:
            value = line["value"]
            if line["key"] == "header":
                repository.commits.append(value["summary"])
            elif line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del repository.files[value["path"]]
            else:
                assert line["key"] == "lfsFile"
                repository.files[value["path"]] = self.store[value["oid"]]
        return 200, {"commitUrl": f"{self.base}/{name}/commit/1", "commitOid": "1" * 40, "success": True}


_ROUTES = (
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("POST", r"/api/models/([^/]+/[^/]+)/preupload/main", "preupload"),
    ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/store/(\w+)", "put"),
    ("POST", r"/api/models/([^/]+/[^/]+)/commit/main", "commit"),
    ("GET", r"/api/models/([^/]+/[^/]+)", "info"),
)


class _Request(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        path, authorization = urlsplit(self.path).path, self.headers.get("Authorization")
        self.hub.requests.append((self.command, path, authorization))
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        for method, pattern, name in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == self.command:
                self.reply(*self.result(name, sent, found.groups(), authorization))
                return
        self.reply(404, {"error": f"the hub of the tests has no {self.command} {path}"})

    def result(
        self, name: str, sent: bytes, parts: tuple[str, ...], authorization: str | None
    ) -> tuple[int, dict[str, Any]]:
        if name in self.hub.refusals:
            return self.hub.refusals[name]
        if name != "put" and authorization != f"Bearer {self.hub.token}":
            return 401, {"error": "Invalid username or password."}
        content: Any = sent
        if name == "commit":
            content = [json.loads(line) for line in sent.splitlines()]
        elif name != "put":
            content = json.loads(sent) if sent else None
        answer: Callable[..., tuple[int, dict[str, Any]]] = getattr(self.hub, name)
        return answer(content, *parts)

    do_GET = do_POST = do_PUT = answer  # noqa: N815

    def reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if "error" in content:
            self.send_header("X-Error-Message", content["error"])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running_hub(token: str) -> Iterator[Hub]:
    """Yield an empty hub that is up for the length of the block."""

    class Own(_Request):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        server.daemon_threads = True
        Own.hub = Hub(base=f"http://127.0.0.1:{server.server_port}", token=token)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Own.hub
        finally:
            server.shutdown()
            thread.join()
