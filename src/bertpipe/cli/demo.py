"""The command `demo`."""

from typing import Annotated

import typer

from bertpipe.cli import terminal
from bertpipe.cli.command import utf8_path
from bertpipe.cli.options import signals_blocked
from bertpipe.core import artifacts


def demo(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            callback=lambda values: [utf8_path(value) for value in values or ()],
            help="A model directory, a Hugging Face directory, or a hub name; can be given several times.",
            show_default=str(artifacts.MODEL_DIR),
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; the default is for this machine alone.")] = (
        "127.0.0.1"
    ),
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="The port to listen on.", show_default="the first free one from 7860"),
    ] = None,
) -> None:
    """Serve a page on which to ask models and to compare two, until Ctrl-C (needs the extra bertpipe[demo])."""
    with signals_blocked():
        from bertpipe.commands.demo import run_demo

    run_demo(models or [str(artifacts.MODEL_DIR)], host=host, port=port, on_note=terminal.show_note)
