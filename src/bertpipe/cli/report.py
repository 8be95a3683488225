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


def report(
    context: typer.Context,
    model: ModelOption = str(artifacts.MODEL_DIR),
    data: DataOption = None,
    history: HistoryOption = artifacts.HISTORY_FILE,
    epoch_history: EpochsOption = artifacts.EPOCHS_FILE,
    timing: TimingOption = artifacts.TIMING_FILE,
    epoch_answers: EpochAnswersOption = artifacts.ANSWERS_FILE,
    metrics: Annotated[Path, typer.Option(help="JSON file of metrics.")] = artifacts.METRICS_FILE,
    examples: Annotated[Path, typer.Option(help="JSON file of the answered examples.")] = artifacts.EXAMPLES_FILE,
    out: Annotated[Path, typer.Option(help="Where the page is written.")] = artifacts.REPORT_FILE,
    params: ParamsOption = artifacts.PARAMS_FILE,
    json_: JsonOption = False,
) -> None:
    """Write one page on a run and its model, which opens in a browser without a network."""
    with signals_blocked():
        from bertpipe.stages.report import run_report

    loaded = load_params(params)

    def of_this_model(name: str, path: Path) -> Path | None:
        source = context.get_parameter_source(name)
        is_named = source is not None and source.name != "DEFAULT"
        return path if is_named or model == str(artifacts.MODEL_DIR) else None

    with terminal.progress() as on_progress:
        result = run_report(
            loaded.evaluate, loaded.runtime, model=model, data=data or Path(loaded.data.dir),
            history=of_this_model("history", history), epochs=of_this_model("epoch_history", epoch_history),
            timing=of_this_model("timing", timing), metrics=of_this_model("metrics", metrics),
            examples=of_this_model("examples", examples), answers=of_this_model("epoch_answers", epoch_answers),
            out=out, on_progress=on_progress, on_note=terminal.show_note,
        )  # fmt: skip
    results.show(result, results.show_facts, "Reported", as_json=json_)
