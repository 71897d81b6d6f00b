"""Lines over an axis: those of named models told apart and labeled at their ends, the rest pale behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import pandas as pd

from lra_bench.report.drawing import labels, style
from lra_bench.report.drawing.style import Layout

REACH = 16  # from the panel's edge to where labels begin, pixels


@dataclass(frozen=True)
class Scale:
    """From values to pixels from a panel's top."""

    low: float
    high: float
    height: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float], height: float, *, log: bool) -> Scale:
        """With room for all of the values."""
        known = [value for value in values if not math.isnan(value)]
        low, high = min(known), max(known)
        if log:
            return cls(low / 1.12, high * 1.12, height, log)
        room = 0.04 * (high - low) or 1.0
        return cls(low - room, high + room, height, log)

    @property
    def altair(self) -> alt.Scale:
        """The same for a figure."""
        kind = {"type": "log"} if self.log else {"zero": False}
        return alt.Scale(domain=[self.low, self.high], nice=False, **kind)

    def pixel(self, value: float) -> float:
        """Where a value is drawn."""
        value, low, high = self._flat(value), self._flat(self.low), self._flat(self.high)
        return self.height * (1 - (value - low) / (high - low))

    def value(self, pixel: float) -> float:
        """What is drawn at a place."""
        low, high = self._flat(self.low), self._flat(self.high)
        flat = low + (1 - pixel / self.height) * (high - low)
        return math.exp(flat) if self.log else flat

    def _flat(self, value: float) -> float:
        return math.log(value) if self.log else value


def ordered(frame: pd.DataFrame, named: Sequence[str], first: str) -> list[str]:
    """The named models as hues and dashes are given out: those of the family `first`, then by where lines end, the
    upper ones before, so that neighbors look unlike each other."""
    ends = frame[frame["model"].isin(named)].sort_values("x", kind="stable").groupby("model", sort=False).tail(1)
    lines = ends.assign(after=ends["family"] != first).sort_values(
        ["after", "y", "model"], ascending=[True, False, True], kind="stable"
    )
    return list(dict.fromkeys(lines["model"]))


def panel(
    frame: pd.DataFrame, named: Sequence[str], x: alt.X, y: str, layout: Layout, *, log: bool, tips: Sequence[Any]
) -> alt.LayerChart:
    """Lines of a frame with the columns model, family, x and y, and low and high if intervals are known.

    `named` are the models whose lines are told apart, in the order of `ordered`, and labeled; `y` is the title of the
    axis; `x` encodes the column `x`. `tips` are shown of a point beneath a pointer.
    """
    height = max(layout.height, labels.GAP * len(named))
    every = [float(v) for key in ("y", "low", "high") if key in frame for v in frame[key]]
    scale = Scale.over(every, height, log=log)
    axis = alt.Y("y:Q", scale=scale.altair, title=y)
    apart, ends = frame[frame["model"].isin(named)], _ends(frame, named, scale)
    layers = [*_others(frame[~frame["model"].isin(named)], x, axis, tips)]
    if not ends.empty:
        layers += [*_named(apart, named, x, axis, tips), *_intervals(apart, x, scale, named)]
        layers += _labels(ends, x, scale, layout, named)
    return alt.LayerChart(layer=layers, width=layout.width, height=height)


def _ends(frame: pd.DataFrame, named: Sequence[str], scale: Scale) -> pd.DataFrame:
    """Where each named line ends, from the top down, and where its label stands: `label`, a value of y."""
    last = frame[frame["model"].isin(named)].sort_values(["x", "model"], kind="stable").groupby("model").tail(1)
    ends = last[["model", "family", "x", "y"]].sort_values(["y", "model"], ascending=[False, True], ignore_index=True)
    stand = labels.spread([scale.pixel(y) for y in ends["y"]], labels.GAP, 0, scale.height)
    return ends.assign(label=[scale.value(pixel) for pixel in stand])


def _others(frame: pd.DataFrame, x: alt.X, y: alt.Y, tips: Sequence[Any]) -> Sequence[alt.Chart]:
    if frame.empty:
        return ()
    base = alt.Chart(frame).encode(x, y, detail="model:N", opacity=style.chosen())
    line = base.mark_line(style="other", strokeWidth=1)
    return line, base.mark_point(style="other", filled=True, size=14).encode(tooltip=tips)


def _named(frame: pd.DataFrame, models: Sequence[str], x: alt.X, y: alt.Y, tips: Sequence[Any]) -> Sequence[alt.Chart]:
    looks, domain = [style.look(at) for at in range(len(models))], list(models)
    base = alt.Chart(frame).encode(x, y, color=_color(models), opacity=style.chosen())
    dash = alt.StrokeDash("model:N", scale=alt.Scale(domain=domain, range=[look.dash for look in looks]), legend=None)
    shape = alt.Shape("model:N", scale=alt.Scale(domain=domain, range=[look.shape for look in looks]), legend=None)
    line = base.mark_line(strokeWidth=1.8).encode(strokeDash=dash)
    return line, base.mark_point(filled=True, size=42).encode(shape=shape, tooltip=tips)


def _intervals(frame: pd.DataFrame, x: alt.X, scale: Scale, models: Sequence[str]) -> Sequence[alt.Chart]:
    if "low" not in frame or frame["low"].isna().all():
        return ()
    low = alt.Y("low:Q", scale=scale.altair)
    base = alt.Chart(frame).encode(x, low, y2="high:Q", color=_color(models), opacity=style.chosen())
    return (base.mark_rule(strokeWidth=1),)


def _labels(ends: pd.DataFrame, x: alt.X, scale: Scale, layout: Layout, models: Sequence[str]) -> Sequence[alt.Chart]:
    """Names at the right edge, each with a line to its end."""
    base = alt.Chart(ends).encode(opacity=style.chosen())
    edge = layout.width + REACH
    line = base.mark_rule(strokeWidth=0.8, strokeOpacity=0.7).encode(
        x, alt.Y("y:Q", scale=scale.altair), x2=alt.value(edge - 3), y2="label:Q", color=_color(models)
    )
    names = base.mark_text(style="label", align="left", baseline="middle").encode(
        x=alt.value(edge), y=alt.Y("label:Q", scale=scale.altair), text="model:N"
    )
    return line, names


def _color(models: Sequence[str]) -> alt.Color:
    """Hues in the order of the models, again from the first where these are used up."""
    return alt.Color("model:N", scale=alt.Scale(domain=list(models), range="category"), legend=None)
