"""Charts as Vega-Lite specifications; their colours are variables of the page's style, so that both themes fit."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from bertpipe.report.content import Spec

_COLOURS = ("var(--series-1)", "var(--series-2)", "var(--series-3)", "var(--series-4)", "var(--series-5)")
_DASHES = ((1, 0), (1, 0), (8, 4), (2, 3), (10, 3, 2, 3))
_HEIGHT = 260
_MAP_HEIGHT, _MAP_WIDTH = 520, 520
_LETTER_HEIGHT, _LETTER_WIDTH = 17, 7.5
_FEW_POINTS = 12
"""Most points of a line that shows them: a single one gives no line."""

MOST_LINES = len(_COLOURS) * len({*_DASHES})
"""Lines of one chart that differ in colour or dashes."""

Points = Sequence[tuple[float, float | None]]


def line_chart(
    lines: Mapping[str, Points],
    levels: Mapping[str, float],
    *,
    x: str,
    y: str,
    from_zero: bool = False,
    percent: bool = False,
) -> Spec:
    """Return lines, and one level line for each simple predictor.

    Args:
        lines: by name, the points of each line; a point without a height is a gap.
        levels: by name, the height of each level line.
        x: title of the axis.
        y: title of the axis.
        from_zero: whether the height begins at 0.
        percent: whether the heights are shares.
    """
    places = [place for points in lines.values() for place, _ in points]
    low, high = min(places, default=0), max(places, default=1)
    is_whole = all(place % 1 == 0 for place in places)
    is_few = is_whole and len(places) <= 2 * _FEW_POINTS
    ticks: dict[str, Any] = {"values": sorted({*places})} if is_few else {"tickCount": 6}
    number = ",d" if is_whole else ",~f"
    ends = (low, high) if low < high else (low - 1, high + 1)
    drawn: dict[str, Points] = {**lines, **{name: [(end, level) for end in ends] for name, level in levels.items()}}
    values = [{"x": place, "y": height, "name": name} for name, points in drawn.items() for place, height in points]
    names = list(drawn)
    colours, dashes = _looks(len(lines), len(levels))
    legend = alt.Legend(
        title=None,
        orient="bottom",
        columns=1,
        labelLimit=290,
        symbolType="stroke",
        symbolSize=500,
        symbolStrokeWidth=2.5,
    )
    height = alt.Y(
        "y:Q", title=y, scale=alt.Scale(zero=from_zero, nice=True), axis=alt.Axis(format="%") if percent else alt.Axis()
    )
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X(
            "x:Q",
            title=x,
            axis=alt.Axis(format=number, labelSeparation=8, **ticks),
            scale=alt.Scale(nice=False),
        ),
        y=height,
        tooltip=[
            alt.Tooltip("name:N", title="line"),
            alt.Tooltip("x:Q", title=x, format=number),
            alt.Tooltip("y:Q", title=y, format=".1%" if percent else ".4~g"),
        ],
    )
    dashing = alt.StrokeDash("name:N", legend=legend, scale=alt.Scale(domain=names, range=dashes))
    strokes = alt.Stroke("name:N", legend=legend, scale=alt.Scale(domain=names, range=colours))
    layers = [base.mark_line(strokeWidth=2).encode(stroke=strokes, strokeDash=dashing)]
    for colour, (name, points) in zip(colours, lines.items(), strict=False):
        opacity = 1 if len(points) <= _FEW_POINTS else 0  # of a long line the points only show the tooltip
        of_line = base.transform_filter(alt.FieldEqualPredicate(field="name", equal=name))
        layers.append(of_line.mark_point(fill=colour, stroke=None, size=50, opacity=opacity))
    return _spec(alt.layer(*layers).properties(height=_HEIGHT))


def _looks(lines: int, levels: int) -> tuple[list[str], list[list[int]]]:
    """Return the colour and the dashes of each line and level; `MOST_LINES` lines without levels are all different."""
    if lines <= 2:  # noqa: PLR2004 - the first level has the third look, whether there are one or two lines
        looks = [*range(lines), *range(2, 2 + levels)]
        return [_COLOURS[look] for look in looks], [list(_DASHES[look]) for look in looks]
    size = len(_COLOURS)
    dashes = list(dict.fromkeys(_DASHES))
    numbers = range(lines + levels)
    return (
        [_COLOURS[number % size] for number in numbers],
        [list(dashes[(number % size + number // size) % len(dashes)]) for number in numbers],
    )


def bar_chart(bars: Sequence[tuple[str, float, int]], *, x: str, y: str, counted: str) -> Spec:
    """Return one bar per range, with the share as its height.

    Args:
        bars: name of the range, share, and how many there are.
        x: title of the axis.
        y: title of the axis.
        counted: what there are so many of.
    """
    values = [{"range": name, "share": share, "count": count} for name, share, count in bars]
    domain = [0, max((share for _, share, _ in bars), default=0.0) or 1.0]  # bars of no height stand at the bottom
    chart = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(color=_COLOURS[0])
        .encode(
            x=alt.X("range:N", title=x, sort=None, axis=alt.Axis(labelAngle=-40)),
            y=alt.Y("share:Q", title=y, axis=alt.Axis(format="%"), scale=alt.Scale(domain=domain)),
            tooltip=[
                alt.Tooltip("range:N", title=x),
                alt.Tooltip("share:Q", title=y, format=".1%"),
                alt.Tooltip("count:Q", title=counted, format=",d"),
            ],
        )
    )
    return _spec(chart.properties(height=_HEIGHT))


def word_map(words: Sequence[tuple[str, float, float]]) -> Spec:
    """Return words as points at their places, with their text where it covers no other."""
    shown = _apart(words)
    values = [{"word": word, "x": x, "y": y, "text": word if word in shown else ""} for word, x, y in words]
    axis = {"axis": alt.Axis(labels=False, ticks=False), "scale": alt.Scale(zero=False, padding=20)}
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("x:Q", title="first component", **axis),
        y=alt.Y("y:Q", title="second component", **axis),
        tooltip=[alt.Tooltip("word:N", title="word")],
    )
    text = base.mark_text(fontSize=11, fill="var(--ink)", dy=-7).encode(text="text:N")
    dots = base.mark_point(size=30, fill=_COLOURS[1], stroke=None, opacity=1)
    return _spec(alt.layer(dots, text).properties(height=_MAP_HEIGHT))


def _apart(words: Sequence[tuple[str, float, float]]) -> set[str]:
    """Return the words whose text has room beside that of the words before them, on the narrowest map."""
    shown: dict[str, tuple[float, float]] = {}
    sizes = [max(column) - min(column) or 1.0 for column in ([x for _, x, _ in words], [y for _, _, y in words])]
    for word, x, y in words:
        across, up = _MAP_WIDTH * x / sizes[0], _MAP_HEIGHT * y / sizes[1]
        if all(
            abs(up - other_up) > _LETTER_HEIGHT or abs(across - other) > _LETTER_WIDTH * (len(word) + len(text)) / 2
            for text, (other, other_up) in shown.items()
        ):
            shown[word] = across, up
    return set(shown)


def attention_map() -> Spec:
    """Return a grid of weights; the page fills in its data, `attention` (from, to and weight), and sets its height."""
    axis = {"sort": None, "axis": alt.Axis(labelLimit=110)}
    chart = (
        alt.Chart(alt.NamedData(name="attention"))
        .mark_rect(fill="var(--series-1)", stroke="var(--line)", strokeWidth=0.5)
        .encode(
            x=alt.X(
                "to:N", title="token that gets the attention", sort=None, axis=alt.Axis(labelLimit=110, labelAngle=-90)
            ),
            y=alt.Y("from:N", title="token that attends", **axis),
            fillOpacity=alt.FillOpacity("weight:Q", scale=alt.Scale(domain=[0, 1], range=[0, 1]), legend=None),
            tooltip=[
                alt.Tooltip("from:N", title="token"),
                alt.Tooltip("to:N", title="attends to"),
                alt.Tooltip("weight:Q", title="share", format=".0%"),
            ],
        )
    )
    return _spec(chart.properties(height=_HEIGHT))


def _spec(chart: Any) -> Spec:  # noqa: ANN401 - altair's charts have several classes
    """Return a chart as wide as its place, without the address of the schema and with data in their place."""
    spec: dict[str, Any] = chart.properties(width="container").to_dict(validate=False)  # a test draws them
    for name in ("$schema", "config"):
        spec.pop(name, None)
    return spec | {"autosize": {"type": "fit-x", "contains": "padding"}}
