"""`export --push`: what reaches the hub, what does not, and that the token goes nowhere else."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from bertpipe.core.errors import PushError
from bertpipe.core.manifest import MANIFEST_NAME
from bertpipe.export.hub import push_directory
from exports import export_of, save_model_with, word_tokenizer
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


def test_a_push_again_is_one_more_commit_and_leaves_other_files(push: Push, hub: Hub, directory: Path) -> None:
    push()
    hub.repositories[NAME].files["notes.txt"] = b"somebody's notes"
    push()
    repository = hub.repositories[NAME]
    assert repository.files == contents(directory) | {"notes.txt": b"somebody's notes"}
    assert len(repository.commits) == 2


def test_a_vocabulary_that_is_not_of_this_tokenizer_stays_and_is_noted(push: Push, hub: Hub, directory: Path) -> None:
    notes: list[str] = []
    push(on_note=notes.append)
    hub.repositories[NAME].files["vocab.txt"] = b"of an earlier export: BertTokenizer would read it"
    push(on_note=notes.append)
    assert hub.repositories[NAME].files["vocab.txt"].startswith(b"of an earlier export")
    (said,) = notes
    assert said.startswith(f"{NAME} has a vocab.txt, which is not of this tokenizer")
    (directory / "vocab.txt").write_text("of this one")
    push(on_note=notes.append)
    push(on_note=notes.append)
    assert hub.repositories[NAME].files == contents(directory)
    assert notes == [said]


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
    assert "one" not in str(caught.value).split("hub", 1)[1].split(";")[0]
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
