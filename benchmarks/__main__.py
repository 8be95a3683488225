"""The command line of the benchmarks: run them, print their tables, and write them into the pages that show them."""

import datetime
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.checkpoints import checkpoint_cost
from benchmarks.conversion import conversion, recovery
from benchmarks.engine import against_hugging_face, against_notebook, loader_share
from benchmarks.inference import against_pipelines
from benchmarks.measure import machine, set_up
from benchmarks.memory import peak_memory
from benchmarks.prepare import text_to_pairs
from benchmarks.processes import in_several_processes
from benchmarks.quality import SEEDS, against_plain_loops, recipe
from benchmarks.reading import reading_rate
from benchmarks.rows import convert_rows, described
from benchmarks.shards import many_shards, shared_reading
from benchmarks.startup import help_time
from benchmarks.streaming import larger_than_memory
from benchmarks.time_to_loss import after_five_minutes, time_to_loss
from benchmarks.vocabulary_loss import against_plain_formula

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
WORK = HERE.parent / ".bertpipe" / "benchmarks"

Benchmark = Callable[[Path], list[dict[str, Any]]]
BENCHMARKS: dict[str, Benchmark] = {
    "conversion": conversion,
    "recovery": recovery,
    "help": help_time,
    "vocabulary_loss": lambda _: against_plain_formula(),
    "loader": loader_share,
    "notebook": against_notebook,
    "hugging_face": against_hugging_face,
    "memory": peak_memory,
    "prepare": text_to_pairs,
    "streaming": larger_than_memory,
    "checkpoints": checkpoint_cost,
    "inference": against_pipelines,
    "processes": in_several_processes,
    "reading": reading_rate,
    "shards": many_shards,
    "shared_reading": shared_reading,
    "time_to_loss": time_to_loss,
    "five_minutes": after_five_minutes,
    **{f"quality_{name}": partial(recipe, name=name) for name in SEEDS},
    "quality_peers": against_plain_loops,
}
QUALITY = [name for name in BENCHMARKS if name.startswith("quality_")]

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@app.command()
def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(help=f"Which: {', '.join(BENCHMARKS)}, or quality for all of its own; all by default."),
    ] = None,
    results: Annotated[Path, typer.Option(help="JSON file; benchmarks that do not run keep what it has.")] = RESULTS,
) -> None:
    """Run benchmarks, print each one's table, and write JSON."""
    chosen = [each for name in names or BENCHMARKS for each in (QUALITY if name == "quality" else [name])]
    unknown = set(chosen) - set(BENCHMARKS)
    if unknown:
        raise typer.BadParameter(f"no benchmark called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    set_up()
    convert_rows(WORK)
    recorded = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else {}
    recorded["rows"] = described(WORK)
    for name in chosen:
        table = BENCHMARKS[name](WORK)
        recorded[name] = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), **machine(), "rows": table}
        results.write_text(json.dumps(recorded, indent=2) + "\n", encoding="utf-8")
        _show(name, table)


@app.command()
def readme(
    results: Annotated[Path, typer.Option(help="What `run` wrote.")] = RESULTS,
) -> None:
    """Write the measured tables of the README, benchmarks.md and scaling.md from the results."""
    recorded = json.loads(results.read_text(encoding="utf-8"))
    for file, tables in report.PAGES.items():
        page = HERE.parent / file
        page.write_text(report.inserted(page.read_text(encoding="utf-8"), tables(recorded)), encoding="utf-8")


def _show(name: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=name.replace("_", " "), title_justify="left", box=None)
    for column in rows[0]:
        table.add_column(column.replace("_", " "))
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    Console().print(table)


def _cell(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    app()
