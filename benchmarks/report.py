"""The measured tables of the README, benchmarks.md and scaling.md, made from the benchmarks' JSON."""

from collections.abc import Mapping
from typing import Any

BEGIN = "<!-- benchmarks: begin (python -m benchmarks readme) -->"
END = "<!-- benchmarks: end -->"
_QUALITY = "quality_"
"""Begins the names of the benchmarks whose tables are in recipes.md."""


def inserted(text: str, tables: str) -> str:
    """Return the text with everything between the two marks made from the results."""
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"the file needs the lines {BEGIN} and {END}, with the measured tables between them")
    return f"{before}{BEGIN}\n{tables}{END}{after}"


def summary(results: Mapping[str, Any]) -> str:
    """Return the one table of the README: of each comparison the row that is least in bertpipe's favour."""
    loss = _loss_rows(results)[-1]
    rows = [
        _worst_speed(results, "notebook"),
        _worst_speed(results, "hugging_face"),
        [loss[0], *loss[1:], ""],
        *_worst_inference(results),
        *_worst_data(results),
        _worst_memory(results),
        *[[*cells, ratio] for cells, ratio in _help(results)],
    ]
    return f"{_table(['What', 'theirs', 'bertpipe', ''], rows)}\n{_machine(results)}"


def _worst_speed(results: Mapping[str, Any], name: str) -> list[str]:
    row = min(results[name]["rows"], key=lambda row: float(row["ratio"]))
    what = f"Training, {row['work']}, against {row['peer']}: {row['unit']}"
    return [what, _number(row["theirs"]), _number(row["ours"]), f"{row['ratio']:.1f} x"]


