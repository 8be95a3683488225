"""`init`: a new project, made from the files that bertpipe's own pipeline runs with."""

import logging
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import Git, map_scm_exception
from ruamel.yaml import YAML

from bertpipe import __version__
from bertpipe.core.artifacts import PARAMS_FILE
from bertpipe.core.errors import MissingInputError, ParamsError, WriteError, excerpts, first_line, write_errors
from bertpipe.core.file_kinds import shown
from bertpipe.core.params import DataParams
from bertpipe.core.params_file import PROJECT, merged_text, packaged_params, yaml_text

_README = Path(__file__).with_name("project_readme.md.jinja")
_IGNORED = {
    ".gitignore": (
        "/.bertpipe/",
        "/.venv/",
        "/venv/",
        "/dvc_plots/",
        "/runs/",
        "/wandb/",
        "/mlflow.db",
        "__pycache__/",
    ),
    ".dvcignore": ("/.bertpipe/", "/.venv/", "/venv/"),  # DVC looks for stages in all other folders
}
_LONGEST_NAME, _SHOWN = 60, 120
"""Characters of the NAME of a text, and of a path in a message."""


def run_init(folder: Path, *, text: Path | None = None, recipe: str | None = None, git: bool = False) -> dict[str, Any]:
    """Write a new project into `folder`, and return its path, its files and the commands to type next.

    Everything is written, or nothing; no file is replaced.

    Args:
        folder: new, or without any file of the project and without any output of its pipeline.
        text: what to train on, see `bertpipe prepare`; None: the sample, or what the recipe names.
        recipe: name of a file of `params/`, whose values replace those of params.yaml.
        git: make it a git repository too, if it is not in one, and set up DVC.

    Raises:
        MissingInputError: there is no such text.
        ParamsError: there is no such recipe, or it does not go with `text`.
        WriteError: the project would replace or read what is there, or it cannot be written.
    """
    root = folder.resolve()
    params = YAML().load(merged_text(packaged_params(recipe)))
    if text is not None:
        _set_text(params, text, root)
    stages = _stages()
    outputs = list(_outputs(stages, params["data"]["corpora"]))
    if text is not None:
        _check_apart(root, text.resolve(), outputs)
    setup = [] if git else list(_setup(root))
    commands = {"setup": setup, "ask": f"bertpipe infer mlm {shlex.quote(_question(params, own=text is not None))}"}
    changed = text is not None or recipe is not None
    files = {
        PARAMS_FILE.name: yaml_text(params) if changed else merged_text(PROJECT / PARAMS_FILE.name),
        "dvc.yaml": _without_comments_on_sources(yaml_text(stages)),
        **{name: "".join(f"{line}\n" for line in lines) for name, lines in _IGNORED.items()},
        "README.md": _readme(params, commands, text_inside=_inside(root, text)),
    }
    _check_free(folder, [*files, "dvc.lock", *outputs])
    with write_errors(folder), _all_or_nothing(root) as created:
        for name, content in files.items():
            with (root / name).open("x", encoding="utf-8") as file:
                created.append(root / name)
                file.write(content)
        if git:
            _set_up(root, created)
    shown_folder = f"./{folder}" if str(folder).startswith("-") else str(folder)
    enter = [] if root == Path.cwd() else [f"cd {shlex.quote(shown_folder)}"]
    return {
        "folder": str(folder),
        "files": list(files),
        "next": [*enter, *setup, "dvc repro", commands["ask"]],
    }


def _set_text(params: Any, text: Path, root: Path) -> None:  # noqa: ANN401
    """Make a text what the project trains on: by a path within it if it lies there, else by the whole path."""
    if not text.exists():
        raise MissingInputError(
            f"there is no text at {shown(str(text))[-_SHOWN:]}: name a file, a folder or an archive"
        )
    if params["data"]["corpora"]:
        raise ParamsError(
            f"the recipe has a text of its own, {excerpts(list(params['data']['corpora'].values()), 1)}: leave --text "
            "out, or take another recipe"
        )
    place = text.resolve()
    name = re.sub(r"[^\w.-]+", "_", place.name if place.is_dir() else place.name.split(".")[0])
    name = name.strip("._-")[:_LONGEST_NAME] or "text"
    path = str(place.relative_to(root) if place.is_relative_to(root) else place)
    try:
        DataParams(dir=f"data/text/{name}", corpora={name: path})
    except ValueError as error:
        raise ParamsError(str(error)) from error
    params["data"]["dir"] = f"data/text/{name}"
    params["data"]["corpora"][name] = path
    params["data"]["corpora"].fa.set_flow_style()
    params["download"]["source"] = "sample"  # nothing from the web for a training that does not read it


