"""`make clients`: whether each client gives bertpipe's token ids, token types, logits and vectors."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from clients.environments import CLIENTS, ClientError, answers_of
from clients.models import ExportedModel, expected_of, job_for, make_models

WORK = Path(__file__).parent.parent / ".bertpipe" / "clients"
TOLERANCE = 2e-5
"""Largest difference of a number in float32."""
_WIDTH = 120

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Which: {', '.join(CLIENTS)}; all by default.")] = None,
) -> None:
    """Compare clients of the export with bertpipe; exit with 1 if one differs."""
    console = Console(stderr=True)
    chosen = _chosen(names or [*CLIENTS])
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "models").mkdir(parents=True)
    models = make_models(WORK / "models")
    expected = {model.name: expected_of(model) for model in models}
    table = Table("client", "model", "what", "largest difference", "", title="Clients of the export")
    failed = 0
    for name in chosen:
        out = WORK / name
        out.mkdir()
        lacks = CLIENTS[name].lacks
        read = [model for model in models if model.counterpart.model_type not in lacks]
        try:
            answers = answers_of(name, _job(name, read), out, console.log)
        except ClientError as error:
            console.print(str(error), markup=False)
            table.add_row(name, "", "it does not answer", "", "NOT OK")
            failed += 1
            continue
        console.log(answers.pop("versions"))
        for row in rows(name, answers, expected):
            failed += row[-1] != "ok"
            table.add_row(*row)
        for model in models:
            if model not in read:
                table.add_row(name, model.name, lacks[model.counterpart.model_type], "", "skipped")
    Console(width=_WIDTH).print(table)
    if failed:
        raise typer.Exit(1)


def rows(name: str, answers: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the table's rows for what a client answers about each model."""
    for model, found in answers.items():
        for what, answer in found.items():
            shown, is_same = difference(answer, expected[model][what.split(": ", maxsplit=1)[1]])
            yield name, model, what, shown, "ok" if is_same else "NOT OK"


def difference(answer: Sequence[Any], expected: Sequence[Any]) -> tuple[str, bool]:
    """Return the difference of two lists of rows as a table shows it, and whether they count as the same."""
    if len(answer) != len(expected):
        return f"{len(answer)} rows, not {len(expected)}", False
    if _is_whole(expected):
        differing = [row for row, (one, other) in enumerate(zip(answer, expected, strict=True)) if one != other]
        return (f"rows {differing}" if differing else "0"), not differing
    try:
        pairs = [(np.asarray(one), np.asarray(other)) for one, other in zip(answer, expected, strict=True)]
        largest = max(float(np.abs(one - other).max()) for one, other in pairs)
    except ValueError as error:  # other shapes
        return str(error), False
    return f"{largest:.1e}", largest < TOLERANCE


def _is_whole(content: Any) -> bool:  # noqa: ANN401
    return all(map(_is_whole, content)) if isinstance(content, list) else isinstance(content, int)


def _chosen(names: Sequence[str]) -> list[str]:
    """Return the clients to ask, each after the one whose files it reads."""
    unknown = sorted({*names} - {*CLIENTS})
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: take some of {', '.join(CLIENTS)}")
    needed = {CLIENTS[name].needs for name in names}
    return [name for name in CLIENTS if name in {*names} | needed]


def _job(name: str, models: Sequence[ExportedModel]) -> list[dict[str, Any]]:
    """Return what a client is told; one that reads another's files finds them instead of the export."""
    job, needs = job_for(models), CLIENTS[name].needs
    return [each | {"directory": str(WORK / needs / each["name"])} for each in job] if needs else job


if __name__ == "__main__":
    app()