def _worst_inference(results: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each size of model."""
    worst: dict[str, tuple[float, list[str]]] = {}
    for row, cells in zip(results["inference"]["rows"], _inference_rows(results), strict=True):
        size = row["work"].partition(", ")[2]
        if size not in worst or row["ratio"] < worst[size][0]:
            worst[size] = (row["ratio"], [f"Inference, {cells[0]}: texts/s", *cells[1:]])
    return [cells for _, cells in worst.values()]


def _worst_data(results: Mapping[str, Any]) -> list[list[str]]:
    (converted,) = results["conversion"]["rows"]
    prepared = min(results["prepare"]["rows"], key=lambda row: float(row["ours_mb_s"] / row["theirs_mb_s"]))
    convert_ratio = converted["bare_s"] / converted["ours_s"]
    prepare_ratio = prepared["ours_mb_s"] / prepared["theirs_mb_s"]
    convert = next(cells for cells in _conversion(results) if "a bare Arrow pass" in cells[0])
    prepare = next(cells for cells in _preparation(results) if prepared["work"] in cells[0])
    return [[*convert, f"{convert_ratio:.1f} x"], [*prepare, f"{prepare_ratio:.1f} x"]]


def _worst_memory(results: Mapping[str, Any]) -> list[str]:
    row = min(results["memory"]["rows"], key=lambda row: float(row["theirs_gb"] / row["ours_gb"]))
    ratio = row["theirs_gb"] / row["ours_gb"]
    cells = [f"Peak memory, {row['work']}, against the notebook's loop", *_gigabytes(row)]
    return [*cells, f"{ratio:.1f} x"]


def rendered(results: Mapping[str, Any]) -> str:
    """Return the tables in Markdown, with the date and the machine they are from."""
    parts = [_speed(results), _loss(results), _inference(results), _data(results), _rest(results), _machine(results)]
    return "\n".join(parts)


def processes(results: Mapping[str, Any]) -> str:
    """Return the table of scaling.md: training in several processes, measured and as the cost model predicts it."""
    facts = results["processes"]
    head = ["", "", "tokens/s, 1 process", "tokens/s", "", "sent per step", "at", "step", "the model says"]
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


def recipes(results: Mapping[str, Any]) -> str:
    """Return the tables of recipes.md: what each recipe learns, and what others learn of the same rows."""
    head = ["recipe", "seed", "steps", "training", "MLM, nats", "top-1 (two neighbours)", "NSP (word overlap)"]
    learned = [
        [
            f"`{row['recipe']}.yaml`",
            str(row["seed"]),
            f"{row['steps']:,}",
            f"{row['trained_s']:,.0f} s",
            f"{row['loss']:.3f}",
            f"{row['top1']:.3f} ({row['two_neighbours']:.3f})",
            f"{row['nsp']:.3f} ({row['word_overlap']:.3f})",
        ]
        for name, entry in results.items()
        if name.startswith(_QUALITY) and name != "quality_peers"
        for row in entry["rows"]
    ]
    facts = results["quality_peers"]
    peers = [
        [row["side"], f"{row['steps']:,}", f"{row['trained_s']:.0f} s", f"{row['loss']:.3f}", f"{row['top1']:.3f}"]
        for row in facts["rows"]
    ]
    machine = f"Measured {facts['date']} on {facts['cores']} cores of an {facts['processor']}, torch {facts['torch']}."
    return "\n".join(
        [
            _table(head, learned),
            _table(["the same time on the same rows", "steps", "training", "MLM, nats", "top-1"], peers),
            f"{machine}\n",
        ]
    )


def _speed(results: Mapping[str, Any]) -> str:
    rows = [
        [row["work"], row["unit"], row["peer"], _number(row["theirs"]), _number(row["ours"]), f"{row['ratio']:.1f} x"]
        for name in ("notebook", "hugging_face")
        for row in results[name]["rows"]
    ]
    return _table(["Training", "", "Against", "theirs", "bertpipe", ""], rows)


def _loss(results: Mapping[str, Any]) -> str:
    return _table(["On the whole IMDB zip", "theirs", "bertpipe"], _loss_rows(results))


def _loss_rows(results: Mapping[str, Any]) -> list[list[str]]:
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
    return rows


def _inference(results: Mapping[str, Any]) -> str:
    return _table(
        ["Inference, texts per second, sentences of IMDB", "theirs", "bertpipe", ""], _inference_rows(results)
    )


def _inference_rows(results: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            f"{row['work']}, against {row['peer']}",
            f"{row['theirs_per_s']:,.0f}",
            f"{row['ours_per_s']:,.0f}",
            f"{row['ratio']:.1f} x",
        ]
        for row in results["inference"]["rows"]
    ]


def _data(results: Mapping[str, Any]) -> str:
    return _table(["Data", "theirs", "bertpipe"], [*_conversion(results), *_preparation(results), *_streaming(results)])


def _conversion(results: Mapping[str, Any]) -> list[list[str]]:
    (row,) = results["conversion"]["rows"]
    own, made = results["recovery"]["rows"]
    bare = "a bare Arrow pass: inflate, split and cast, write, check nothing"
    return [
        [f"`convert`, {row['work']}, against {bare}", f"{row['bare_s']:.1f} s", f"{row['ours_s']:.1f} s"],
        ["The same against pandas and `json.loads` per row", f"{row['notebook_s']:.1f} s", f"{row['ours_s']:.1f} s"],
        [
            "Its peak memory; with twice the rows",
            "",
            f"{row['peak_mb']:,.0f} MB; {row['peak_at_twice_the_rows']:.2f} times",
        ],
        ["`convert` that recovers the vocabulary", "", f"{own['elapsed_s']:.1f} s"],
        ["Words of the vocabulary found; tokens known", "", f"{own['words_known']:.2%}; {own['tokens_known']:.3%}"],
        [
            "Rows made again from the reviews, truth known: words right, words wrong, tokens right",
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
    rows = [[f"Peak memory of the process, {row['work']}", *_gigabytes(row)] for row in results["memory"]["rows"]]
    rows += [cells for cells, _ in _help(results)]
    for row in results["loader"]["rows"]:
        rows.append([f"Share of each step spent on loading and masking, {row['work']}", "", f"{row['share']:.1%}"])
    for row in results["checkpoints"]["rows"]:
        cost = f"{row['share']:.2%}; {row['save_ms']:.0f} ms for {row['checkpoint_mb']:.0f} MB"
        rows.append([f"Share of a training's time that checkpoints take, {row['work']}", "", cost])
    for row in results["hugging_face"]["rows"]:
        share = f"{row['share_of_peak']:.0%} of {row['peak_gflops']:.0f} GFLOP/s"
        rows.append([f"Useful operations, share of the measured matrix product, {row['work']}", "", share])
    return _table(["Memory, start-up, use of the machine", "theirs", "bertpipe"], rows)


def _help(results: Mapping[str, Any]) -> list[tuple[list[str], str]]:
    """Return a row for each measurement of `--help`, and the ratio of the two times."""
    head = "`--help`, against a bare Typer app"
    return [
        (
            [head, f"{row['bare_typer_ms']:.0f} ms", f"{row['ours_ms']:.0f} ms"],
            f"{row['bare_typer_ms'] / row['ours_ms']:.1f} x",
        )
        for row in results["help"]["rows"]
    ]


def _gigabytes(row: Mapping[str, Any]) -> list[str]:
    return [f"{row[side]:.2f} GB" for side in ("theirs_gb", "ours_gb")]


def _machine(results: Mapping[str, Any]) -> str:
    facts = results["notebook"]
    dates = sorted(
        {entry["date"] for name, entry in results.items() if "date" in entry and not name.startswith(_QUALITY)}
    )
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


PAGES = {
    "README.md": summary,
    "README.es.md": summary,
    "docs/explanation/benchmarks.md": rendered,
    "docs/explanation/scaling.md": processes,
    "docs/how-to/recipes.md": recipes,
}
"""The pages with measured tables, and what makes them."""