def _stages() -> Any:  # noqa: ANN401
    """Return our dvc.yaml without the dependencies on our sources, which a project does not have."""
    content = YAML().load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))
    for stage in content["stages"].values():
        own = stage.get("do", stage)
        deps = own.get("deps", [])
        for at in reversed(range(len(deps))):
            if str(deps[at]).startswith("src/"):
                del deps[at]
        if "deps" in own and not deps:
            del own["deps"]
    return content


def _without_comments_on_sources(text: str) -> str:
    """Remove each block of comment lines that speaks of src/, with the empty line after it."""
    blocks = re.compile(r"(?:^[ ]*#.*\n)+\n?", re.MULTILINE)
    return blocks.sub(lambda block: "" if "src/" in block[0] else block[0], text)


def _outputs(stages: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """Yield the paths that the stages write; DVC would remove what is there."""
    for stage in stages["stages"].values():
        own = stage.get("do", stage)
        for entry in (entry for kind in ("outs", "metrics", "plots") for entry in own.get(kind, [])):
            path = entry if isinstance(entry, str) else next(iter(entry))
            yield from (path.replace("${key}", name) for name in names) if "foreach" in stage else [path]


def _check_free(folder: Path, names: Sequence[str]) -> None:
    place = shown(str(folder))[-_SHOWN:]
    if os.path.lexists(folder) and not folder.is_dir():
        raise WriteError(f"{place} is not a folder: name another place for the project")
    taken = [name for name in names if os.path.lexists(folder / name)]
    if taken:
        raise WriteError(
            f"in {place} there is {excerpts(taken)} already, and a new project replaces nothing: name another folder, "
            "or move what is there; nothing was written"
        )


def _check_apart(root: Path, text: Path, outputs: Sequence[str]) -> None:
    place = shown(str(text))[-_SHOWN:]
    if root.is_relative_to(text):
        raise WriteError(
            f"the project would lie in the folder of its own text, {place}, and read what it writes: name another "
            "folder for the project, or move the text into one within it"
        )
    for path in (root / output for output in outputs):
        if text.is_relative_to(path) or path.is_relative_to(text):
            raise WriteError(
                f"the text {place} is where the pipeline writes {path.relative_to(root)}: move the text elsewhere"
            )


def _inside(root: Path, text: Path | None) -> str | None:
    """Return the path of a text within the project, if that is where it lies."""
    place = text and text.resolve()
    return str(place.relative_to(root)) if place and place.is_relative_to(root) else None


def _setup(root: Path) -> Iterator[str]:
    """Yield the commands that a folder needs before `dvc repro`."""
    repository = _repository(root)
    if repository is None:
        yield "git init"
    if not (root / ".dvc").exists():
        yield "dvc init" if repository in {None, root} else "dvc init --subdir"


def _repository(root: Path) -> Path | None:
    """Return the root of the git repository that a folder lies in."""
    return next((path for path in (root, *root.parents) if (path / ".git").exists()), None)


def _set_up(root: Path, created: list[Path]) -> None:
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # it would print on standard output; its errors are raised
    try:
        if _repository(root) is None:
            created.append(root / ".git")
            with map_scm_exception():
                Git.init(root).close()
        if not (root / ".dvc").exists():
            created.append(root / ".dvc")
            Repo.init(str(root), subdir=_repository(root) != root).close()
    except DvcException as error:
        reason = first_line(error).replace(f"{root}{os.sep}", "")[:_SHOWN]  # its path would leave no room for the rest
        raise WriteError(
            f"git and DVC cannot be set up in {shown(str(root))[-_SHOWN:]} ({reason}): fix this, or leave --git out; "
            "nothing was written"
        ) from error


@contextmanager
def _all_or_nothing(root: Path) -> Iterator[list[Path]]:
    """Make a folder, and yield a list for what is created in it; after an error all of that is removed."""
    created = [path for path in (*reversed(root.parents), root) if not path.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield created
    except BaseException:
        for path in reversed(created):
            if path.is_dir() and path not in {root, *root.parents}:
                shutil.rmtree(path)
            elif path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        raise


def _question(params: Mapping[str, Any], *, own: bool) -> str:
    """Return a text with `[MASK]`, for the first question to the model."""
    texts = [each["text"] for each in params["infer"]["examples"] if each["task"] == "mlm" and not each.get("model")]
    return "This is a [MASK]." if own or not texts else str(texts[0])


def _readme(params: Mapping[str, Any], commands: Mapping[str, Any], *, text_inside: str | None) -> str:
    environment = jinja2.Environment(
        autoescape=jinja2.select_autoescape(default_for_string=False),  # Markdown is not HTML
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.from_string(_README.read_text(encoding="utf-8")).render(
        version=__version__,
        data=params["data"],
        language=params["prepare"]["language"],
        source=params["download"]["source"],
        other_seed=params["train"]["seed"] + 1,
        text_inside=text_inside and shlex.quote(text_inside),
        **commands,
    )
