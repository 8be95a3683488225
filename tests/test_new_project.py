"""`bertpipe init`: what it writes, where, and that it replaces nothing."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bertpipe.core.params_file import load_params, merged_text
from commands import Run

PROJECT = Path(__file__).parent.parent
FILES = ["params.yaml", "dvc.yaml", ".gitignore", ".dvcignore", "README.md"]
RECIPES = {path.stem: path for path in (PROJECT / "params").rglob("*.yaml")}

pytestmark = pytest.mark.usefixtures("workdir")


def parsed(text: str) -> Any:  # noqa: ANN401
    return YAML(typ="safe", pure=True).load(text)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return what is in a folder: the bytes of each file, and None for folders and links."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in folder.rglob("*")
    }


def made(run: Run, *arguments: object) -> dict[str, Any]:
    """Return what the command says of the project that it has written."""
    ended = run("init", "--json", *arguments)
    assert (ended.code, ended.err) == (0, "")
    result: dict[str, Any] = json.loads(ended.out)
    return result


def refused(run: Run, *arguments: object) -> str:
    """Return the one error of a command that has left everything as it was."""
    before = contents(Path())
    ended = run("init", *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert contents(Path()) == before
    assert len(ended.err) <= 500 + len("error: \n")
    assert ended.err.startswith("error: ")
    return ended.err


# What it writes


def test_the_files_and_the_next_commands(run: Run) -> None:
    assert made(run, "mine") == {
        "folder": "mine",
        "files": FILES,
        "next": [
            "cd mine", "git init", "dvc init", "dvc repro",
            "bertpipe infer mlm 'The rugged sheriff polishes a [MASK] in the jail.'",
        ],
    }  # fmt: skip
    assert sorted(contents(Path("mine"))) == sorted(FILES)
    shown = run("init", "other").out
    assert "A new project is in other" in shown
    assert "\n  dvc repro\n" in shown


def test_the_params_are_the_defaults_with_their_comments(run: Run) -> None:
    made(run, "mine")
    assert Path("mine/params.yaml").read_bytes() == (PROJECT / "params.yaml").read_bytes()


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_recipe_is_merged_into_the_params(run: Run, recipe: str) -> None:
    made(run, "mine", "--recipe", recipe)
    params = Path("mine/params.yaml")
    assert load_params(params) == load_params(RECIPES[recipe])
    assert params.read_text(encoding="utf-8") == merged_text(RECIPES[recipe])
    assert "extends" not in parsed(params.read_text(encoding="utf-8"))


def test_the_help_names_every_recipe(run: Run) -> None:
    shown = run("init", "--help").out
    assert [name for name in RECIPES if name not in shown] == []


def test_notebook_is_a_recipe(run: Run) -> None:
    made(run, "mine", "--notebook")
    loaded = load_params(Path("mine/params.yaml"))
    assert loaded == load_params(RECIPES["notebook"])
    assert (loaded.download.source, loaded.convert.recover) == ("imdb", "words")
    assert run("init", "other", "--notebook", "--recipe", "tiny").code == 2
    assert not Path("other").exists()


def test_the_pipeline_is_ours_without_our_sources(run: Run) -> None:
    made(run, "mine")
    text = Path("mine/dvc.yaml").read_text(encoding="utf-8")
    ours = parsed((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))
    for stage in ours["stages"].values():
        inner = stage.get("do", stage)
        left = [dep for dep in inner.get("deps", []) if not dep.startswith("src/")]
        inner |= {"deps": left} if "deps" in inner else {}
    assert parsed(text) == ours
    assert "src/" not in text
    comments = [line.strip() for line in text.splitlines() if line.strip().startswith("#")]
    assert comments[0].startswith("# One stage per command.")
    assert any(line.startswith("# `exec`: without a shell") for line in comments)
    assert all(line == line.rstrip() for line in text.splitlines())
    assert "\n\n\n" not in text


def commands_in(readme: str) -> list[str]:
    return [line.strip().removeprefix("$ ") for line in readme.splitlines() if line.strip().startswith("$ ")]


def test_the_readme_has_the_commands_in_their_order(run: Run) -> None:
    result = made(run, "mine", "--recipe", "tiny")
    commands = commands_in(Path("mine/README.md").read_text(encoding="utf-8"))
    assert result["next"][1:] == commands[:4] == [
        "git init", "dvc init", "dvc repro", "bertpipe infer mlm 'The [MASK] is slow and sad.'",
    ]  # fmt: skip
    assert commands[4:] == [
        "git add .",
        'git commit --quiet --message "First run"',
        "dvc exp run -S train.seed=2",
        "dvc metrics diff",
    ]


# A text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("texts", "texts"), ("my re\"views' $HOME `x`", "my_re_views_HOME_x"), ("año 1.2", "año_1.2"),
        ("-- ..", "text"), ("a@b:c", "a_b_c"), ("x" * 200, "x" * 60),
    ],
)  # fmt: skip
def test_a_text_outside_is_named_by_its_whole_path(run: Run, text: str, name: str) -> None:
    Path(text).mkdir()
    made(run, "new/mine", "--text", Path.cwd() / text)
    params = Path("new/mine/params.yaml")
    data = load_params(params).data
    assert data.dir == f"data/text/{name}"
    assert data.corpora == {name: str(Path(text).absolute())}
    lines = params.read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("  corpora: {"))
    assert "# NAME: PATH of a text" in line
    assert lines[lines.index(line) + 1 :][:2] == ["", "download:"]


def test_a_relative_path_outside_becomes_the_whole_one(run: Run) -> None:
    Path("reviews.v2.jsonl.gz").touch()
    made(run, "mine", "--text", "reviews.v2.jsonl.gz")
    assert load_params(Path("mine/params.yaml")).data.corpora == {
        "reviews": str(Path("reviews.v2.jsonl.gz").absolute())
    }


def test_a_text_within_the_project_is_named_by_a_relative_path(
    run: Run, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine/texts/first").mkdir(parents=True)
    monkeypatch.chdir("mine/texts")
    made(run, "..", "--text", "first")
    data = load_params(workdir / "mine/params.yaml").data
    assert (data.corpora, data.dir) == ({"first": "texts/first"}, "data/text/first")
    assert "`dvc add texts/first`" in (workdir / "mine/README.md").read_text(encoding="utf-8")


def test_a_text_goes_with_a_recipe_and_fetches_nothing(run: Run) -> None:
    Path("a.txt").touch()
    result = made(run, "mine", "--text", "a.txt", "--notebook")
    loaded, notebook = load_params(Path("mine/params.yaml")), load_params(RECIPES["notebook"])
    assert (loaded.train, loaded.prepare, loaded.model) == (notebook.train, notebook.prepare, notebook.model)
    assert (loaded.data.dir, loaded.download.source) == ("data/text/a", "sample")
    assert result["next"][-1] == "bertpipe infer mlm 'This is a [MASK].'"


def test_a_text_that_cannot_be_the_projects_is_refused(run: Run) -> None:
    assert "there is no text at nowhere: name a file" in refused(run, "mine", "--text", "nowhere")
    Path("mine/data/text").mkdir(parents=True)
    Path("a\nb.txt").touch()
    Path("a.txt").touch()
    for text in (".", "mine"):
        assert "the project would lie in the folder of its own text" in refused(run, "mine", "--text", text)
    assert "is where the pipeline writes data/raw/dataset.zip" in refused(run, "mine", "--text", "mine/data")
    Path("new/models/bert").mkdir(parents=True)
    Path("new/models/bert/a.txt").touch()
    assert "is where the pipeline writes models/bert" in refused(run, "new", "--text", "new/models/bert/a.txt")
    assert "which may not be used there: rename it" in refused(run, "mine", "--text", "a\nb.txt")
    said = refused(run, "mine", "--text", "a.txt", "--recipe", "imdb_text")
    assert "the recipe has a text of its own, 'data/raw/dataset.zip'" in said


def test_an_unknown_recipe_gets_the_names_of_all(run: Run) -> None:
    said = refused(run, "mine", "--recipe", "2min")
    assert said.startswith("error: there is no recipe 2min: take one of ")
    assert sorted(said.strip().partition("take one of ")[2].split(", ")) == sorted(RECIPES)
    assert "../params" in refused(run, "mine", "--recipe", "../params")
    refused(run, "mine", "--recipe", "x" * 9999)


# Where it writes


@pytest.mark.parametrize("name", ["a b", "it's", 'qu"ote', "año", "日本", "$HOME", "-dash", "a\tb", "deep/er/one"])
def test_a_folder_of_any_name(run: Run, name: str) -> None:
    result = made(run, "--", name)
    assert sorted(path.name for path in Path(name).iterdir()) == sorted(FILES)
    assert shlex.split(result["next"][0]) == ["cd", f"./{name}" if name == "-dash" else name]


def test_the_current_folder(run: Run) -> None:
    assert made(run, ".")["next"][0] == "git init"
    assert sorted(contents(Path())) == sorted(FILES)


def test_what_is_no_part_of_a_project_stays(run: Run) -> None:
    kept = {
        ".venv/pyvenv.cfg": "home",
        ".git/HEAD": "ref",
        "LICENSE": "mine",
        "data/other.csv": "1",
        "src/a.py": "pass",
    }
    for name, text in kept.items():
        Path("mine", name).parent.mkdir(parents=True, exist_ok=True)
        Path("mine", name).write_text(text)
    assert made(run, "mine")["next"][1:3] == ["dvc init", "dvc repro"]
    assert {name: Path("mine", name).read_text() for name in kept} == kept
    ignored = Path("mine/.gitignore").read_text().splitlines()
    assert {"/.venv/", "/.bertpipe/"} <= {*ignored}
    assert {"/.venv/", "/.bertpipe/"} <= {*Path("mine/.dvcignore").read_text().splitlines()}


@pytest.mark.parametrize(
    "name", [*FILES, "dvc.lock", "data/parquet", "data/raw/dataset.zip", "models/bert", "reports/metrics.json"]
)
def test_no_file_is_replaced_nor_any_that_the_pipeline_would_replace(run: Run, name: str) -> None:
    Path("mine", name).parent.mkdir(parents=True)
    Path("mine", name).write_text("earlier")
    said = refused(run, "mine", "--git")
    assert f"in mine there is '{name}' already, and a new project replaces nothing" in said


def test_all_that_is_in_the_way_is_named_at_once(run: Run) -> None:
    Path("mine/data/text/a").mkdir(parents=True)
    Path("a.txt").touch()
    Path("mine/params.yaml").symlink_to("nowhere")
    Path("mine/README.md").mkdir()
    said = refused(run, "mine", "--text", "a.txt")
    assert "there is 'params.yaml', 'README.md', 'data/text/a' already" in said


def test_a_second_project_in_a_folder_is_refused(run: Run) -> None:
    made(run, "mine")
    refused(run, "mine")
    refused(run, "mine", "--recipe", "tiny", "--git")


def test_a_place_that_is_no_folder_is_refused(run: Run) -> None:
    Path("file").touch()
    Path("link").symlink_to("nowhere")
    for place in ("file", "link"):
        assert f"{place} is not a folder: name another place" in refused(run, place)
    assert "file/mine cannot be written (Not a directory" in refused(run, "file/mine")


def test_after_a_failure_nothing_is_left(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real, opened = Path.open, []

    def full(path: Path, mode: str = "r", **more: Any) -> Any:  # noqa: ANN401
        if mode == "x":
            opened.append(path.name)
            if len(opened) == 3:
                raise OSError(28, "No space left on device", str(path))
        return real(path, mode, **more)

    Path("mine").mkdir()
    Path("mine/LICENSE").touch()
    monkeypatch.setattr(Path, "open", full)
    for place in ("mine", "new/deep"):
        opened.clear()
        assert "make room on the disk and run the command again" in refused(run, place)
    assert not Path("new").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_parent_is_named(run: Run) -> None:
    Path("closed").mkdir(mode=0o500)
    assert "make its folder writable" in refused(run, "closed/mine")


# git and DVC


def test_git_and_dvc_are_set_up_on_request(run: Run) -> None:
    assert made(run, "mine", "--git")["next"][:2] == ["cd mine", "dvc repro"]
    assert Path("mine/.git/HEAD").is_file()
    assert Path("mine/.dvc/config").is_file()
    assert commands_in(Path("mine/README.md").read_text())[0] == "dvc repro"


def test_in_another_repository_no_repository_is_made(run: Run) -> None:
    made(run, "outer", "--git")
    assert made(run, "outer/by_hand")["next"][1] == "dvc init --subdir"
    made(run, "outer/inner", "--git")
    assert not Path("outer/inner/.git").exists()
    assert Path("outer/inner/.dvc/config").is_file()


def test_an_earlier_repository_is_kept(run: Run) -> None:
    made(run, "mine", "--git")
    for name in FILES:
        Path("mine", name).unlink()
    config = Path("mine/.dvc/config")
    config.write_text("[core]\n    analytics = false\n")
    made(run, "mine", "--git")
    assert config.read_text() == "[core]\n    analytics = false\n"
    assert made(run, "mine/..", "--recipe", "tiny")["next"][:2] == ["git init", "dvc init"]


def test_where_the_outer_repository_ignores_the_project_nothing_is_left(run: Run) -> None:
    made(run, "outer", "--git")
    Path("outer/.gitignore").write_text("build/\n")
    said = refused(run, "outer/build/mine", "--git")
    assert "git and DVC cannot be set up in" in said
    assert "is ignored by your SCM tool" in said
