"""dvc.yaml says what the stages really read, take and write.

Nothing here names a stage but where it is an exception: a new one is checked as soon as it is in dvc.yaml.
"""

import importlib
import inspect
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any, get_type_hints

import pytest
import typer.main
from ruamel.yaml import YAML

from bertpipe.cli import app
from bertpipe.core import artifacts
from bertpipe.core.params import Params
from bertpipe.core.source_hash import source_files

PROJECT = Path(__file__).parent.parent
DVC = YAML(typ="safe", pure=True).load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))
PARAMS = YAML(typ="safe", pure=True).load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
WITHOUT_CODE = {"download"}
"""Stages that code changes do not run again."""
FOR_EACH_TEXT = "prepare"
"""The stage that stands once for each text in `data.corpora`: none in params.yaml as it comes."""


def interpolated(content: Any) -> Any:  # noqa: ANN401
    """Return a part of dvc.yaml with the params that it names put in, as DVC does."""
    if isinstance(content, dict):
        return {key: interpolated(value) for key, value in content.items()}
    if isinstance(content, list):
        return [interpolated(value) for value in content]
    return content.replace("${data.dir}", PARAMS["data"]["dir"]) if isinstance(content, str) else content


STAGES: dict[str, Any] = {name: interpolated(stage.get("do", stage)) for name, stage in DVC["stages"].items()}


def module(stage: str) -> str:
    """Return the module of a stage: the one of `stages/` in its deps, or the one of its name."""
    named = [PurePath(dep).stem for dep in code(stage) if PurePath(dep).parent.name == "stages"]
    return f"bertpipe.stages.{named[0] if named else stage}"


def function(stage: str) -> Callable[..., Any]:
    """Return the function that does the work of a stage: the one function `run_...` of its module."""
    found = inspect.getmembers(
        importlib.import_module(module(stage)),
        lambda it: inspect.isfunction(it) and it.__name__.startswith("run_") and it.__module__ == module(stage),
    )
    assert len(found) == 1, f"{module(stage)} has {len(found)} functions run_...: a stage has one"
    return found[0][1]  # type: ignore[no-any-return]


def command_of(stage: str) -> tuple[Any, list[str]]:
    """Return the command that a stage calls, and what follows it: options."""
    command: Any = typer.main.get_command(app.app)
    program, *rest = shlex.split(STAGES[stage]["cmd"].removeprefix("exec "))
    assert program == "bertpipe"
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    return command, rest


def options(stage: str) -> dict[str, str]:
    """Return the options of a stage's command that have a value."""
    command, words = command_of(stage)
    switches = {name for option in command.params if getattr(option, "is_flag", False) for name in option.opts}
    words = [word for word in words if word not in switches]
    return dict(zip(words[::2], words[1::2], strict=True))


def defaults(stage: str) -> dict[str, object]:
    """Return the default of each option of the stage's command; those for one text have none, and are as written."""
    known = {name: option.default for option in command_of(stage)[0].params for name in option.opts}
    own = options(stage) if stage == FOR_EACH_TEXT else {}
    return known | own | ({"--data": PARAMS["data"]["dir"]} if "--data" in known else {})


