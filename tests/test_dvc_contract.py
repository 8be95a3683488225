"""dvc.yaml says what the stages really read, take and write."""

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
FUNCTIONS = {
    "download": "bertpipe.stages.download:run_download",
    "convert": "bertpipe.stages.convert:run_convert",
    "prepare": "bertpipe.stages.prepare:run_prepare",
    "train": "bertpipe.stages.train:run_train",
    "evaluate": "bertpipe.stages.evaluate:run_evaluate",
    "plot": "bertpipe.stages.plot:run_plot",
    "examples": "bertpipe.stages.infer:run_infer_examples",
    "export": "bertpipe.stages.export:run_export",
}
SWITCHES = {"export": {"--or-card"}}
"""Options without a value, by stage: without a counterpart, a person gets an error and the pipeline goes on."""
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


def function(stage: str) -> Callable[..., Any]:
    """Return the function that does the work of a stage."""
    module, name = FUNCTIONS[stage].split(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def words(stage: str) -> tuple[list[str], dict[str, str]]:
    """Return the command of a stage, and its options."""
    program, *rest = shlex.split(STAGES[stage]["cmd"].removeprefix("exec "))
    assert program == "bertpipe"
    switches = SWITCHES.get(stage, set())
    assert switches <= set(rest)
    rest = [word for word in rest if word not in switches]
    first = next((at for at, word in enumerate(rest) if word.startswith("-")), len(rest))
    return rest[:first], dict(zip(rest[first::2], rest[first + 1 :: 2], strict=True))


def defaults(stage: str) -> dict[str, object]:
    """Return the default of each option of the stage's command; those for one text have none, and are as written."""
    command: Any = typer.main.get_command(app.app)
    for word in words(stage)[0]:
        command = command.commands[word]
    own = words(stage)[1] if stage == FOR_EACH_TEXT else {}
    directory = (
        {"--data": PARAMS["data"]["dir"]} if any("--data" in parameter.opts for parameter in command.params) else {}
    )
    return {name: parameter.default for parameter in command.params for name in parameter.opts} | own | directory


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


def test_every_stage_is_checked_here() -> None:
    assert STAGES.keys() == FUNCTIONS.keys()


@pytest.mark.parametrize("stage", FUNCTIONS)
def test_params_are_the_sections_that_the_stage_takes(stage: str) -> None:
    section_of = {kind: name for name, kind in get_type_hints(Params).items()}
    hints = get_type_hints(function(stage))
    taken = {
        section_of[hints[name]]
        for name in inspect.signature(function(stage)).parameters
        if hints.get(name) in section_of
    }
    assert set(STAGES[stage].get("params", [])) == taken - {"runtime"}


@pytest.mark.parametrize("stage", sorted(FUNCTIONS.keys() - WITHOUT_CODE))
def test_deps_are_folders_that_hold_all_that_the_stage_imports_and_no_folder_without_any(stage: str) -> None:
    module = FUNCTIONS[stage].split(":")[0]
    imported = {path.relative_to(PROJECT).as_posix() for path in source_files(module)}
    within = {dep: {path for path in imported if PurePath(path).is_relative_to(dep)} for dep in code(stage)}
    assert imported - set().union(*within.values()) == set()
    assert [dep for dep, paths_within in within.items() if not paths_within] == []
    assert sum(map(len, within.values())) == len(imported), "a dep lies within another"


@pytest.mark.parametrize("stage", sorted(WITHOUT_CODE))
def test_a_stage_that_fetches_from_the_web_does_not_depend_on_code(stage: str) -> None:
    assert code(stage) == []


@pytest.mark.parametrize("stage", FUNCTIONS)
def test_options_in_the_command_are_the_defaults(stage: str) -> None:
    known = defaults(stage)
    for name, value in words(stage)[1].items():
        assert str(known[name]) == value, name


@pytest.mark.parametrize("stage", FUNCTIONS)
def test_data_and_outs_are_the_paths_of_the_command(stage: str) -> None:
    outs = set(paths(outputs(STAGES[stage])))
    options = {str(value) for value in defaults(stage).values() if isinstance(value, Path | str)}
    assert data(stage) | outs == {option for option in options if "/" in option or option == "${item}"}
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
        assert "--data ${data.dir}" in DVC["stages"][stage]["cmd"]


def test_metrics_and_history_are_kept_in_git_not_in_the_cache() -> None:
    uncached = {
        path
        for stage in STAGES.values()
        for entry in outputs(stage)
        if isinstance(entry, dict)
        for path, settings in entry.items()
        if settings["cache"] is False
    }
    assert uncached == {
        str(path)
        for path in (artifacts.METRICS_FILE, artifacts.HISTORY_FILE, artifacts.EPOCHS_FILE, artifacts.EXAMPLES_FILE)
    }


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
