"""The measured parts of the README and of docs/scaling.md, made from the benchmarks' JSON."""

from collections.abc import Mapping
from typing import Any

BEGIN = "<!-- benchmarks: begin (python -m benchmarks readme) -->"
END = "<!-- benchmarks: end -->"


def inserted(text: str, tables: str) -> str:
    """Return the text with everything between the two marks made anew."""
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"the file needs the lines {BEGIN} and {END}, with the measured tables between them")
    return f"{before}{BEGIN}\n{tables}{END}{after}"


def rendered(results: Mapping[str, Any]) -> str:
    """Return the tables in Markdown, with the date and the machine they are from."""
    parts = [_speed(results), _loss(results), _inference(results), _data(results), _rest(results), _machine(results)]
    return "\n".join(parts)


def processes(results: Mapping[str, Any]) -> str:
    """Return the table of docs/scaling.md: training in several processes, measured and as the cost model has it."""
    facts = results["processes"]
    head = ["", "", "tokens/s, 1 process", "tokens/s", "", "sent a step", "at", "step", "the model says"]
    rows = [
        [
            row["work"],
            f"{row['processes']}, {row['parallel']}",
            _number(row["one_tokens_per_s"]),
            _number(row["ours_tokens_per_s"]),
            f"{row['ratio']:.2f} x",
            f"{row['mb_sent_a_step']:.0f} MB",
            f"{row['gb_per_s']:.1f} GB/s",
            f"{row['step_ms']:.0f} ms",
            f"{row['predicted_step_ms']:.0f} ms",
        ]
        for row in facts["rows"]
    ]
    machine = f"Measured {facts['date']} on {facts['cores']} cores of an {facts['processor']}, torch {facts['torch']}."
    return f"{_table(head, rows)}\n{machine}\n"


def _speed(results: Mapping[str, Any]) -> str:
    rows = [
        [row["work"], row["unit"], row["peer"], _number(row["theirs"]), _number(row["ours"]), f"{row['ratio']:.1f} x"]
        for name in ("notebook", "hugging_face")
        for row in results[name]["rows"]
    ]
    return _table(["Training", "", "Against", "theirs", "bertpipe", ""], rows)


def _loss(results: Mapping[str, Any]) -> str:
    rows = []
    for row in results["time_to_loss"]["rows"]:
        ends = f"{row['trained_s']:.0f} s" if row["reached"] else f"not within {row['trained_s']:.0f} s"
        rows.append([f"Held-out MLM loss, {row['work']}", "", ends])
    by_side: dict[str, dict[str, Any]] = {}
    for row in results["five_minutes"]["rows"]:
        best = by_side.get(row["side"])
        if best is None or row["loss"] < best["loss"]:
            by_side[row["side"]] = row
    theirs, ours = by_side["Hugging Face"], by_side["bertpipe"]
    rows.append(
        [
            "Held-out MLM loss after 300 s, dim 128, 4 layers, each side's best of three learning rates",
            f"{theirs['loss']:.2f} nats (Hugging Face, {theirs['steps']} steps)",
            f"{ours['loss']:.2f} nats ({ours['steps']:,} steps)",
        ]
    )
    return _table(["On the whole IMDB zip", "theirs", "bertpipe"], rows)


def _inference(results: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{row['work']}, against {row['peer']}",
            f"{row['theirs_per_s']:,.0f}",
            f"{row['ours_per_s']:,.0f}",
            f"{row['ratio']:.1f} x",
        ]
        for row in results["inference"]["rows"]
    ]
    return _table(["Inference, texts a second, sentences of IMDB", "theirs", "bertpipe", ""], rows)


def _data(results: Mapping[str, Any]) -> str:
    return _table(["Data", "theirs", "bertpipe"], [*_conversion(results), *_preparation(results), *_streaming(results)])


