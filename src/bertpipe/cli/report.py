"""The command `report`."""

from pathlib import Path
from typing import Annotated

import typer

from bertpipe.cli import results, terminal
from bertpipe.cli.options import (
    DataOption,
    EpochAnswersOption,
    EpochsOption,
    HistoryOption,
    JsonOption,
    ModelOption,
    ParamsOption,
    TimingOption,
    signals_blocked,
)
from bertpipe.core import artifacts
from bertpipe.core.params_file import load_params


def report(  # noqa: PLR0917 - each is an option
    context: typer.Context,
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="With --compare: two or more of a model directory, a project, or a DVC experiment or commit.",
            show_default=False,
        ),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Put the runs side by side on one page.")] = False,
    model: ModelOption = str(artifacts.MODEL_DIR),
    data: DataOption = None,
    history: HistoryOption = artifacts.HISTORY_FILE,
    epoch_history: EpochsOption = artifacts.EPOCHS_FILE,
    timing: TimingOption = artifacts.TIMING_FILE,
    epoch_answers: EpochAnswersOption = artifacts.ANSWERS_FILE,
    metrics: Annotated[Path, typer.Option(help="JSON file of metrics.")] = artifacts.METRICS_FILE,
    examples: Annotated[Path, typer.Option(help="JSON file of the answered examples.")] = artifacts.EXAMPLES_FILE,
    out: Annotated[
        Path,
        typer.Option(
            help="Where the page is written.",
            show_default=f"{artifacts.REPORT_FILE}, with --compare {artifacts.COMPARISON_FILE}",
        ),
    ] = artifacts.REPORT_FILE,
    params: ParamsOption = artifacts.PARAMS_FILE,
    json_: JsonOption = False,
) -> None:
    """Write one page on a run and its model, or on several runs, which opens in a browser without a network."""
    if compare:
        _compare(context, runs or [], out if _is_named(context, "out") else artifacts.COMPARISON_FILE, json_=json_)
        return
    if runs:
        raise typer.BadParameter("runs are put side by side with --compare; one model's page has --model")
    with signals_blocked():
        from bertpipe.stages.report import run_report

    loaded = load_params(params)

    def of_this_model(name: str, path: Path) -> Path | None:
        return path if _is_named(context, name) or model == str(artifacts.MODEL_DIR) else None

    with terminal.progress() as on_progress:
        result = run_report(
            loaded.evaluate, loaded.runtime, model=model, data=data or Path(loaded.data.dir),
            history=of_this_model("history", history), epochs=of_this_model("epoch_history", epoch_history),
            timing=of_this_model("timing", timing), metrics=of_this_model("metrics", metrics),
            examples=of_this_model("examples", examples), answers=of_this_model("epoch_answers", epoch_answers),
            out=out, on_progress=on_progress, on_note=terminal.show_note,
        )  # fmt: skip
    results.show(result, results.show_facts, "Reported", as_json=json_)


def _compare(context: typer.Context, runs: list[str], out: Path, *, json_: bool) -> None:
    """Write the page on several runs; options of one run's page do not go with it."""
    for name in sorted(context.params):
        if name not in {"runs", "compare", "out", "params", "json_"} and _is_named(context, name):
            option = f"--{name.replace('_', '-')}"
            raise typer.BadParameter(f"{option} is of one run, and --compare finds the files of each: leave it out")
    with signals_blocked():
        from bertpipe.commands.compare_runs import run_comparison

    with terminal.progress() as on_progress:
        result = run_comparison(runs, out=out, on_progress=on_progress, on_note=terminal.show_note)
    results.show(result, results.show_facts, "Compared", as_json=json_)


def _is_named(context: typer.Context, name: str) -> bool:
    """Return whether an option is not at its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"
