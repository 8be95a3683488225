"""Options that several commands share, and how commands import what they need."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from bertpipe.cli.command import utf8_path
from bertpipe.core.errors import INTERRUPTIONS

ParamsOption = Annotated[Path, typer.Option("--params", help="The params file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
ZipOption = Annotated[Path, typer.Option("--zip", help="The zip of CSV files, or a directory of such zips.")]
EngineOption = Annotated[
    Literal["processes", "ray"],
    typer.Option("--engine", help="What processes shards: processes of this machine, or Ray."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address", help="Of Ray: local, auto or HOST:PORT.", show_default="local: start one on this machine"
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        callback=utf8_path,
        help="The directory of Parquet files, or its URL.",
        show_default="data.dir in the params",
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        callback=utf8_path,
        help="A model directory or its URL, a Hugging Face directory, or a hub name (bert-base-uncased).",
    ),
]
InputOption = Annotated[
    str | None,
    typer.Option(
        "--input",
        help="A file, or folder of files, with one input per line: .jsonl, or plain text; - is standard input.",
        show_default=False,
    ),
]
AnswersOption = Annotated[
    Path | None, typer.Option("--out", help="A .jsonl file for the answers.", show_default="standard output")
]
HistoryOption = Annotated[Path, typer.Option("--history", help="CSV file of losses, one row per interval of steps.")]
EpochsOption = Annotated[Path, typer.Option("--epoch-history", help="CSV file of evaluations, one row per epoch.")]
TimingOption = Annotated[Path, typer.Option("--timing", help="CSV file of throughput, one row per interval of steps.")]

EpochAnswersOption = Annotated[
    Path, typer.Option("--epoch-answers", help="JSON file of the same questions, answered after each epoch.")
]


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Hold signals back until the block ends: an exception raised within PyTorch's import would be lost there."""
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTIONS)
