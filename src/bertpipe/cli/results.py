"""Results on standard output, as tables or JSON."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertpipe.cli.terminal import console_of, show_note, show_text
from bertpipe.core.artifacts import json_text, read_json
from bertpipe.core.errors import with_urls

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from bertpipe.inference.answers import EmbeddingAnswer, MlmAnswer, NspAnswer, ScoreAnswer
    from bertpipe.inference.inspection import Inspection, Step

_SHOWN_NUMBERS = 8
_WIDTH_ELSEWHERE = 100
"""Width where standard output is a file or a pipe."""


def show(result: Any, as_table: Callable[..., None], *more: object, as_json: bool) -> None:  # noqa: ANN401
    """Print what a stage returned, as JSON or by a function of this module, which also gets `more`."""
    if as_json:
        content = result if isinstance(result, Mapping) else result.to_dict()
        sys.stdout.write(json_text(content, encoding=sys.stdout.encoding))
    else:
        as_table(result, *more)


def show_facts(facts: Mapping[str, Any], title: str) -> None:
    """Print the facts that a stage returned, one per line."""
    table = _table(title, ("", ""))
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), _cell(value))
    _results().print(table)


def show_project(result: Mapping[str, Any]) -> None:
    """Print where a new project is, and the commands to type next."""
    show_text(f"A new project is in {result['folder']}; its README.md says more. Next:\n")
    for command in result["next"]:
        show_text(f"  {command}")


def show_conversion(summary: Mapping[str, Any], out: Path) -> None:
    """Print the counts of a conversion, one column per split."""
    _results().print(_split_table(with_urls(f"Converted to {out}"), summary))
    _show_vocabulary(summary)
    if "recovery" in summary:
        _show_recovery(summary["recovery"])


def show_preparation(summary: Mapping[str, Any], out: Path) -> None:
    """Print what was found in a text and what was made of it, one column per split."""
    show_facts(summary["found"], "Found")
    _results().print(_split_table(with_urls(f"Prepared in {out}"), summary))
    _show_vocabulary(summary)


def _split_table(title: str, summary: Mapping[str, Any]) -> Any:  # noqa: ANN401 - see _table
    splits = summary["splits"]
    table = _table(title, ("", *splits))
    for name in next(iter(splits.values())):
        table.add_row(name.replace("_", " "), *(_cell(counts[name]) for counts in splits.values()))
    return table


def _show_vocabulary(summary: Mapping[str, Any]) -> None:
    vocabulary = summary["vocabulary"]
    facts = {
        "documents": summary["documents"],
        "vocabulary": vocabulary["size"],
        "words known": vocabulary["known"],
        "true tokens known under masks": "yes" if summary["masked_tokens_known"] else "no",
    }
    show_facts(facts, "Of both splits")


def _show_recovery(recovery: Mapping[str, Any]) -> None:
    _results().print(_split_table("Recovered from the texts", recovery))
    check, words = recovery["rank_check"], recovery["words"]
    show_text(
        f"{words['read']:,} words read, {words['by_rank']:,} found by rank, {words['unknown']:,} unknown; of "
        f"{check['hidden']:,} words hidden to test the ranks, {check['found']:,} were found, {check['right']:,} rightly"
    )


def show_metrics(metrics: Mapping[str, Any]) -> None:
    """Print the evaluation: one table per task, one row per predictor."""
    for task, title in (
        ("mlm", f"Masked-language modelling, {metrics['mlm']['tokens']:,} tokens"),
        ("nsp", f"Next-sentence prediction, {metrics['nsp']['rows']:,} pairs"),
    ):
        frame = comparison(metrics, task)
        table = _table(title, (str(frame.index.name), *map(str, frame.columns)))
        for name, row in frame.iterrows():
            table.add_row(str(name), *("" if math.isnan(value) else _cell(float(value)) for value in row))
        _results().print(table)
    if metrics["nsp"]["model"] is None:
        return
    confusion = metrics["nsp"]["model"]["confusion"]
    table = _table("NSP confusion, pairs", ("", "called next", "called not next"))
    table.add_row("is next", _cell(confusion["next_called_next"]), _cell(confusion["next_called_not"]))
    table.add_row("is not next", _cell(confusion["not_called_next"]), _cell(confusion["not_called_not"]))
    _results().print(table)


def show_nsp(answer: "NspAnswer") -> None:
    """Print the verdict and both probabilities."""
    verdict = "B follows A" if answer.is_next else "B does not follow A"
    show_text(f"{verdict}   next {answer.probability_next:.4f}   not next {answer.probability_not_next:.4f}")
    _warn(answer.warnings)


def show_mlm(answer: "MlmAnswer") -> None:
    """Print the candidates for each mask and the filled text."""
    for mask in answer.masks:
        table = _table(f"[MASK] at token {mask.position}", ("token", "probability"))
        for candidate in mask.candidates:
            table.add_row(candidate.token, f"{candidate.probability:.4f}")
        _results().print(table)
    show_text(answer.filled_text)
    _warn(answer.warnings)


def show_score(answer: "ScoreAnswer") -> None:
    """Print each token's log-probability, and their sum."""
    table = _table("Each token masked in turn", ("token", "log-probability"))
    for token, value in zip(answer.tokens, answer.log_probabilities, strict=True):
        table.add_row(token, f"{value:.4f}")
    _results().print(table)
    total, perplexity = answer.pseudo_log_likelihood, answer.pseudo_perplexity
    show_text(f"pseudo-log-likelihood {total:.4f} nats   pseudo-perplexity {perplexity:,.2f}")
    _warn(answer.warnings)


