"""The sections of a page on several runs, side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bertpipe.data.tokenization.tokenizer import Tokenizer
from bertpipe.report.charts import Points
from bertpipe.report.content import Cell, Section, Table, Text, as_cell
from bertpipe.report.curves import curve, points_of
from bertpipe.report.learning import add_answers
from bertpipe.report.run import asked, first_answer

if TYPE_CHECKING:
    import pandas as pd

_MOST_POINTS = 800
"""Points of all lines of one chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is known about a run; what its files do not say is empty or None."""

    name: str
    params: Mapping[str, Any]
    """By section and name, such as `train.seed`."""
    facts: Mapping[str, Any]
    """Versions, hashes and the like, by name."""
    data: Mapping[str, str]
    """SHA-256 of the files of its data, by name."""
    tokenizer_sha256: str
    tokenizer: Tokenizer
    history: "pd.DataFrame | None" = None
    epochs: "pd.DataFrame | None" = None
    timing: "pd.DataFrame | None" = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    examples: Sequence[Mapping[str, Any]] = ()
    answers: Mapping[str, Any] | None = None
    left_out: Sequence[str] = ()
    """What is missing, and why."""


def comparison_sections(runs: Sequence[Run]) -> list[Section]:
    """Return the sections of the page: params that differ, figures, course, answers, versions and hashes."""
    return [_params(runs), _figures(runs), _course(runs), _learning(runs), _examples(runs), _origins(runs)]


def _params(runs: Sequence[Run]) -> Section:
    section = Section(name="params", title="Params that differ")
    section.left_out.extend(f"{run.name}: {why}" for run in runs for why in run.left_out)
    section.blocks.extend(Text(text=warning) for warning in _warnings(runs))
    table = _table("Params that are not the same in all runs", "param", runs, lambda run: run.params)
    section.blocks.append(table or Text(text="All runs have the same params, as far as they are recorded."))
    return section


def _warnings(runs: Sequence[Run]) -> Iterator[str]:
    """Yield what makes figures of the runs hard to compare."""
    if len({run.tokenizer_sha256 for run in runs}) > 1:
        yield (
            "The runs have different vocabularies. A loss or an accuracy per token is then of other tokens in each; "
            "bits per byte can be compared, if the test texts are the same."
        )
    tests = {digest for run in runs for name, digest in run.data.items() if name.startswith("test")}
    if len(tests) > 1:
        yield "The runs have different test splits, so each figure is of other rows."
    elif len({tuple(sorted(run.data.items())) for run in runs}) > 1:
        yield "The runs were trained on different data."
    if any(not run.data for run in runs):
        yield "Not every run records its data, so nobody knows whether all figures are of the same rows."


def _table(
    caption: str, kind: str, runs: Sequence[Run], facts_of: Callable[[Run], Mapping[str, Any]], *, whole: bool = False
) -> Table | None:
    """Return facts of all runs side by side, without those that are equal in all runs unless `whole`; None if empty."""
    facts = [facts_of(run) for run in runs]
    names = dict.fromkeys(name for of_run in facts for name in of_run)
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        cells = [as_cell(of_run[name]) if name in of_run else None for of_run in facts]
        if whole or any(cell != cells[0] for cell in cells):
            rows.append((name, *cells))
    return Table(caption=caption, columns=(kind, *(run.name for run in runs)), rows=rows) if rows else None


def _figures(runs: Sequence[Run]) -> Section:
    section = Section(name="figures", title="Figures")
    tables = (
        _table("On the test split", "figure", runs, lambda run: dict(_flat(run.metrics, " ")), whole=True),
        _table("The training", "figure", runs, _training, whole=True),
    )
    section.blocks.extend(table for table in tables if table)
    return section


def _flat(content: Mapping[str, Any], joint: str) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}{joint}{below}", each) for below, each in _flat(value, joint))
        else:
            yield name.replace("_", " "), value


def _training(run: Run) -> dict[str, Cell]:
    figures: dict[str, Cell] = {}
    if run.history is not None and len(run.history):
        figures["steps"] = int(run.history["step"].iloc[-1])
    if run.timing is not None and len(run.timing):
        figures["seconds of training"] = float(run.timing["elapsed_s"].iloc[-1])
        figures["tokens per second, median"] = float(run.timing["tokens_per_second"].median())
        share = float(run.timing["share_of_peak"].median())
        figures["share of the machine's peak, median"] = None if np.isnan(share) else share
    return figures


def _course(runs: Sequence[Run]) -> Section:
    section = Section(name="course", title="How the trainings went")
    for task, title, unit in (
        ("mlm", "Loss on masked words (MLM)", "nats per masked token"),
        ("nsp", "Loss on next sentence (NSP); chance is 0.693", "nats per pair"),
    ):
        for kind, tables in (
            ("training", {run.name: (run.history, run.timing) for run in runs}),
            ("held-out rows", {run.name: (run.epochs, run.timing) for run in runs}),
        ):
            for x, name in (("step", "optimizer step"), ("seconds", "seconds of training")):
                lines = {
                    run: _line(table, timing, x, f"{task}_loss", len(runs)) for run, (table, timing) in tables.items()
                }
                _add_curve(section, f"{task}-{kind.split()[0]}-{x}", f"{title}, {kind}", lines, x=name, y=unit)
    for column, title in (
        ("mlm_top1_accuracy", "Masked words: the first guess is right, held-out rows"),
        ("nsp_accuracy", "Next sentence: the verdict is right, held-out rows; chance is 50 %"),
    ):
        for x, name in (("step", "optimizer step"), ("seconds", "seconds of training")):
            lines = {run.name: _line(run.epochs, run.timing, x, column, len(runs)) for run in runs}
            figure = f"{column.replace('_', '-')}-{x}"
            _add_curve(section, figure, title, lines, x=name, y="accuracy", percent=True)
    if section.blocks:
        section.blocks.append(
            Text(
                text="Seconds are of the machine that trained, without evaluation and saving: those of two machines, "
                "or of a busy and an idle one, do not compare the runs."
            )
        )
    return section


def _add_curve(
    section: Section, name: str, title: str, lines: Mapping[str, Points], *, x: str, y: str, percent: bool = False
) -> None:
    """Add a chart of the runs that have points; none if no run has any."""
    known = {run: points for run, points in lines.items() if any(height is not None for _, height in points)}
    if known:
        section.blocks.append(curve(name, title, known, {}, x=x, y=y, percent=percent))


def _line(table: "pd.DataFrame | None", timing: "pd.DataFrame | None", x: str, y: str, runs: int) -> Points:
    if table is None or not len(table):
        return []
    if x == "seconds":
        if timing is None or not len(timing):
            return []
        seconds = np.interp(table["step"], timing["step"], timing["elapsed_s"])
        table = table.assign(seconds=seconds.round(2))
    return points_of(table, x, y, most=max(40, _MOST_POINTS // (2 * runs)))


def _learning(runs: Sequence[Run]) -> Section:
    section = Section(name="learning", title="What they learned over time")
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.answers is not None:
            groups.setdefault(f"{run.tokenizer_sha256} {run.answers['questions']}", []).append(run)
    if len(groups) > 1:
        section.blocks.append(
            Text(text="Not all runs were asked the same questions: their rows or vocabularies differ. Runs that were "
                      "asked the same stand together.")
        )  # fmt: skip
    for group in groups.values():
        if len(groups) > 1:
            section.blocks.append(Text(text=f"Asked of {', '.join(run.name for run in group)}:"))
        add_answers(section, {run.name: run.answers or {} for run in group}, group[0].tokenizer)
    return section


def _examples(runs: Sequence[Run]) -> Section:
    section = Section(name="examples", title="Questions and answers")
    answers = [{asked(row): first_answer(row) for row in run.examples} for run in runs]
    questions = list(dict.fromkeys(question for of_run in answers for question in of_run))
    if questions:
        section.blocks.append(
            Table(
                caption="The answers to the examples of the params",
                columns=("question", *(run.name for run in runs)),
                rows=[(question, *(of_run.get(question) for of_run in answers)) for question in questions],
            )
        )
    return section


def _origins(runs: Sequence[Run]) -> Section:
    section = Section(name="again", title="Versions and hashes that differ")
    table = _table("What is not the same in all runs", "what", runs, lambda run: run.facts)
    section.blocks.append(table or Text(text="All runs have the same versions, data and weights."))
    return section
