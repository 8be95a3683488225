"""The Python API: its examples, its names, and that importing it is cheap."""

import doctest
import inspect
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bertpipe
from bertpipe.api import functions
from bertpipe.core.errors import ParamsError
from bertpipe.core.params_file import load_params


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with a text."""
    stories = [f"the film of {name} was good. i liked it. it had {n} heroes." for n, name in enumerate("abcdefgh" * 9)]
    (tmp_path / "reviews.txt").write_text("\n\n".join(stories), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_print_what_they_say(folder: Path) -> None:
    """In the order of the file, one after the other, with what the ones before have made."""
    found = sorted(doctest.DocTestFinder().find(functions, globs={}), key=lambda each: each.lineno or 0)
    examples = [each for each in found if each.examples]
    assert {each.name.rpartition(".")[2] for each in examples} == {*bertpipe._API}
    runner, shared = doctest.DocTestRunner(), {name: getattr(bertpipe, name) for name in bertpipe._API}
    for each in examples:
        each.globs = shared
        assert runner.run(each, clear_globs=False).failed == 0, each.name
    assert (folder / "models" / "reviews" / "model.safetensors").is_file()


def test_each_name_has_types_and_says_what_it_takes_and_raises() -> None:
    stub = Path(bertpipe.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    assert set(re.findall(r"import (\w+) as \1", stub)) == {*bertpipe._API}
    for name in bertpipe._API:
        function = getattr(bertpipe, name)
        text = inspect.getdoc(function) or ""
        arguments = inspect.signature(function).parameters
        assert all(f"{argument}: " in text for argument in arguments), name
        assert "Raises:" in text, name
        assert name in dir(bertpipe)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        bertpipe.trian  # type: ignore[attr-defined]  # noqa: B018


def test_importing_bertpipe_is_cheap() -> None:
    code = "import sys, bertpipe; sys.exit(bool({'torch', 'pandas', 'pydantic', 'bertpipe.api'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert logging.getLogger("bertpipe").handlers


def test_changes_are_checked_as_params_are(tmp_path: Path) -> None:
    own = bertpipe.load_params()
    assert bertpipe.load_params(changes={"data.dir": "elsewhere"}).data.dir == "elsewhere"
    assert own == load_params(Path(__file__).parents[1] / "params.yaml")
    with pytest.raises(ParamsError, match=r"train\.epoch: is not known"):
        bertpipe.load_params(changes={"train.epoch": 3})
    with pytest.raises(ParamsError, match=r"train\.epochs: "):
        bertpipe.load_params(changes={"train.epochs": "many"})
    with pytest.raises(ParamsError, match=r"there is no recipe 10mins: take one of .*10min"):
        bertpipe.load_params("10mins")
    with pytest.raises(ParamsError, match="no params file at"):
        bertpipe.load_params(tmp_path / "params.yaml")


def test_data_in_shards_are_read_whole(folder: Path) -> None:
    (folder / "texts").mkdir()
    for name in ("a", "b"):
        (folder / "texts" / f"{name}.txt").write_bytes(
            (folder / "reviews.txt").read_bytes().replace(b"heroes", name.encode())
        )
    params = bertpipe.load_params("tiny", {"prepare.shards": "files", "prepare.text_format": "blocks"})
    summary = bertpipe.prepare("texts", "data/sharded", params=params)
    assert (folder / "data/sharded/test").is_dir()
    assert len(bertpipe.read_data("data/sharded")) == summary["splits"]["test"]["rows"]
