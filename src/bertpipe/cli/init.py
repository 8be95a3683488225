"""The command `init`."""

from pathlib import Path
from typing import Annotated

import typer

from bertpipe.cli import results
from bertpipe.cli.command import utf8_path
from bertpipe.cli.options import JsonOption, signals_blocked


def init(
    folder: Annotated[
        str, typer.Argument(callback=utf8_path, help="The project's folder: new, or without files in the way; or `.`.")
    ],
    text: Annotated[
        Path | None,
        typer.Option(
            callback=utf8_path, help="Train on this text: a file, a folder or an archive.", show_default=False
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Params in place of the defaults: 1min, 3min, 10min, imdb, imdb_text or tiny."
        ),
    ] = None,
    notebook: Annotated[
        bool, typer.Option("--notebook", help="The course notebook's params and zip: the recipe notebook.")
    ] = False,
    git: Annotated[
        bool, typer.Option("--git", help="Also make it a git repository, unless it is in one, and set up DVC.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Write a new project, in which `dvc repro` runs; no file is replaced."""
    with signals_blocked():
        from bertpipe.commands.init import run_init

    if not folder:  # a shell's variable that is not set
        raise typer.BadParameter("the name of the folder is empty: . is the current one")
    if notebook and recipe is not None:
        raise typer.BadParameter("--notebook is the recipe notebook: give one of --notebook and --recipe")
    result = run_init(Path(folder), text=text, recipe="notebook" if notebook else recipe, git=git)
    results.show(result, results.show_project, as_json=json_)
