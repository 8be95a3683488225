"""Lines of figures as pictures, each with its text and its table."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from bertpipe.report.charts import Points, line_chart
from bertpipe.report.content import Picture, Table

if TYPE_CHECKING:
    import pandas as pd

_MOST_POINTS = 400
"""Points of one line of a chart; more intervals are averaged."""


def points_of(table: "pd.DataFrame", x: str, y: str, *, most: int = _MOST_POINTS) -> Points:
    """Return two columns; of many rows, the means of as many neighbours as leave few enough points."""
    size = -(-len(table) // most)
    if size > 1:
        table = table.groupby(table.index // size).agg({x: "max", y: "mean"})
    heights = table[y].tolist()
    return [
        (place, None if math.isnan(height) else float(f"{height:.6g}"))
        for place, height in zip(table[x].tolist(), heights, strict=True)
    ]


def curve(
    name: str, title: str, lines: Mapping[str, Points], levels: Mapping[str, float], *, x: str, y: str, **looks: bool
) -> Picture:
    """Return a chart of lines with its table and its text."""
    percent = looks.get("percent", False)
    labelled = {f"{level}: {_short(value, percent=percent)}": value for level, value in levels.items()}
    places = sorted({place for points in lines.values() for place, _ in points})
    heights = [dict(points) for points in lines.values()]
    return Picture(
        name=name,
        title=title,
        alternative=" ".join(_said(title, lines, labelled, x=x, percent=percent)),
        spec=line_chart(lines, labelled, x=x, y=y, **looks),
        table=Table(
            caption=f"{title}: the numbers" + (f"; {', '.join(labelled)}" if labelled else ""),
            columns=(x, *(f"{line} [{y}]" for line in lines)),
            rows=[
                (place if place % 1 else int(place), *(of_line.get(place) for of_line in heights)) for place in places
            ],
            is_open=False,
        ),
    )


def _said(
    title: str, lines: Mapping[str, Points], labelled: Mapping[str, float], *, x: str, percent: bool
) -> Iterator[str]:
    """Yield sentences that say what a chart of lines shows."""
    yield f"{title}, line chart."
    for name, points in lines.items():
        known = [(place, height) for place, height in points if height is not None]
        if known:
            (start, first), (end, last) = known[0], known[-1]
            begins = f"{name}: {_short(first, percent=percent)} at {x} {start:,.0f}"
            ends = f", {_short(last, percent=percent)} at {x} {end:,.0f}" if len(known) > 1 else ""
            yield f"{begins}{ends}."
    if labelled:
        yield f"Level lines: {'; '.join(labelled)}."


def _short(value: float, *, percent: bool) -> str:
    return f"{100 * value:.1f} %" if percent else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # noqa: PLR2004
