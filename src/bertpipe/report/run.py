"""The sections about a run: its data, its course, what it needs to run again, and the showcase's answers."""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bertpipe.report.content import Cell, Rows, Section, Sentence, Table, Text, pairs
from bertpipe.report.curves import curve, points_of

if TYPE_CHECKING:
    import pandas as pd

_MLM_LEVELS = {
    "loss": {"constant": "constant predictor"},
    "top1_accuracy": {"constant": "constant predictor", "two_neighbours": "counts of two neighbours"},
}
_NSP_LEVELS = {"accuracy": {"sentence_b_alone": "sentence B alone", "word_overlap": "word overlap"}}
_CHANCE = 0.5


def data_section(summary: Mapping[str, Any] | None, rows: Sequence[tuple[bool, Sequence[Sentence]]]) -> Section:
    """Return what the model was trained on: counts, and rows as text.

    Args:
        summary: the data set's `summary.json`.
        rows: whether B follows A, and both sentences, of some training rows.
    """
    section = Section(name="data", title="What it was trained on")
    if summary is None:
        return section
    source = summary["source"]
    if source.get("generated"):
        section.blocks.append(Text(text="The text is generated: a program wrote it, to be learned in minutes."))
    facts = {
        **{f"source {name}": value for name, value in source.items() if name != "generated"},
        "documents": summary["documents"],
        "vocabulary": summary["vocabulary"]["size"],
        "longest row, in tokens": summary["max_length"],
    }
    section.blocks.append(Table(caption="The data set", columns=("fact", "value"), rows=pairs(facts)))
    splits = summary["splits"]
    names = list(dict.fromkeys(name for split in splits.values() for name in split))
    section.blocks.append(
        Table(
            caption="Counts of each split",
            columns=("count", *splits),
            rows=[(name.replace("_", " "), *(split.get(name) for split in splits.values())) for name in names],
        )
    )
    if rows:
        remarks = {True: "B follows A (next)", False: "B does not follow A (not next)"}
        section.blocks.append(
            Rows(
                title="Rows of the training split",
                note="As the model may read them. Marked: a word that it has to find, and after the arrow the true "
                "one. A word that is marked and not hidden was replaced, or left as it is.",
                rows=[(remarks[is_next], sentences) for is_next, sentences in rows],
            )
        )
    return section


def curves_section(
    history: "pd.DataFrame | None",
    epochs: "pd.DataFrame | None",
    timing: "pd.DataFrame | None",
    metrics: Mapping[str, Any],
) -> Section:
    """Return losses, accuracies, learning rate and throughput, beside the simple predictors."""
    section = Section(name="course", title="How the training went")
    add = section.blocks.append
    if metrics:
        add(_metrics_table(metrics))
    tables = {"training": history, "held-out rows": epochs}
    for task, column, title, unit, levels in (
        ("mlm", "mlm_loss", "Loss on masked words (MLM)", "nats per masked token", _levels(metrics, "mlm", "loss")),
        ("nsp", "nsp_loss", "Loss on next sentence (NSP)", "nats per pair", {"chance, ln 2": math.log(2)}),
    ):
        lines = {name: points_of(table, "step", column) for name, table in tables.items() if table is not None}
        if any(height is not None for points in lines.values() for _, height in points):
            add(curve(f"{task}-loss", title, lines, levels, x="optimizer step", y=unit))
    if epochs is not None and len(epochs):
        for task, figure, title in (
            ("mlm", "top1_accuracy", "Masked words: the first guess is right"),
            ("nsp", "accuracy", "Next sentence: the verdict is right"),
        ):
            lines = {"model, held-out rows": points_of(epochs, "epoch", f"{task}_{figure}")}
            levels = ({"chance": _CHANCE} if task == "nsp" else {}) | _levels(metrics, task, figure)
            if any(height is not None for _, height in lines["model, held-out rows"]):
                add(curve(f"{task}-accuracy", title, lines, levels, x="epoch", y="accuracy", percent=True))
    if history is not None and len(history):
        lines = {"learning rate": points_of(history, "step", "learning_rate")}
        add(curve("learning-rate", "Learning rate", lines, {}, x="optimizer step", y="learning rate", from_zero=True))
    if timing is not None and len(timing):
        lines = {"tokens per second": points_of(timing, "step", "tokens_per_second")}
        title, unit = "Throughput, without evaluation and saving", "tokens per second"
        levels = {"median": float(timing["tokens_per_second"].median())}
        add(curve("throughput", title, lines, levels, x="optimizer step", y=unit, from_zero=True))
        share = timing["share_of_peak"].median()
        of_peak = "" if math.isnan(share) else (
            f" It is {100 * share:.0f} % of the operations per second that this machine reaches on a large matrix "
            "product (the median of the intervals)."
        )  # fmt: skip
        add(Text(text=f"The throughput is of the machine that trained; all else on this page is not.{of_peak}"))
    return section


