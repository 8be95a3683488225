"""`export --push`: what reaches the hub, what does not, and that the token goes nowhere else."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from bertpipe.core.artifacts import write_json
from bertpipe.core.errors import PushError
from bertpipe.core.manifest import MANIFEST_NAME
from bertpipe.core.params_file import merged_text
from bertpipe.export.hub import push_directory
from exports import METRICS, export_of, save_model_with, word_tokenizer
from hubs import Hub, Repository, running_hub

PROJECT = Path(__file__).parent.parent
TOKEN = "hf_" + "ThisIsNobodysToken"
NAME = "somebody/a-model"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub(TOKEN) as hub:
        yield hub


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    save_model_with(tmp_path / "bert", word_tokenizer())
    return export_of(tmp_path / "bert")[0]


Push = Callable[..., dict[str, str]]


@pytest.fixture
def push(hub: Hub, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Push:
    """Return a function that pushes the directory to the hub of the test."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.base)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def call(name: str = NAME, **options: Any) -> dict[str, str]:  # noqa: ANN401
        files = sorted(path.name for path in directory.iterdir() if path.name != MANIFEST_NAME)
        return push_directory(directory, files, name, **({"public": False} | options))

    return call


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != MANIFEST_NAME}


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
    assert hub.repositories[NAME].files == contents(project / "models" / "huggingface")
    assert len(hub.repositories[NAME].files) == 6
    asked = {(method, path): authorization for method, path, authorization in hub.requests}
    assert asked["POST", f"/api/models/{NAME}/commit/main"] == f"Bearer {TOKEN}"
    assert [path for (_, path), sent in asked.items() if sent is None] == [
        path for (_, path) in asked if path.startswith("/store/")
    ]
    written = b"".join(path.read_bytes() for path in project.rglob("*") if path.is_file())
    assert TOKEN not in done.stdout + done.stderr
    assert TOKEN.encode() not in written
    assert not any(TOKEN.encode() in content for content in hub.repositories[NAME].files.values())


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


def test_a_push_again_is_one_more_commit_and_leaves_other_files(push: Push, hub: Hub, directory: Path) -> None:
    push()
    hub.repositories[NAME].files["notes.txt"] = b"somebody's notes"
    push()
    repository = hub.repositories[NAME]
    assert repository.files == contents(directory) | {"notes.txt": b"somebody's notes"}
    assert len(repository.commits) == 2


def test_a_model_is_private_unless_it_is_to_be_public(push: Push, hub: Hub) -> None:
    assert push()["visibility"] == "private"
    assert push("somebody/shown", public=True)["visibility"] == "public"
    assert (hub.repositories[NAME].private, hub.repositories["somebody/shown"].private) == (True, False)


def test_nothing_is_sent_to_a_public_model_unless_that_is_wanted(push: Push, hub: Hub, directory: Path) -> None:
    hub.repositories[NAME] = Repository(private=False)
    with pytest.raises(PushError, match=f"{NAME} is a public model on the hub, so nothing was sent: give --public"):
        push()
    assert hub.repositories[NAME].files == {}
    assert push(public=True)["visibility"] == "public"
    assert hub.repositories[NAME].files == contents(directory)


def test_a_private_model_stays_private(push: Push, hub: Hub) -> None:
    hub.repositories[NAME] = Repository(private=True)
    assert push(public=True)["visibility"] == "private"


def test_what_the_hub_has_to_say_of_the_card_is_a_note(push: Push, hub: Hub) -> None:
    hub.warnings = ["empty or missing\nyaml metadata"]
    notes: list[str] = []
    push(on_note=notes.append)
    (note,) = notes
    assert "empty or missing yaml metadata" in note


@pytest.mark.parametrize(
    ("step", "status", "said"),
    [
        ("create", 401, f"does not let this token write {NAME}: use one with write access to it"),
        ("create", 403, f"does not let this token write {NAME}: use one with write access to it"),
        ("info", 404, f"the Hugging Face hub did not take {NAME}: "),
        ("validate", 400, f"the Hugging Face hub did not take {NAME}: Invalid metadata in README.md"),
        ("preupload", 403, "does not let this token write"),
        ("batch", 400, f"the Hugging Face hub did not take {NAME}: "),
        ("put", 403, f"the Hugging Face hub did not take {NAME}: Error while uploading 'model.safetensors'"),
        ("commit", 400, f"the Hugging Face hub did not take {NAME}: "),
        ("commit", 500, f"the Hugging Face hub did not take {NAME}: "),
    ],
)
def test_a_refusal_at_any_step_is_one_line_without_the_token(
    push: Push, hub: Hub, directory: Path, step: str, status: int, said: str
) -> None:
    hub.refusals[step] = (status, {"error": f"no, {TOKEN} may not", "errors": [{"message": f"{TOKEN}?"}]})
    if step == "create":  # the client looks whether the model is there all the same
        hub.refusals["info"] = (404, {"error": "Repository not found"})
    before = contents(directory)
    with pytest.raises(PushError) as caught:
        push()
    message = str(caught.value)
    assert said in message
    assert message.endswith(f"; {directory} is complete")
    assert "\n" not in message
    assert TOKEN not in message
    assert contents(directory) == before


@pytest.mark.parametrize("name", ["a-model", "a/b/c", "somebody/a model", "somebody/--", "/", "somebody/", ""])
def test_what_is_no_name_is_refused(push: Push, hub: Hub, name: str) -> None:
    with pytest.raises(PushError, match=r"is not a name of a model on the hub: write OWNER/NAME; .* is complete"):
        push(name)
    assert hub.requests == []


@pytest.mark.parametrize("name", [TOKEN, f"{TOKEN}/model", f"somebody/{TOKEN}"])
def test_a_token_given_for_a_name_is_not_told(push: Push, hub: Hub, name: str) -> None:
    hub.refusals["create"] = (500, {"error": "not now"})
    with pytest.raises(PushError, match=r"\[token\]") as caught:
        push(name)
    assert TOKEN not in str(caught.value)


def test_a_token_that_is_none_is_not_quoted(push: Push, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_one\x01two")
    with pytest.raises(PushError, match="holds characters that no token has") as caught:
        push()
    assert "one" not in str(caught.value).split("hub", 1)[1].split(";")[0].replace("anew", "")
    assert "two" not in str(caught.value)
    assert hub.requests == []


def test_a_hub_that_cannot_be_reached_is_said(push: Push, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(
            PushError, match=r"the Hugging Face hub cannot be reached \(.*\): check the network"
        ) as caught:
            push()
    assert TOKEN not in str(caught.value)


def test_offline_mode_is_named_as_the_reason(push: Push, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import close_session

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    close_session()  # the client in use was made while the hub was allowed
    try:
        with pytest.raises(PushError, match="HF_HUB_OFFLINE forbids the hub: unset it to push"):
            push()
    finally:
        monkeypatch.undo()
        close_session()
    assert hub.requests == []


def test_the_library_is_as_talkative_as_before(push: Push) -> None:
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled

    before = (logging.get_verbosity(), are_progress_bars_disabled())
    push()
    assert (logging.get_verbosity(), are_progress_bars_disabled()) == before
