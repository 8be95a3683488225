"""Notes, errors and progress on standard error; lines of text on standard output."""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from bertpipe.core.errors import shortened, with_urls
from bertpipe.core.progress import Progress, ignore_progress
from bertpipe.training.distributed import environment

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a name in a message could do to a terminal."""


def show_text(text: str) -> None:
    """Print one line."""
    sys.stdout.write(text + "\n")


def console_of(stream: TextIO, *, width: int | None = None) -> "Console":
    """Return a console with colours and bars on a terminal alone, whatever FORCE_COLOR says: logs stay plain.

    It takes nothing in a name or a text for markup (`[red]`) or for an emoji's code (`:dog:`).
    """
    from rich.console import Console

    force = None if stream.isatty() else False
    return Console(file=stream, width=width, force_terminal=force, markup=False, emoji=False, highlight=False)


def show_error(message: str) -> None:
    """Print an error that the user can fix; where its characters are escaped, it gets no longer by that."""
    _say(f"error: {shortened(_visible(message))}", style="red")


def show_note(message: str) -> None:
    """Print a note for the user."""
    _say(f"note: {message}", style="yellow")


class NoteHandler(logging.Handler):
    """Prints what is logged as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one note."""
        show_note(record.getMessage())


def warn_of_overrides(overrides: Mapping[str, object], params: Path) -> None:
    """Say that a model differs from the params file, that `dvc repro` would replace it, and how to keep it."""
    if not overrides:
        return
    said = " and ".join(f"{name} was {value}" for name, value in overrides.items())
    options = " ".join(f"-S {name}={value}" for name, value in overrides.items())
    _say(
        f"note: {said}, not what {params} says. `dvc repro` would train the model of {params} again; "
        f"to keep this one as an experiment: dvc exp run {options}"
    )


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """Yield a function that draws a bar on a terminal and plain lines elsewhere; only rank 0 draws."""
    if environment.rank():
        yield ignore_progress
        return
    console = console_of(sys.stderr)
    if not (console.is_terminal and console.is_interactive):
        yield _plain_lines()
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[amount]}", markup=False),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, amount="", detail="")

        def draw(report: Progress) -> None:
            bars.update(
                task, description=report.label, completed=report.completed, total=report.total,
                amount=_amount(report), detail=report.detail,
            )  # fmt: skip

        yield draw


@contextmanager
def without_failing() -> Iterator[None]:
    """Let a finished command succeed even if its summary cannot be printed.

    After a failure torchrun would train again, and DVC would delete the model.
    """
    try:
        yield
        sys.stdout.flush()
    except (OSError, SystemExit) as error:  # rich exits at a broken pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the rest is written at exit
        reason = "the pipe was closed" if isinstance(error, SystemExit) else str(getattr(error, "strerror", error))
        show_note(f"the work is done, but its summary could not be printed ({reason.splitlines()[0]})")


def _plain_lines() -> Callable[[Progress], None]:
    last_label = ""

    def draw(report: Progress) -> None:
        nonlocal last_label
        is_new, last_label = report.label != last_label, report.label
        if is_new or report.detail:
            parts = (report.label, _amount(report) if report.detail else "", report.detail)
            _say("  ".join(filter(None, parts)))

    return draw


def _say(line: str, *, style: str | None = None) -> None:
    """Print a line on standard error; where that is closed, the command continues."""
    with suppress(OSError, SystemExit):  # rich exits at a broken pipe
        console_of(sys.stderr).print(_visible(line), style=style, soft_wrap=True)


def _visible(text: str) -> str:
    """Return a text as standard error shows it: with what controls a terminal, or its encoding lacks, escaped."""
    escaped = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), with_urls(text))
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    return escaped.encode(encoding, "backslashreplace").decode(encoding)


def _amount(report: Progress) -> str:
    if report.unit == "bytes":
        million = f"{report.completed / 1e6:,.1f}"
        return f"{million} MB" if report.total is None else f"{million} / {report.total / 1e6:,.1f} MB"
    if report.total is None:
        return ""
    return f"{report.completed:,.0f}/{report.total:,.0f} {report.unit}"
