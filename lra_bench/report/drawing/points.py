"""Points in a plane, the best of which are joined and named; others are named where there is room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from lra_bench.report.drawing import labels, style
from lra_bench.report.drawing.lines import Scale
from lra_bench.report.drawing.style import Layout

GROUPS = ("full attention", "Pareto front", "other models")
SHAPES = ("square", "diamond", "circle")
LARGEST = 700.0  # area of the largest point, square pixels


def panel(
    frame: pd.DataFrame, x: str, y: str, size: str, largest: float, layout: Layout, *, tips: Sequence[Any]
) -> alt.LayerChart:
    """Points of a frame with the columns model, family, name, group, best, x on a logarithm, y, and size.

    `x`, `y` and `size` are their titles; `largest` is the size that has the largest area, the same in each panel.
    """
    across = Scale.over([*frame["x"] / 1.1, *frame["x"] * 1.1], layout.inner, log=True)
    up = Scale.over([*frame["y"]], layout.height, log=False)
    base = alt.Chart(frame).encode(
        alt.X("x:Q", scale=across.altair, title=x, axis=alt.Axis(tickCount=5, labelOverlap="greedy")),
        alt.Y("y:Q", scale=up.altair, title=y),
        opacity=style.chosen(),
    )
    legend = alt.Legend(title=None, orient=layout.legend, direction="vertical")
    points = base.mark_point(filled=True, fillOpacity=0.75, strokeWidth=0).encode(
        color=alt.Color("group:N", scale=alt.Scale(domain=list(GROUPS), range="category"), legend=legend),
        shape=alt.Shape("group:N", scale=alt.Scale(domain=list(GROUPS), range=list(SHAPES)), legend=legend),
        size=_size(size, largest, layout),
        order=alt.Order("size:Q", sort="descending"),
        tooltip=list(tips),
    )
    line = (
        base.transform_filter("datum.best").mark_line(style="ink", strokeDash=[3, 3], strokeWidth=1).encode(order="x:Q")
    )
    named = _labels(frame, across, up, largest)
    drawn = alt.Chart(named).encode(opacity=style.chosen())
    lead = (
        drawn.transform_filter("datum.far")
        .mark_rule(style="ink", strokeWidth=0.6)
        .encode(alt.X("x:Q", scale=across.altair), alt.Y("y:Q", scale=up.altair), x2="label_x:Q", y2="label_y:Q")
    )
    texts = [
        drawn.transform_filter(f"datum.align == '{align}'")
        .mark_text(style=look, baseline="middle", align=align)
        .encode(alt.X("label_x:Q", scale=across.altair), alt.Y("label_y:Q", scale=up.altair), text="name:N")
        for look in ("halo", "label")
        for align in sorted(set(named["align"]))
    ]
    return alt.LayerChart(layer=[line, lead, points, *texts], width=layout.inner, height=layout.height)


def _size(title: str, largest: float, layout: Layout) -> alt.Size:
    """Areas in proportion to what they stand for."""
    step = 10 ** math.floor(math.log10(largest))
    most = math.floor(largest / step) * step
    values = [most / 4, most] if most / 4 >= 1 else [most]
    legend = alt.Legend(
        title=title, orient=layout.legend, values=values, symbolType="circle", format=",.0f", direction="vertical"
    )
    return alt.Size("size:Q", scale=alt.Scale(domain=[0, largest], range=[0, LARGEST], zero=True), legend=legend)


def _labels(frame: pd.DataFrame, across: Scale, up: Scale, largest: float) -> pd.DataFrame:
    """Where names stand, as values of both axes: of full attention and the front, then of others from the best down."""
    ordered = frame.assign(rank=frame["group"].map(GROUPS.index)).sort_values(
        ["rank", "y", "model"], ascending=[True, False, True], kind="stable"
    )
    rows = ordered.to_dict("records")
    points = [
        labels.Point(
            across.height - across.pixel(row["x"]),
            up.pixel(row["y"]),
            math.sqrt(LARGEST * row["size"] / largest / math.pi),
            row["name"],
            must=row["group"] != GROUPS[2],
        )
        for row in rows
    ]
    found = zip(rows, labels.around(points, across.height, up.height), strict=True)
    pairs = [(row, label) for row, label in found if label]
    there, stand = [row for row, _ in pairs], [label for _, label in pairs]
    return pd.DataFrame(
        {
            **{key: [row[key] for row in there] for key in ("model", "family", "name", "x", "y")},
            "label_x": [across.value(across.height - label.x) for label in stand],
            "label_y": [up.value(label.y) for label in stand],
            "align": [label.align for label in stand],
            "far": [label.far for label in stand],
        }
    )