def again_section(
    name: str, facts: Mapping[str, Any], sizes: Mapping[str, Cell], digests: Mapping[str, str]
) -> Section:
    """Return params, versions and hashes, and the commands of the run.

    Args:
        name: the model's directory.
        facts: what the model's `config.json` says about its training; empty if it says nothing.
        sizes: the network in numbers.
        digests: SHA-256 of the model's files by name.
    """
    place = shlex.quote(name)
    section = Section(name="again", title="Params, versions, and how to run it again")
    section.blocks.append(Table(caption="The network", columns=("fact", "value"), rows=pairs(sizes)))
    if not facts:
        return section
    params = {
        f"{section_name}.{name}": value
        for section_name, values in facts.get("params", {}).items()
        for name, value in values.items()
    }
    tables = (
        ("Params of the training", "param", params),
        ("Params changed on the command line", "param", facts.get("overrides", {})),
        ("Where its first weights come from", "fact", facts.get("init", {})),
        ("Versions and machine", "what", facts.get("versions", {})),
        ("SHA-256 of the model's files", "file", digests),
        ("SHA-256 of the data", "file", facts.get("data_sha256", {})),
    )
    for caption, kind, values in tables:
        if values:
            is_open = len(values) <= len(digests) + 6
            section.blocks.append(Table(caption=caption, columns=(kind, "value"), rows=pairs(values), is_open=is_open))
    section.blocks.extend(
        (
            Text(
                text="To run it again: set these params in params.yaml, make the data (their hashes tell whether they "
                "are the same), and train. The same versions, number of threads and kind of machine give the same "
                "weights, to the byte."
            ),
            Text(text=f"dvc repro  # or: bertpipe train --out {place}\nsha256sum {place}/*", is_code=True),
        )
    )
    return section


def examples_section(examples: Sequence[Mapping[str, Any]] | None) -> Section:
    """Return the showcase's questions and answers, as `bertpipe infer examples` wrote them."""
    section = Section(name="examples", title="Questions and answers")
    if not examples:
        return section
    pairs = [row for row in examples if row["task"] == "nsp"]
    texts = [row for row in examples if row["task"] == "mlm"]
    if texts:
        section.blocks.append(
            Table(
                caption="Hidden words, with the probability of each candidate",
                columns=("question", "candidates", "expected", "verdict", "model"),
                rows=[
                    (row["inputs"]["text"], _candidates(row), row["expect"], _judged(row), row["model"])
                    for row in texts
                ],
            )
        )
    if pairs:
        section.blocks.append(
            Table(
                caption="Does B follow A?",
                columns=("A", "B", "probability of next", "expected", "verdict", "model"),
                rows=[
                    (
                        row["inputs"]["first"],
                        row["inputs"]["second"],
                        _reason(row) if row["answer"] is None else row["answer"]["probability_next"],
                        {True: "next", False: "not next", None: None}[row["expect"]],
                        _judged(row),
                        row["model"],
                    )
                    for row in pairs
                ],
            )
        )
    return section


def _candidates(row: Mapping[str, Any]) -> str:
    if row["answer"] is None:
        return _reason(row)
    masks = [
        ", ".join(f"{one['token']} {100 * one['probability']:.1f} %" for one in mask["candidates"])
        for mask in row["answer"]["masks"]
    ]
    return "; ".join(masks)


def _reason(row: Mapping[str, Any]) -> str:
    return f"no answer: {row.get('reason', 'no reason is known')}"


def _judged(row: Mapping[str, Any]) -> str | None:
    return {True: "as expected", False: "not as expected", None: None}[row["as_expected"]]


def _metrics_table(metrics: Mapping[str, Any]) -> Table:
    names = ("loss", "perplexity", "bits_per_byte", "top1_accuracy", "top5_accuracy", "accuracy")
    rows: list[list[Cell]] = [
        [task, predictor.replace("_", " "), *((figures or {}).get(name) for name in names)]
        for task in ("mlm", "nsp")
        for predictor, figures in metrics[task].items()
        if isinstance(figures, Mapping)
    ]
    return Table(
        caption="The model and simple predictors on the test split; a figure that a simple predictor reaches proves "
        "nothing",
        columns=("task", "predictor", *(name.replace("_", " ") for name in names)),
        rows=rows,
    )


def _levels(metrics: Mapping[str, Any], task: str, figure: str) -> dict[str, float]:
    """Return the known figures of the simple predictors, by the name in a legend."""
    known = metrics.get(task, {})
    named = (_MLM_LEVELS if task == "mlm" else _NSP_LEVELS)[figure]
    found = ((name, (known.get(key) or {}).get(figure)) for key, name in named.items())
    return {name: value for name, value in found if value is not None}


def asked(row: Mapping[str, Any]) -> str:
    """Return the question of an example as one text."""
    return " | ".join(str(value) for value in row["inputs"].values())


def first_answer(row: Mapping[str, Any]) -> str:
    """Return the answer to an example as one text."""
    if row["task"] == "mlm" or row["answer"] is None:
        return _candidates(row)
    return f"{100 * row['answer']['probability_next']:.1f} % next"
