"""The commands of `infer`: one question, or many from a file or a pipe."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bertpipe.cli import results, terminal
from bertpipe.cli.command import Command, text_argument
from bertpipe.cli.options import AnswersOption, InputOption, JsonOption, ModelOption, ParamsOption, signals_blocked
from bertpipe.core import artifacts
from bertpipe.core.errors import InputError
from bertpipe.core.params_file import load_params
from bertpipe.core.progress import ignore_progress

if TYPE_CHECKING:
    from bertpipe.commands.infer_lines import Task
    from bertpipe.inference.predictor import Predictor

infer_app = typer.Typer(
    help="Ask a model about one input or many: NSP, filling \\[MASK], scores, vectors.", no_args_is_help=True
)


@infer_app.command("nsp", cls=Command)
def infer_nsp(
    first: Annotated[
        str | None, typer.Argument(callback=text_argument, help="Sentence A.", show_default="from --input")
    ] = None,
    second: Annotated[
        str | None, typer.Argument(callback=text_argument, help="Sentence B.", show_default="from --input")
    ] = None,
    model: ModelOption = str(artifacts.MODEL_DIR),
    input_: InputOption = None,
    out: AnswersOption = None,
    json_: JsonOption = False,
) -> None:
    """Say whether sentence B follows sentence A. Input lines: {"first": …, "second": …}, or both with a tab between."""
    if first is None or second is None or input_ is not None or out is not None:
        _infer_lines("nsp", (first, second), model=model, source=input_, out=out, as_json=json_)
        return
    results.show(_predictor(model).next_sentence(first, second), results.show_nsp, as_json=json_)


@infer_app.command("mlm", cls=Command)
def infer_mlm(
    text: Annotated[
        str | None,
        typer.Argument(callback=text_argument, help="A text with \\[MASK] in it.", show_default="from --input"),
    ] = None,
    model: ModelOption = str(artifacts.MODEL_DIR),
    top_k: Annotated[int, typer.Option(min=1, help="Candidates for each \\[MASK].")] = 5,
    input_: InputOption = None,
    out: AnswersOption = None,
    json_: JsonOption = False,
) -> None:
    """Fill the masked words of a text. Input lines: {"text": …}, or the text."""
    if text is None or input_ is not None or out is not None:
        _infer_lines("mlm", (text,), model=model, source=input_, out=out, as_json=json_, top_k=top_k)
        return
    results.show(_predictor(model).fill_masks(text, top_k), results.show_mlm, as_json=json_)


@infer_app.command("score", cls=Command)
def infer_score(
    text: Annotated[
        str | None, typer.Argument(callback=text_argument, help="A text.", show_default="from --input")
    ] = None,
    model: ModelOption = str(artifacts.MODEL_DIR),
    input_: InputOption = None,
    out: AnswersOption = None,
    json_: JsonOption = False,
) -> None:
    """Say how probable a text is, each token masked in turn. Input lines: {"text": …}, or the text."""
    if text is None or input_ is not None or out is not None:
        _infer_lines("score", (text,), model=model, source=input_, out=out, as_json=json_)
        return
    results.show(_predictor(model).score(text), results.show_score, as_json=json_)


@infer_app.command("embed", cls=Command)
def infer_embed(
    text: Annotated[
        str | None, typer.Argument(callback=text_argument, help="A text.", show_default="from --input")
    ] = None,
    model: ModelOption = str(artifacts.MODEL_DIR),
    input_: InputOption = None,
    out: Annotated[
        Path | None, typer.Option(help="A .parquet, .npy or .jsonl file.", show_default="standard output, JSON lines")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Turn a text into a vector, the mean of its last hidden states. Input lines: {"text": …}, or the text."""
    if text is None or input_ is not None or out is not None:
        _infer_lines("embed", (text,), model=model, source=input_, out=out, as_json=json_)
        return
    results.show(_predictor(model).embed(text), results.show_embedding, as_json=json_)


def _predictor(model: str) -> "Predictor":
    with signals_blocked():
        from bertpipe.inference.predictor import load_predictor

    return load_predictor(model)


def _infer_lines(
    task: "Task",
    given: tuple[str | None, ...],
    *,
    model: str,
    source: str | None,
    out: Path | None,
    as_json: bool,
    top_k: int = 5,
) -> None:
    """Answer the lines of a file or of standard input, or write the answer to one input into a file."""
    values = tuple(value for value in given if value is not None)
    if values and (source is not None or len(values) < len(given)):
        raise typer.BadParameter("give the whole input as arguments, or --input with one input per line")
    if not values and source is None and sys.stdin.isatty():
        raise typer.BadParameter("give the input as arguments, or --input FILE, or a pipe")
    with signals_blocked():
        from bertpipe.commands.infer_lines import run_infer_lines

    with terminal.progress() as on_progress:
        result = run_infer_lines(
            task, model=model, source=values or source or "-", out=out, top_k=top_k,
            on_progress=ignore_progress if out is None else on_progress,
        )  # fmt: skip
    if out is not None:
        results.show(result, results.show_facts, "Answered", as_json=as_json)
    if result["failed"]:
        counts = f"{result['failed']:,} of {result['lines']:,} inputs have no answer"
        raise InputError(f"{counts}; the first is {result['first_error']}")


@infer_app.command("examples", cls=Command)
def infer_examples(
    model: ModelOption = str(artifacts.MODEL_DIR),
    out: Annotated[Path, typer.Option(help="JSON file for the answers.")] = artifacts.EXAMPLES_FILE,
    params: ParamsOption = artifacts.PARAMS_FILE,
    json_: JsonOption = False,
) -> None:
    """Ask the questions listed in the params and write the answers."""
    with signals_blocked():
        from bertpipe.stages.infer import run_infer_examples

    loaded = load_params(params)
    with terminal.progress() as on_progress:
        result = run_infer_examples(
            loaded.infer, model=model, out=out, device=loaded.runtime.device, on_progress=on_progress
        )
    results.show(result, results.show_examples, as_json=json_)