def show_embedding(answer: "EmbeddingAnswer") -> None:
    """Print the vector's size and first numbers."""
    shown = "  ".join(f"{value:.4f}" for value in answer.vector[:_SHOWN_NUMBERS].tolist())
    show_text(f"{len(answer.vector)} numbers: {shown}  …")
    _warn(answer.warnings)


def show_examples(result: Mapping[str, Any]) -> None:
    """Print each example's question and answer, and whether it is as expected."""
    rows = read_json(Path(result["file"]))
    table = _table("Examples", ("question", "model", "answer", "as expected"))
    marks = {True: "yes", False: "no", None: ""}
    for row in rows:
        question = " / ".join(row["inputs"].values())
        answer = f"none: {row['reason']}" if row["answer"] is None else _short_answer(row)
        table.add_row(question, row["model"], answer, marks[row["as_expected"]])
    _results().print(table)
    answered = f"{result['answered']} of {result['asked']} answered"
    show_text(
        f"{answered}; {result['as_expected']} of the {result['expected']} with an expected answer have it: "
        "the verdict, or the word among the candidates"
    )


def show_state(result: Mapping[str, Any]) -> None:
    """Print what interrupted commands have left."""
    for name in result["cleared"]:
        show_text(f"{name} is cleared")
    if not result["kept"]:
        show_text("nothing is kept")
        return
    table = _table("Kept to resume from", ("name", "what", "done", "MB", "changed", ""))
    for kept in result["kept"]:
        mark = "in use" if kept["held"] else ""
        table.add_row(kept["name"], kept["what"], kept["done"], f"{kept['bytes'] / 1e6:,.1f}", kept["changed"], mark)
    _results().print(table)


def show_inspection(inspection: "Inspection") -> None:
    """Print one input's way through the network, one table per step."""
    console = _results()
    table = _table(f"Input to {inspection.model} ({inspection.architecture})", ("position", "token", "id", "segment"))
    for token in inspection.tokens:
        table.add_row(str(token.position), token.token, str(token.token_id), token.segment)
    console.print(table)
    for step in inspection.steps:
        _show_step(step)
    table = _table("Where the last layer attends most", ("head", "token", "attends to", "weight"))
    for entry in inspection.attention:
        table.add_row(
            str(entry.head),
            f"{entry.position} {entry.token}",
            f"{entry.most_attended_position} {entry.most_attended_token}",
            f"{entry.weight:.3f}",
        )
    console.print(table)
    _warn(inspection.notes)


def show_probe(report: Mapping[str, Any]) -> None:
    """Print the figures of a classifier on a model, one row per predictor."""
    data, settings = report["data"], report["settings"]
    splits = f"{data['train']['texts']:,} texts to train on, {data['test']['texts']:,} to test on"
    show_text(f"Probe of {report['model']}, {settings['mode']}, {splits}")
    table = _table("", ("predictor", "accuracy", "macro F1"))
    for name, figures in report["predictors"].items():
        cells = ("", "") if figures is None else (_cell(figures["accuracy"]), _cell(figures["macro_f1"]))
        table.add_row(name.replace("_", " "), *cells)
    _results().print(table)


def show_minimal_pairs(report: Mapping[str, Any]) -> None:
    """Print the figures of minimal pairs: one row per group, and one row per predictor over all of them."""
    predictors, groups = report["predictors"], report["groups"]
    show_text(f"Minimal pairs of {report['model']}: {report['pairs']:,} pairs, groups: {len(groups):,}")
    table = _table("", ("group", "pairs", *map(_spaced, predictors)))
    for group, figures in groups.items():
        table.add_row(group, *map(_cell, figures.values()))
    _results().print(table)
    table = _table("", ("predictor", "accuracy", "mean over groups", "ties (half)"))
    for name, figures in predictors.items():
        table.add_row(_spaced(name), *(("", "", "") if figures is None else map(_cell, figures.values())))
    _results().print(table)


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _show_step(step: "Step") -> None:
    shape = ", ".join(f"{axis} {size}" for axis, size in zip(step.axes, step.shape, strict=True))
    console = _results()
    console.print(f"{step.name}  [{shape}]", style="bold")
    console.print(f"  {step.meaning}")
    for row in step.rows:
        values = "  ".join(_number(value) for value in row.values)
        console.print(f"  {row.label:<14} {values}", soft_wrap=True)
    show_text("")


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:8.4f}"


def comparison(metrics: Mapping[str, Any], task: str) -> "pd.DataFrame":
    """Return the table of a task (`mlm`, `nsp`): one row per predictor, one column per figure; NaN for none."""
    import pandas as pd

    rows = {
        name.replace("_", " "): {k: v for k, v in figures.items() if not isinstance(v, Mapping)}
        for name, figures in metrics[task].items()
        if isinstance(figures, Mapping)
    }
    table = pd.DataFrame.from_dict(rows, orient="index", dtype="float64")
    return table.rename_axis(index="predictor").rename(columns=lambda name: name.replace("_", " "))


def _short_answer(row: Mapping[str, Any]) -> str:
    answer = row["answer"]
    if row["task"] == "nsp":
        return f"{'next' if answer['is_next'] else 'not next'} ({answer['probability_next']:.3f})"
    return answer["filled_text"]  # type: ignore[no-any-return]


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        show_note(warning)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4f}"  # noqa: PLR2004
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return "\n".join(map(str, value))
    return str(value)


def _table(title: str, columns: Sequence[str]) -> Any:  # noqa: ANN401 - rich is imported when it is needed
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_header=any(columns))
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index and name not in _TEXT_COLUMNS else "left", overflow="fold")
    return table


_TEXT_COLUMNS = frozenset({"", "model", "answer", "as expected", "token", "attends to", "segment", "what", "changed"})


def _results() -> "Console":
    return console_of(sys.stdout, width=None if sys.stdout.isatty() else _WIDTH_ELSEWHERE)
