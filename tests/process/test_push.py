"""`bertpipe export --push` as a user starts it, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from bertpipe.core.artifacts import file_sha256, write_json
from bertpipe.core.manifest import MANIFEST_NAME
from bertpipe.core.params_file import merged_text
from exports import METRICS, piece_tokenizer, save_model_with, word_tokenizer
from hubs import Hub, Repository, running_hub
from test_publishing import NAME, TOKEN, contents

PROJECT = Path(__file__).parent.parent.parent


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub(TOKEN) as hub:
        yield hub


def export_in_a_process(folder: Path, hub: Hub, *arguments: str, **environment: str) -> Any:  # noqa: ANN401
    """Run `bertpipe export` in a project folder as a user does."""
    settings = {
        "HF_ENDPOINT": hub.base, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",  # the library asks for more than the files, and without a token
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "bertpipe", "export", *arguments],
        cwd=folder, env=os.environ | settings | environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with a model and its metrics at their default places."""
    folder = tmp_path / "project"
    save_model_with(folder / "models" / "bert", word_tokenizer())
    (folder / "reports").mkdir()
    write_json(folder / "reports" / "metrics.json", METRICS)
    (folder / "params.yaml").write_text(merged_text(PROJECT / "params" / "tiny.yaml"), encoding="utf-8")
    return folder


def test_without_push_nobody_is_asked_and_with_it_the_hub_has_what_is_here(project: Path, hub: Hub) -> None:
    done = export_in_a_process(project, hub, HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert hub.requests == []
    done = export_in_a_process(project, hub, "--push", NAME, "--json", HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "writing models/huggingface\npushing to the hub\n"
    shown = json.loads(done.stdout)
    assert (shown["pushed_to"], shown["visibility"]) == (f"{hub.base}/{NAME}", "private")
    directory = project / "models" / "huggingface"
    manifest = {MANIFEST_NAME: (directory / MANIFEST_NAME).read_bytes()}
    assert hub.repositories[NAME].files == contents(directory) | manifest
    assert len(hub.repositories[NAME].files) == 7
    asked = {(method, path): authorization for method, path, authorization in hub.requests}
    assert asked["POST", f"/api/models/{NAME}/commit/main"] == f"Bearer {TOKEN}"
    assert [path for (_, path), sent in asked.items() if sent is None] == [
        path for (_, path) in asked if path.startswith("/store/")
    ]
    written = b"".join(path.read_bytes() for path in project.rglob("*") if path.is_file())
    assert TOKEN not in done.stdout + done.stderr
    assert TOKEN.encode() not in written
    assert not any(TOKEN.encode() in content for content in hub.repositories[NAME].files.values())


def cloned(repository: Repository, folder: Path) -> Path:
    """Return a clone without Git LFS, with what git and the hub add."""
    for name, content in repository.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(weights).hexdigest()}\nsize {len(weights)}\n"
    )
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
    return folder


def test_a_new_model_is_exported_into_a_clone_of_an_earlier_one(project: Path, hub: Hub) -> None:
    done = export_in_a_process(project, hub, "--push", NAME, HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    clone = cloned(hub.repositories[NAME], project / "clone")
    save_model_with(project / "models" / "bert", piece_tokenizer())
    done = export_in_a_process(project, hub, "--out", str(clone))
    assert done.returncode == 0, done.stderr
    assert (clone / ".git" / "HEAD").read_text() == "ref: refs/heads/main\n"
    assert (clone / ".gitattributes").exists()
    known = json.loads((clone / "bertpipe.json").read_text(encoding="utf-8"))
    assert known["model"]["vocab_size"] == piece_tokenizer().vocab_size
    assert file_sha256(clone / "model.safetensors") == known["sha256"]["model.safetensors"]
    (clone / "README.md").write_text("# A card that was edited on the hub\n")
    done = export_in_a_process(project, hub, "--out", str(clone))
    assert done.returncode == 1
    assert "clone holds README.md, which was changed since bertpipe wrote it" in done.stderr
    assert (clone / "README.md").read_text() == "# A card that was edited on the hub\n"


def test_without_a_token_nothing_is_sent_and_the_directory_stays(project: Path, hub: Hub) -> None:
    done = export_in_a_process(project, hub, "--push", NAME, HF_TOKEN="")
    assert done.returncode == 1
    assert done.stderr == (
        "writing models/huggingface\n"
        "error: there is no token for the Hugging Face hub: set HF_TOKEN, or log in with `hf auth login`; "
        "models/huggingface is complete\n"
    )
    assert hub.requests == []
    assert len(contents(project / "models" / "huggingface")) == 6