def paths(entries: list[Any]) -> list[str]:
    """Return the paths of `deps` or `outs`, which may have settings below them."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def code(stage: str) -> list[str]:
    """Return the files and folders of the sources that a stage depends on."""
    return [path for path in paths(STAGES[stage].get("deps", [])) if path.startswith("src/")]


def data(stage: str) -> set[str]:
    """Return what else a stage depends on."""
    return {*paths(STAGES[stage].get("deps", []))} - {*code(stage)}


def outputs(stage: Mapping[str, Any]) -> list[Any]:
    """Return what a stage writes: `outs`, and those that DVC shows as metrics and plots."""
    return [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]


@pytest.mark.parametrize("stage", STAGES)
def test_params_are_the_sections_that_the_stage_takes(stage: str) -> None:
    section_of = {kind: name for name, kind in get_type_hints(Params).items()}
    hints = get_type_hints(function(stage))
    taken = {
        section_of[hints[name]]
        for name in inspect.signature(function(stage)).parameters
        if hints.get(name) in section_of
    }
    assert set(STAGES[stage].get("params", [])) == taken - {"runtime"}


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - WITHOUT_CODE))
def test_deps_are_folders_that_hold_all_that_the_stage_imports_and_no_folder_without_any(stage: str) -> None:
    imported = {path.relative_to(PROJECT).as_posix() for path in source_files(module(stage))}
    within = {dep: {path for path in imported if PurePath(path).is_relative_to(dep)} for dep in code(stage)}
    assert imported - set().union(*within.values()) == set()
    assert [dep for dep, paths_within in within.items() if not paths_within] == []
    assert sum(map(len, within.values())) == len(imported), "a dep lies within another"


@pytest.mark.parametrize("stage", sorted(WITHOUT_CODE))
def test_a_stage_that_fetches_from_the_web_does_not_depend_on_code(stage: str) -> None:
    assert code(stage) == []


@pytest.mark.parametrize("stage", STAGES)
def test_options_in_the_command_are_the_defaults(stage: str) -> None:
    known = defaults(stage)
    for name, value in options(stage).items():
        assert str(known[name]) == value, name


@pytest.mark.parametrize("stage", STAGES)
def test_data_and_outs_are_the_paths_of_the_command(stage: str) -> None:
    outs = set(paths(outputs(STAGES[stage])))
    values = {str(value) for value in defaults(stage).values() if isinstance(value, Path | str)}
    texts = {"${item}"} if stage == FOR_EACH_TEXT else set()  # the command looks them up by their NAMES
    assert data(stage) | outs == {value for value in values if "/" in value} | texts
    assert not data(stage) & outs


def test_no_shell_stays_between_dvc_and_the_training() -> None:
    """Some would stay: they would get the signals and the exit code, and DVC's end would not be seen."""
    assert STAGES["train"]["cmd"].startswith("exec ")


def test_what_a_stage_reads_another_stage_writes() -> None:
    written: set[str] = set()
    for name, stage in STAGES.items():
        assert data(name) <= written | {"${item}"}
        assert not written & set(paths(outputs(stage)))
        written |= set(paths(outputs(stage)))


def test_each_text_has_a_stage_whose_output_can_be_trained_on() -> None:
    assert DVC["stages"][FOR_EACH_TEXT]["foreach"] == "${data.corpora}"
    assert paths(STAGES[FOR_EACH_TEXT]["outs"]) == ["data/text/${key}"]
    assert PARAMS["data"] == {"dir": "data/parquet", "corpora": {}}
    for stage in ("train", "evaluate"):
        assert "${data.dir}" in DVC["stages"][stage]["deps"]
        assert "--data '${data.dir}'" in DVC["stages"][stage]["cmd"]


def test_metrics_and_history_are_kept_in_git_not_in_the_cache() -> None:
    written = [entry for stage in STAGES.values() for entry in outputs(stage)]
    uncached = {path for entry in written if isinstance(entry, dict) for path, it in entry.items() if not it["cache"]}
    ignored = (PROJECT / "reports" / ".gitignore").read_text(encoding="utf-8").splitlines()
    reports = {path for path in paths(written) if path.startswith("reports/")}
    assert uncached == {path for path in reports if path.removeprefix("reports") not in ignored}
    assert uncached >= {str(path) for path in (artifacts.METRICS_FILE, artifacts.HISTORY_FILE, artifacts.EPOCHS_FILE)}


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_what_takes_long_comes_into_the_run_cache(stage: str) -> None:
    """DVC leaves out a stage with an output that is neither cached nor a metric or a plot."""
    assert all(isinstance(entry, str) for entry in STAGES[stage].get("outs", []))


def test_metrics_and_plots_name_what_is_there() -> None:
    assert paths(STAGES["evaluate"]["metrics"]) == [str(artifacts.METRICS_FILE)]
    columns = {
        str(artifacts.HISTORY_FILE): artifacts.HISTORY_COLUMNS,
        str(artifacts.EPOCHS_FILE): artifacts.EPOCHS_COLUMNS,
    }
    for plot in STAGES["train"]["plots"]:
        ((file, settings),) = plot.items()
        assert {settings["x"], settings["y"]} <= set(columns[file])
    for plot in DVC["plots"]:
        for settings in plot.values():
            for file, names in settings["y"].items():
                for name in [settings["x"], *([names] if isinstance(names, str) else names)]:
                    assert name in columns[file]


def test_the_model_is_an_artifact_that_others_can_get() -> None:
    assert list(DVC["artifacts"]) == ["bert"]
    artifact = DVC["artifacts"]["bert"]
    assert artifact["path"] in paths(STAGES["export"]["outs"])
    assert artifact["type"] == "model"
    assert {"fill-mask", "next-sentence-prediction"} <= set(artifact["labels"])
