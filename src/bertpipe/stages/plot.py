"""`plot`: pictures of a training run, as PNG and SVG, equal to the byte for equal tables."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bertpipe.core.artifacts import (
    EPOCHS_COLUMNS,
    HISTORY_COLUMNS,
    NEW_TIMING_COLUMNS,
    PLOTS,
    TIMING_COLUMNS,
    read_json,
    read_table,
    require,
)
from bertpipe.core.atomic import atomic_directory
from bertpipe.core.progress import Progress, ignore_progress

# Colours that colour-blind readers tell apart (Okabe and Ito 2008).
_BLUE, _VERMILION, _GREEN, _BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "bertpipe",
    "svg.fonttype": "path",
}
_PNG_DPI = 150
_SMOOTHED_SHARE = 0.05
"""Share of the intervals that one point of the smoothed line averages over."""
_MARKED_POINTS = 12
"""Most rows of a line that shows its points: a single row gives no line."""

Metrics = Mapping[str, Any]
Baselines = Sequence[tuple[str, float | None]]


def run_plot(
    *,
    history: Path,
    epochs: Path,
    timing: Path | None,
    metrics: Path | None,
    out: Path,
    on_progress: Callable[[Progress], None] = ignore_progress,
) -> dict[str, Any]:
    """Draw a training run and return the names of the pictures.

    Args:
        history: `history.csv` of the run.
        epochs: `epochs.csv` of the run.
        timing: `timing.csv`; without it there is no picture of the throughput.
        metrics: `metrics.json`; without it there are no lines of simple predictors.
        out: directory of the pictures; its other files stay.
        on_progress: gets a report for each picture.

    Raises:
        MissingInputError: `history` or `epochs` is not there.
        DataError: a table lacks a column or holds something that is not a number.
    """
    steps = read_table(require(history, made_by="bertpipe train"), HISTORY_COLUMNS)
    evaluations = read_table(require(epochs, made_by="bertpipe train"), EPOCHS_COLUMNS)
    timings = (
        read_table(timing, TIMING_COLUMNS, may_lack=NEW_TIMING_COLUMNS)
        if timing is not None and timing.exists()
        else None
    )
    known: Metrics = read_json(metrics) if metrics is not None and metrics.exists() else {}
    names: list[str] = []
    with atomic_directory(out, kind=PLOTS) as staging, style.context("default"), rc_context(_STYLE):
        figures = {
            "loss": _draw_loss(steps, evaluations, known),
            "accuracy": _draw_accuracy(evaluations, known),
            "learning_rate": _draw_learning_rate(steps),
        }
        if timings is not None:
            figures["throughput"] = _draw_throughput(timings)
        for number, (name, figure) in enumerate(figures.items()):
            on_progress(Progress(label="drawing", completed=number, total=len(figures), unit="plots", detail=name))
            names += _save(figure, staging / name)
        on_progress(Progress(label="drawing", completed=len(figures), total=len(figures), unit="plots"))
    return {"directory": str(out), "files": names, "intervals": len(steps), "epochs": len(evaluations)}


def _draw_loss(steps: pd.DataFrame, evaluations: pd.DataFrame, metrics: Metrics) -> Figure:
    figure, axes = _figure("Loss in training, and on held-out rows after each epoch", panels=2)
    constant = _number(metrics, "mlm", "constant", "loss")
    panels = (
        ("mlm_loss", "Masked words (MLM)", "loss [nats per masked token]", "constant predictor", constant),
        ("nsp_loss", "Next sentence (NSP)", "loss [nats per pair]", "chance, ln 2", math.log(2)),
    )
    for axis, (column, title, unit, name, baseline) in zip(axes, panels, strict=True):
        window = _window(len(steps))
        raw = {"alpha": 0.4, "linewidth": 0.8} if window > 1 else {"linewidth": 2}
        _line(axis, steps["step"], steps[column], color=_BLUE, label="training, each interval", **raw)
        if window > 1:
            smooth = steps[column].rolling(window, center=True, min_periods=1).mean()
            label = f"training, mean of {window} intervals"
            axis.plot(steps["step"], smooth, color=_BLUE, linewidth=2.2, label=label)
        axis.plot(
            evaluations["step"], evaluations[column], color=_VERMILION, linewidth=1, marker="o", label="held-out rows"
        )
        _baselines(axis, ((f"{name}: {baseline:.2f}" if baseline else name, baseline),))
        _finish(axis, title, unit)
        _step_axis(axis, steps["step"])
    return figure


def _draw_accuracy(evaluations: pd.DataFrame, metrics: Metrics) -> Figure:
    figure, axes = _figure("Accuracy on held-out rows after each epoch", panels=2)
    mlm = (
        ("constant predictor", _number(metrics, "mlm", "constant", "top1_accuracy")),
        ("counts of two neighbours", _number(metrics, "mlm", "two_neighbours", "top1_accuracy")),
    )
    nsp = (
        ("chance", 0.5),
        ("sentence B alone", _number(metrics, "nsp", "sentence_b_alone", "accuracy")),
        ("word overlap", _number(metrics, "nsp", "word_overlap", "accuracy")),
    )
    panels = (
        ("mlm_top1_accuracy", "Masked words: the first guess is right", "masked tokens [%]", mlm, 0),
        ("nsp_accuracy", "Next sentence: the verdict is right", "pairs [%]", nsp, 40),
    )
    for axis, (column, title, unit, baselines, floor) in zip(axes, panels, strict=True):
        axis.plot(
            evaluations["epoch"], 100 * evaluations[column], color=_VERMILION, linewidth=2, marker="o", label="model"
        )
        shares = [(f"{name}: {100 * share:.1f} %", 100 * share) for name, share in baselines if share is not None]
        _baselines(axis, shares)
        _finish(axis, title, unit)
        axis.set_ylim(bottom=min(floor, axis.get_ylim()[0]))
        axis.set_xlabel("epoch")
        axis.set_xlim(0.5, _last(evaluations["epoch"]) + 0.5)
    return figure


def _draw_learning_rate(steps: pd.DataFrame) -> Figure:
    figure, (axis,) = _figure("Learning rate of each optimizer step", panels=1)
    _line(axis, steps["step"], steps["learning_rate"], color=_GREEN, linewidth=2, label="learning rate")
    _finish(axis, "", "learning rate")
    _step_axis(axis, steps["step"])
    axis.set_ylim(bottom=0)
    axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    return figure


def _draw_throughput(timings: pd.DataFrame) -> Figure:
    figure, (axis,) = _figure("Training throughput, without evaluation and saving", panels=1)
    rates = timings["tokens_per_second"]
    _line(axis, timings["step"], rates, color=_BLUE, linewidth=1.2, label="one interval")
    median = float(rates.median()) if rates.notna().any() else None
    _baselines(axis, ((f"median: {median:,.0f} tokens/s" if median else "", median),))
    _finish(axis, "", "tokens per second, without padding")
    _step_axis(axis, timings["step"])
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    return figure


def _figure(title: str, *, panels: int) -> tuple[Figure, list[Axes]]:
    """Return an empty figure with panels side by side."""
    figure = Figure(figsize=(5.6 * panels + (1.4 if panels == 1 else 0), 4.6))
    figure.set_layout_engine("constrained", h_pad=0.09, w_pad=0.09)
    figure.suptitle(title, fontweight="bold")
    return figure, [figure.add_subplot(1, panels, number + 1) for number in range(panels)]


def _line(axis: Axes, x: "pd.Series[float]", y: "pd.Series[float]", **style: Any) -> None:  # noqa: ANN401
    """Draw a line, with markers if it has few points."""
    axis.plot(x, y, marker="o" if len(x) <= _MARKED_POINTS else "", markersize=4, **style)


def _baselines(axis: Axes, baselines: Baselines) -> None:
    """Draw a horizontal line for each known figure, each with its own dashes."""
    for (label, value), dashes in zip(baselines, ("--", ":", "-."), strict=False):
        if value is not None:
            axis.axhline(value, color=_BLACK, linestyle=dashes, linewidth=1.3, label=label)


def _finish(axis: Axes, title: str, unit: str) -> None:
    """Name the y axis, and put the legend of several lines below the axes, where it covers none."""
    axis.set_title(title)
    axis.set_ylabel(unit)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    if len(axis.get_lines()) > 1:
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), fontsize=10)


def _step_axis(axis: Axes, step: "pd.Series[float]") -> None:
    """Make the x axis show the steps from zero to the last one."""
    axis.set_xlabel("optimizer step")
    axis.set_xlim(0, 1.03 * _last(step))
    if step.empty:
        axis.text(0.5, 0.8, "nothing recorded yet", transform=axis.transAxes, ha="center", va="center")


def _last(counts: "pd.Series[float]") -> float:
    """Return the largest count; 1 if there is none."""
    return float(counts.max()) if counts.notna().any() else 1.0


def _window(rows: int) -> int:
    """Return the odd number of intervals that the smoothed line averages over."""
    return 2 * int(rows * _SMOOTHED_SHARE / 2) + 1


def _number(metrics: Metrics, *keys: str) -> float | None:
    """Return the number at a path of keys; None if a key is missing or the value is null."""
    value: Any = metrics
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def _save(figure: Figure, stem: Path) -> list[str]:
    """Write a figure as PNG and SVG without dates and versions, and return the two names."""
    png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
    figure.savefig(png, dpi=_PNG_DPI, metadata={"Software": "bertpipe"})
    figure.savefig(svg, metadata={"Date": None, "Creator": "bertpipe"})
    return [png.name, svg.name]