def _conversion(results: Mapping[str, Any]) -> list[list[str]]:
    (row,) = results["conversion"]["rows"]
    own, made = results["recovery"]["rows"]
    bare = "a bare Arrow pass: inflate, split and cast, write, check nothing"
    return [
        [f"`convert`, {row['work']}, against {bare}", f"{row['bare_s']:.1f} s", f"{row['ours_s']:.1f} s"],
        ["The same against pandas and `json.loads` a row", f"{row['notebook_s']:.1f} s", f"{row['ours_s']:.1f} s"],
        [
            "Its peak memory; with twice the rows",
            "",
            f"{row['peak_mb']:,.0f} MB; {row['peak_at_twice_the_rows']:.2f} times",
        ],
        ["`convert` that recovers the vocabulary", "", f"{own['elapsed_s']:.1f} s"],
        ["Words of the vocabulary found; tokens known", "", f"{own['words_known']:.2%}; {own['tokens_known']:.3%}"],
        [
            "Rows made anew from the reviews, truth known: words right, words wrong, tokens right",
            "",
            f"{made['words_right']:.2%}, {made['words_wrong']}, {made['tokens_right']:.3%}",
        ],
    ]


def _preparation(results: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for row in results["prepare"]["rows"]:
        speeds = [f"{row[side]:.1f} MB/s" for side in ("theirs_mb_s", "ours_mb_s")]
        rows.append([f"`prepare`, text to pairs on disk, against `encode_batch` alone, {row['work']}", *speeds])
        rows.append([f"Peak memory of all its processes, {row['work']}", "", f"{row['peak_gb']:.2f} GB"])
    return rows


def _streaming(results: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for row in results["streaming"]["rows"]:
        rows_or_none = f"{row['rows']:,} rows, " if row["rows"] else ""
        ending = f"{rows_or_none}{row['peak_mb']:,.0f} MB" if row["ended"] == "well" else row["ended"]
        what = f"{row['work']}, {row['copies']} x IMDB, {row['limit_mb']:,.0f} MB allowed"
        rows.append([f"Peak memory, {what}", "", ending])
    return rows


def _rest(results: Mapping[str, Any]) -> str:
    rows = [
        [f"Peak memory of the process, {row['work']}", f"{row['theirs_gb']:.2f} GB", f"{row['ours_gb']:.2f} GB"]
        for row in results["memory"]["rows"]
    ]
    for row in results["help"]["rows"]:
        rows.append(
            ["`--help`, against a bare Typer app", f"{row['bare_typer_ms']:.0f} ms", f"{row['ours_ms']:.0f} ms"]
        )
    for row in results["loader"]["rows"]:
        rows.append([f"Share of a step spent on loading and masking, {row['work']}", "", f"{row['share']:.1%}"])
    for row in results["checkpoints"]["rows"]:
        cost = f"{row['share']:.2%}; {row['save_ms']:.0f} ms for {row['checkpoint_mb']:.0f} MB"
        rows.append([f"Share of a training's time that checkpoints take, {row['work']}", "", cost])
    for row in results["hugging_face"]["rows"]:
        share = f"{row['share_of_peak']:.0%} of {row['peak_gflops']:.0f} GFLOP/s"
        rows.append([f"Useful operations, share of the measured matrix product, {row['work']}", "", share])
    return _table(["Memory, start-up, use of the machine", "theirs", "bertpipe"], rows)


def _machine(results: Mapping[str, Any]) -> str:
    facts = results["notebook"]
    dates = sorted({entry["date"] for entry in results.values() if "date" in entry})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    rows = ", ".join(f"{counts['rows']:,} {name}" for name, counts in results["rows"].items())
    return (
        f"Rows: {rows}. Measured {when} on {facts['cores']} cores of an {facts['processor']} ({facts['system']}), "
        f"{facts['threads']} threads, torch {facts['torch']}, transformers {facts['transformers']}, "
        f"Python {facts['python']}.\n"
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


PAGES = {"README.md": rendered, "docs/scaling.md": processes}
"""The pages with measured tables, and what makes them."""
