"""Models by their name on the hub, in processes whose environment says where the hub and the cache are."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from models import save_tiny_huggingface


def _load_by_name(name: str, tmp_path: Path, **environment: str) -> tuple[str, float]:
    """Load a hub name in a process of its own; return its output and the seconds of loading."""
    code = (
        "import sys, time\n"
        "from bertpipe.core.errors import ModelError\n"
        "from bertpipe.model.huggingface.load import load_huggingface\n"
        "started_at = time.perf_counter()\n"
        "try:\n"
        "    print(load_huggingface(sys.argv[1]).missing_heads)\n"
        "except ModelError as error:\n"
        "    print(error)\n"
        "print(time.perf_counter() - started_at)\n"
    )
    env = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"} | environment
    run = subprocess.run(
        [sys.executable, "-c", code, name], env=env, capture_output=True, text=True, check=True, timeout=120
    )
    *message, seconds = run.stdout.splitlines()
    return "\n".join(message), float(seconds)


def test_a_hub_that_cannot_be_reached_gives_one_line_within_seconds(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        message, elapsed_s = _load_by_name("owner/name", tmp_path, HF_ENDPOINT=endpoint)
    assert message.startswith("owner/name is not in the local cache, and the Hugging Face hub cannot be reached")
    assert "\n" not in message
    assert elapsed_s < 10


def test_offline_mode_is_named_as_the_reason(tmp_path: Path) -> None:
    message, _ = _load_by_name("owner/name", tmp_path, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE" in message


def test_a_cached_name_is_loaded_without_the_network(tmp_path: Path) -> None:
    """The cache's layout is the one huggingface_hub documents: refs/main names a folder below snapshots."""
    repository = tmp_path / "home" / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    save_tiny_huggingface(repository / "snapshots" / ("0" * 40))
    message, _ = _load_by_name("owner/name", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert message == "frozenset()"


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """Yield the address of a hub that has the files of a directory as the model owner/name."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content, headers = None, {}
            if self.path == "/api/models/owner/name":
                content = json.dumps({"id": "owner/name", "tags": [], "siblings": []}).encode()
            elif self.path.startswith("/owner/name/resolve/main/"):
                file = directory / self.path.removeprefix("/owner/name/resolve/main/")
                content = file.read_bytes() if file.is_file() else None
                headers = {"ETag": f'"{file.name}"', "X-Repo-Commit": "1" * 40} if content else {}
            self.send_response(404 if content is None else 200)
            for name, value in (headers or {"X-Error-Code": "EntryNotFound"}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_model_on_the_hub_is_fetched_once(tmp_path: Path) -> None:
    save_tiny_huggingface(tmp_path / "hub", head="BertForMaskedLM")
    with serving(tmp_path / "hub") as address:
        message, _ = _load_by_name("owner/name", tmp_path, HF_ENDPOINT=address)
    assert message == "frozenset({'nsp'})"
    message, _ = _load_by_name("owner/name", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert message == "frozenset({'nsp'})"


def test_a_hub_without_the_weights_is_said_to_lack_them(tmp_path: Path) -> None:
    save_tiny_huggingface(tmp_path / "hub")
    (tmp_path / "hub" / "model.safetensors").unlink()
    with serving(tmp_path / "hub") as address:
        message, _ = _load_by_name("owner/name", tmp_path, HF_ENDPOINT=address)
    assert message == (
        "owner/name cannot be loaded from the Hugging Face hub: it has no model.safetensors or pytorch_model.bin; "
        "fetch it again"
    )


def test_a_download_that_was_interrupted_between_two_shards_asks_the_hub_again(tmp_path: Path) -> None:
    """A part of the shards in the cache is no model, and no reason to give up before the hub was asked."""
    repository = tmp_path / "home" / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    save_tiny_huggingface(snapshot).save_pretrained(snapshot, max_shard_size="1KB")
    (snapshot / "model.safetensors").unlink(missing_ok=True)
    sorted(snapshot.glob("model-*.safetensors"))[-1].unlink()
    message, _ = _load_by_name("owner/name", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert message.startswith("owner/name is not in the local cache, and the Hugging Face hub cannot be reached")
