"""The command line: each command loads params, calls one stage and shows what it returned."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from bertpipe import __version__
from bertpipe.cli import results, terminal
from bertpipe.cli.command import Command, text_argument, utf8_path
from bertpipe.cli.demo import demo
from bertpipe.cli.infer import infer_app
from bertpipe.cli.init import init
from bertpipe.cli.options import (
    AddressOption,
    DataOption,
    EngineOption,
    EpochAnswersOption,
    EpochsOption,
    HistoryOption,
    JsonOption,
    ModelOption,
    ParamsOption,
    TimingOption,
    ZipOption,
    signals_blocked,
)
from bertpipe.cli.process import settle_process
from bertpipe.cli.report import report
from bertpipe.core import artifacts
from bertpipe.core.errors import INTERRUPTIONS, BertpipeError, Interrupted, MissingInputError, StoppedError, WorldError
from bertpipe.core.file_kinds import shown
from bertpipe.core.manifest import MANIFEST_NAME
from bertpipe.core.params import ProbeMode
from bertpipe.core.params_file import load_params
from bertpipe.training.distributed import environment

app = typer.Typer(
    name="bertpipe",
    help="Pretrain BERT from scratch: download, convert or prepare, train, evaluate, plot, export, infer, report. "
    "The pipeline's commands are DVC stages.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # an unexpected exception is our bug and keeps its plain traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(infer_app, name="infer")

_SHOWN_PATH = 200
"""Characters of the longest path in a message."""
_PARENT = os.getppid()
"""The process that started this one; read early, because it may end while libraries are imported."""


def _show_version(wanted: bool) -> None:
    if wanted:
        terminal.show_text(f"bertpipe {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise MissingInputError("the current folder has been removed: change to another one") from error
    if (
        context.invoked_subcommand != "train"
        and environment.environment_number("WORLD_SIZE", 1) > 1
        and environment.is_launched()
    ):
        raise WorldError(
            f"{context.invoked_subcommand} runs in one process, and torchrun has started "
            f"{os.environ['WORLD_SIZE']}: start it without torchrun",
            shown=environment.rank() == 0,
        )


app.command(cls=Command)(init)


@app.command(cls=Command)
def download(
    source: Annotated[
        str | None,
        typer.Option(help="sample, imdb, a URL or a path; default: download.source in the params."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the zip is written.")] = artifacts.ZIP_FILE,
    sha256: Annotated[str | None, typer.Option(help="Expected SHA-256 of the zip, hexadecimal.")] = None,
    params: ParamsOption = artifacts.PARAMS_FILE,
    json_: JsonOption = False,
) -> None:
    """Fetch the zip of CSV files, complete and verified, or nothing."""
    with signals_blocked():
        from bertpipe.stages.download import run_download

    loaded = load_params(params)
    section = replace(loaded.download, source=source or loaded.download.source, sha256=sha256 or loaded.download.sha256)
    with terminal.progress() as on_progress:
        result = run_download(section, loaded.sample, loaded.masking, out=out, on_progress=on_progress)
    results.show(result, results.show_facts, "Downloaded", as_json=json_)


@app.command(cls=Command)
def convert(
    zip_file: ZipOption = artifacts.ZIP_FILE,
    out: Annotated[
        Path, typer.Option(callback=utf8_path, help="Where the Parquet files are written.")
    ] = artifacts.PARQUET_DIR,
    engine: EngineOption = "processes",
    address: AddressOption = None,
    params: ParamsOption = artifacts.PARAMS_FILE,
    json_: JsonOption = False,
) -> None:
    """Turn the CSV files inside the zip into Parquet, every row checked."""
    with signals_blocked():
        from bertpipe.sources.engines.engine import make_engine
        from bertpipe.stages.convert import run_convert

    loaded = load_params(params)
    workers = make_engine(engine, address=address, processes=loaded.runtime.processes)
    with terminal.progress() as on_progress:
        summary = run_convert(
            loaded.convert, zip_file=zip_file, out=out, rejects_report=artifacts.REJECTS_REPORT,
            engine=workers, on_progress=on_progress,
        )  # fmt: skip
    results.show(summary, results.show_conversion, out, as_json=json_)


@app.command(cls=Command)
def prepare(
    out: Annotated[
        Path,
        typer.Option(
            callback=utf8_path, help="Where Parquet files are written; if it ends in .zip, the notebook's zip."
        ),
    ],
    text: Annotated[Path | None, typer.Option(help="A text file, a folder or an archive.")] = None,
    corpus: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instead of --text: the text of this NAME in data.corpora.")
    ] = None,
    engine: EngineOption = "processes",
    address: AddressOption = None,
    params: ParamsOption = artifacts.PARAMS_FILE,
    json_: JsonOption = False,
) -> None:
    """Turn your own text into sentence pairs: split, tokenized, paired and masked."""
    with signals_blocked():
        from bertpipe.sources.engines.engine import make_engine
        from bertpipe.stages.prepare import run_prepare

    if (text is None) == (corpus is None):
        raise typer.BadParameter("give either --text, or --corpus with a NAME in data.corpora")
    loaded = load_params(params)
    source = text or Path(loaded.data.path_of(corpus or ""))
    workers = make_engine(engine, address=address, processes=loaded.runtime.processes)
    with terminal.progress() as on_progress:
        summary = run_prepare(
            loaded.prepare, loaded.masking, loaded.runtime,
            text=source, out=out, engine=workers, on_progress=on_progress, on_note=terminal.show_note,
        )  # fmt: skip
    results.show(summary, results.show_preparation, out, as_json=json_)


@app.command(cls=Command)
def train(
    data: DataOption = None,
    out: Annotated[Path, typer.Option(callback=utf8_path, help="Where the model is written.")] = artifacts.MODEL_DIR,
    history: HistoryOption = artifacts.HISTORY_FILE,
    epoch_history: EpochsOption = artifacts.EPOCHS_FILE,
    timing: TimingOption = artifacts.TIMING_FILE,
    epoch_answers: EpochAnswersOption = artifacts.ANSWERS_FILE,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of train.epochs in the params.")] = None,
    init: Annotated[
        str | None,
        typer.Option(
            callback=utf8_path, help="Start from this model: a bertpipe or Hugging Face directory, or a hub name."
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            callback=utf8_path,
            help="Where a run's state is kept; with a URL, there and here.",
            show_default=str(artifacts.STATE_DIR),
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Resume an interrupted run.")] = True,
    params: ParamsOption = artifacts.PARAMS_FILE,
    json_: JsonOption = False,
) -> None:
    """Train BERT on MLM and NSP, evaluating and saving after each epoch."""
    with signals_blocked():
        from bertpipe.model.device import check_device
        from bertpipe.stages.train import run_train
        from bertpipe.training.distributed.launch import processes_to_train_in, run_in_processes
        from bertpipe.training.run_spec import TrainPaths

    loaded = load_params(params)
    processes = processes_to_train_in(loaded.runtime)
    if processes > 1 and not environment.is_launched():
        check_device(loaded.runtime.device, processes=processes)
        restarts = loaded.runtime.max_restarts
        run_in_processes(sys.argv[1:], processes=processes, max_restarts=restarts, parent=_PARENT)
        return
    section = replace(
        loaded.train,
        epochs=loaded.train.epochs if epochs is None else epochs,
        init=loaded.train.init if init is None else init,
    )
    changed = [name for name in ("epochs", "init") if getattr(section, name) != getattr(loaded.train, name)]
    overrides = {f"train.{name}": getattr(section, name) for name in changed}
    paths = TrainPaths(
        data=data or Path(loaded.data.dir), model=out, history=history, epochs=epoch_history, timing=timing,
        answers=epoch_answers, state=state or artifacts.STATE_DIR,
    )  # fmt: skip
    with terminal.progress() as on_progress:
        summary = run_train(
            loaded.model, section, loaded.masking, loaded.evaluate, loaded.runtime,
            paths=paths, resume=resume, overrides=overrides, parent=_PARENT,
            on_progress=on_progress, on_note=terminal.show_note,
        )  # fmt: skip
    if environment.rank() == 0:
        with terminal.without_failing():
            results.show(summary, results.show_facts, "Trained", as_json=json_)
        if (out, params) == (artifacts.MODEL_DIR, artifacts.PARAMS_FILE):  # the pipeline's
            terminal.warn_of_overrides(overrides, params)


@app.command(cls=Command)
def evaluate(
    context: typer.Context,
    model: ModelOption = str(artifacts.MODEL_DIR),
    data: DataOption = None,
    minimal_pairs: Annotated[
        list[Path] | None,
        typer.Option(
            help="Instead of the test split: JSON lines with sentence_good and sentence_bad, in a file or a folder; "
            "can be given several times.",
            show_default=False,
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD", help="What groups minimal pairs.", show_default="UID if there is one, else the file"
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="JSON file for the metrics; of minimal pairs: reports/minimal_pairs.json.")
    ] = artifacts.METRICS_FILE,
    params: ParamsOption = artifacts.PARAMS_FILE,
    json_: JsonOption = False,
) -> None:
    """Measure a model on the test split or on minimal pairs, together with simple predictors on the same rows."""
    with signals_blocked():
        from bertpipe.commands.minimal_pairs import run_minimal_pairs
        from bertpipe.stages.evaluate import run_evaluate

    loaded = load_params(params)
    data = data or Path(loaded.data.dir)
    if minimal_pairs:
        source = context.get_parameter_source("out")
        by_default = source is not None and source.name == "DEFAULT"
        with terminal.progress() as on_progress:
            report = run_minimal_pairs(
                loaded.runtime, pairs=minimal_pairs, group_by=group_by, model=model, data=data,
                out=artifacts.MINIMAL_PAIRS_FILE if by_default else out,
                on_progress=on_progress, on_note=terminal.show_note,
            )  # fmt: skip
        results.show(report, results.show_minimal_pairs, as_json=json_)
        return
    if group_by is not None:
        raise typer.BadParameter("--group-by applies to --minimal-pairs: give --minimal-pairs FILE too")
    with terminal.progress() as on_progress:
        metrics = run_evaluate(
            loaded.evaluate, loaded.runtime, model=model, data=data, out=out,
            on_progress=on_progress, on_note=terminal.show_note,
        )  # fmt: skip
    results.show(metrics, results.show_metrics, as_json=json_)


@app.command(cls=Command)
def probe(
    labelled: Annotated[
        str,
        typer.Argument(
            help="A CSV, JSONL or Parquet file of texts and labels, or a folder of its parts; or sample: its reviews, "
            "labelled by verdict."
        ),
    ],
    test: Annotated[
        Path | None, typer.Option(help="A file or folder to test on.", show_default="probe.test_share of LABELLED")
    ] = None,
    model: ModelOption = str(artifacts.MODEL_DIR),
    out: Annotated[Path, typer.Option(help="JSON file for the figures.")] = artifacts.PROBE_FILE,
    mode: Annotated[ProbeMode | None, typer.Option(help="Instead of probe.mode in the params.")] = None,
    train_texts: Annotated[int | None, typer.Option(min=1, help="Instead of probe.train_texts in the params.")] = None,
    params: ParamsOption = artifacts.PARAMS_FILE,
    json_: JsonOption = False,
) -> None:
    """Train a classifier of labelled texts on a model, and compare it with a bag of words."""
    with signals_blocked():
        from bertpipe.commands.probe import run_probe

    loaded = load_params(params)
    section = replace(loaded.probe, mode=mode or loaded.probe.mode, train_texts=train_texts or loaded.probe.train_texts)
    with terminal.progress() as on_progress:
        report = run_probe(
            section, loaded.train, loaded.sample, loaded.runtime,
            labelled=labelled, test=test, model=model, out=out,
            on_progress=on_progress, on_note=terminal.show_note,
        )  # fmt: skip
    results.show(report, results.show_probe, as_json=json_)


@app.command(cls=Command)
def plot(
    history: HistoryOption = artifacts.HISTORY_FILE,
    epoch_history: EpochsOption = artifacts.EPOCHS_FILE,
    timing: TimingOption = artifacts.TIMING_FILE,
    metrics: Annotated[Path, typer.Option(help="JSON file of metrics.")] = artifacts.METRICS_FILE,
    out: Annotated[Path, typer.Option(help="Where PNG and SVG files are written.")] = artifacts.PLOTS_DIR,
    json_: JsonOption = False,
) -> None:
    """Draw losses, accuracies, learning rate and throughput as PNG and SVG."""
    with signals_blocked():
        from bertpipe.stages.plot import run_plot

    with terminal.progress() as on_progress:
        result = run_plot(
            history=history, epochs=epoch_history, timing=timing, metrics=metrics, out=out, on_progress=on_progress
        )
    results.show(result, results.show_facts, "Plotted", as_json=json_)


@app.command(cls=Command)
def export(
    model: Annotated[Path, typer.Option(callback=utf8_path, help="A bertpipe model directory.")] = artifacts.MODEL_DIR,
    metrics: Annotated[Path, typer.Option(help="JSON file of its metrics.")] = artifacts.METRICS_FILE,
    data: DataOption = None,
    out: Annotated[
        Path, typer.Option(callback=utf8_path, help="Where the Hugging Face directory is written.")
    ] = artifacts.EXPORT_DIR,
    or_card: Annotated[
        bool, typer.Option("--or-card", help="For a network that transformers does not have, write the card alone.")
    ] = False,
    space: Annotated[
        bool, typer.Option("--space", help="Also write the page of a Hugging Face Space, which runs without bertpipe.")
    ] = False,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Also upload it to the Hugging Face hub, as this model.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Make the pushed model public; the default is private.")
    ] = False,
    params: ParamsOption = artifacts.PARAMS_FILE,
    json_: JsonOption = False,
) -> None:
    """Write the model as a Hugging Face directory, with its model card."""
    with signals_blocked():
        from bertpipe.stages.export import run_export

    if public and push is None:
        raise typer.BadParameter("--public applies to --push: give --push OWNER/NAME too")
    loaded = load_params(params)
    with terminal.progress() as on_progress:
        result = run_export(
            loaded.export, loaded.infer, model=model, metrics=metrics, data=data or Path(loaded.data.dir), out=out,
            or_card=or_card, space=space, on_progress=on_progress, on_note=terminal.show_note,
        )  # fmt: skip
        if push is not None:
            with signals_blocked():
                from bertpipe.export.hub import push_directory

            files = [*result["files"], MANIFEST_NAME]  # with it, `export` can write into a clone of the repository
            result |= push_directory(
                out, files, push, public=public, on_progress=on_progress, on_note=terminal.show_note
            )
    results.show(result, results.show_facts, "Exported", as_json=json_)


app.command(cls=Command)(report)
app.command(cls=Command)(demo)


@app.command(cls=Command)
def state(
    clear: Annotated[
        list[str] | None, typer.Option(help="Remove the state of this name, or `all`; can be given several times.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """List the saved state of interrupted commands, or clear it."""
    with signals_blocked():
        from bertpipe.commands.state import run_state

    results.show(run_state(artifacts.WORK_DIR, clear=clear or ()), results.show_state, as_json=json_)


@app.command(cls=Command)
def inspect(
    text: Annotated[str, typer.Argument(callback=text_argument, help="A sentence.")],
    second: Annotated[str | None, typer.Argument(callback=text_argument, help="A second sentence.")] = None,
    model: ModelOption = str(artifacts.MODEL_DIR),
    json_: JsonOption = False,
) -> None:
    """Show one input's way through the network, step by step, with shapes and first values."""
    with signals_blocked():
        from bertpipe.commands.inspect import run_inspect

    results.show(run_inspect(text, second, model=model), results.show_inspection, as_json=json_)


