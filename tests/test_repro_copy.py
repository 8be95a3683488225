"""`make repro PARAMS=...`: what stays of an earlier copy, and who is waited for."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from bertpipe.core.errors import WriteError
from bertpipe.core.params_file import load_params, merged_text
from scripts import repro_copy


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_of_an_earlier_copy_everything_stays_that_was_not_copied(tmp_path: Path) -> None:
    project, copy = tmp_path / "project", tmp_path / "copy"
    (project / "src").mkdir(parents=True)
    (project / "src" / "old.py").write_text("first", encoding="utf-8")
    repro_copy.update(copy, project, [Path("src/old.py")], "first")
    stays = [".bertpipe/state/run/step-000000004/x", ".git/HEAD", "models/bert/config.json", "src/mine.py", "notes.md"]
    for name in stays:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("precious", encoding="utf-8")
    (project / "src" / "new.py").write_text("second", encoding="utf-8")
    repro_copy.update(copy, project, [Path("src/new.py")], "second")
    for name in stays:
        assert (copy / name).read_text(encoding="utf-8") == "precious"
    assert not (copy / "src" / "old.py").exists()
    assert (copy / "params.yaml").read_text(encoding="utf-8") == "second"
    assert (copy / "src" / "new.py").read_text(encoding="utf-8") == "second"


def test_what_was_edited_in_the_copy_is_not_replaced(tmp_path: Path) -> None:
    repro_copy.update(tmp_path / "copy", tmp_path, [], "first")
    (tmp_path / "copy" / "params.yaml").write_text("edited", encoding="utf-8")
    with pytest.raises(WriteError, match=r"copy holds params\.yaml, which was changed since"):
        repro_copy.update(tmp_path / "copy", tmp_path, [], "second")
    assert (tmp_path / "copy" / "params.yaml").read_text(encoding="utf-8") == "edited"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 7), (signal.SIGINT, 0)])
def test_a_command_that_saves_is_waited_for(tmp_path: Path, number: int, code: int) -> None:
    """SIGTERM is passed on; a terminal has sent Ctrl-C to the command as well."""
    command = [
        sys.executable, "-c",
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), pathlib.Path('saved').touch(), sys.exit(7)))\n"
        "pathlib.Path('ready').touch(); time.sleep(1.5)",
    ]  # fmt: skip

    def signal_when_ready() -> None:
        while not (tmp_path / "ready").exists():
            threading.Event().wait(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=signal_when_ready)
    thread.start()
    assert repro_copy.run_to_its_end(command, tmp_path) == code
    thread.join()
    assert (tmp_path / "saved").exists() == (number == signal.SIGTERM)


def test_paths_in_the_copy_are_the_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    project = tmp_path / "project"
    (project / "models" / "first").mkdir(parents=True)
    (project / "sample").mkdir()
    text = (
        "data:  # a comment\n  dir: ../data\n  corpora: {one: ../texts, two: /absolute, three: there is none}\n"
        "download: {source: SOURCE}\nprepare: {tokenizer: ~/tokenizer.json}\ntrain: {init: models/first}\n"
        "infer:\n  examples:\n    - {task: mlm, model: google/bert}\n    - {task: mlm, model: models/first}\n"
    )
    made = repro_copy.with_absolute_paths(text.replace("SOURCE", "../my.zip"), project)
    assert "# a comment" in made
    content = YAML(typ="safe").load(made)
    assert content["data"] == {
        "dir": f"{tmp_path}/data", "corpora": {"one": f"{tmp_path}/texts", "two": "/absolute", "three": "there is none"}
    }  # fmt: skip
    assert content["download"]["source"] == f"{tmp_path}/my.zip"
    assert content["prepare"]["tokenizer"] == "/home/me/tokenizer.json"
    assert content["train"]["init"] == f"{project}/models/first"
    assert [example["model"] for example in content["infer"]["examples"]] == ["google/bert", f"{project}/models/first"]
    for source in ("sample", "imdb", "https://example.org/../x.zip"):
        made = repro_copy.with_absolute_paths(text.replace("SOURCE", source), project)
        assert YAML(typ="safe").load(made)["download"]["source"] == source
    own = "data: {dir: data/text/a, corpora: {a: /b}}\n# as it is\n"
    assert repro_copy.with_absolute_paths(own, project) == own


def test_the_copy_of_the_project_gets_the_merged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run with a `git` that knows two files, and a `dvc` that does nothing."""
    scripts = {"dvc": "", "git": "[ $1 != ls-files ] || printf 'params.yaml\\0params/mine.yaml\\0'"}
    (tmp_path / "bin").mkdir()
    for name, does in scripts.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho {name} $1 >> {tmp_path}/asked\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    shutil.copy(repro_copy.PROJECT / "params.yaml", tmp_path)
    monkeypatch.setattr(repro_copy, "PROJECT", tmp_path)
    (tmp_path / "params").mkdir()
    mine = tmp_path / "params" / "mine.yaml"
    mine.write_text("extends: ../params.yaml\ntrain: {epochs: 3}\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["repro_copy.py", str(mine)])
    assert repro_copy.main() == 0
    copied = tmp_path / ".bertpipe" / "runs" / "mine" / "params.yaml"
    text = copied.read_text(encoding="utf-8")
    assert text == merged_text(mine)
    assert "extends" not in text
    assert load_params(copied).train.epochs == 3
    assert (tmp_path / "asked").read_text(encoding="utf-8").splitlines()[-1] == "dvc repro"
    mine.write_text("extends: ../params.yaml\ntrain: {epoch: 3}\n", encoding="utf-8")
    assert repro_copy.main() == 1
    assert "train.epoch: is not known" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["repro_copy.py", "--check", str(mine)])
    assert repro_copy.main() == 1
    assert "train.epoch: is not known" in capsys.readouterr().err
    assert (tmp_path / "asked").read_text(encoding="utf-8").splitlines()[-1] == "dvc repro"
    assert copied.read_text(encoding="utf-8") == text