def main() -> None:
    """Run the command line; after an error that the user can fix it exits with 1, after a signal with 128 plus it."""
    settle_process()
    logging.getLogger("bertpipe").addHandler(terminal.NoteHandler())
    for number in INTERRUPTIONS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as by `nohup`, or a shell's `&`
            signal.signal(number, _interrupt)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)  # of `bertpipe.__main__`
        app(prog_name="bertpipe")
    except Interrupted as interruption:
        if environment.rank() == 0:
            with _no_more_signals():
                terminal.show_note(f"{interruption}; earlier outputs are unchanged")
        sys.exit(interruption.exit_code)
    except BertpipeError as error:
        if error.shown:
            show = terminal.show_note if isinstance(error, StoppedError) else terminal.show_error
            with _no_more_signals():
                show(f"rank {environment.rank()}: {error}" if environment.rank() else str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        if not isinstance(error.filename, str | bytes):
            raise
        # A name that is too long, a link that points to itself, a folder that may not be searched: it cannot even be
        # asked whether there is something.
        path = shown(os.fsdecode(error.filename))
        short = path if len(path) <= _SHOWN_PATH else f"...{path[-_SHOWN_PATH:]}"
        with _no_more_signals():
            terminal.show_error(f"{short} cannot be used ({error.strerror}): name another path, or correct this one")
        sys.exit(1)


@contextmanager
def _no_more_signals() -> Iterator[None]:
    """Drop signals: the work has ended, and what the block says of that is said whole."""
    followed = [number for number in INTERRUPTIONS if signal.getsignal(number) is _interrupt]
    for number in followed:
        signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        for number in followed:
            signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)
