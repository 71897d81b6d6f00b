"""The two themes of the page and the figures, and what tells one line from another: its hue, its dash and its shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import altair as alt

# Okabe and Ito's colors (jfly.uni-koeln.de/color) that have a contrast of 3 to the ground, as WCAG asks of graphics,
# and the theme's ink in place of their black. More lines than hues differ in their dashes.
ON_LIGHT = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")
ON_DARK = ("#D55E00", "#56B4E9", "#009E73", "#CC79A7")
HUES = 1 + len(ON_LIGHT)
DASHES = ([1, 0], [7, 3], [2, 2])
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
FONT = "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"
SIZE = 12  # of text, pixels
MOST = HUES * len(DASHES)  # lines that hue and dash tell apart


@dataclass(frozen=True)
class Theme:
    """Colors of the page and of what is drawn on it."""

    ground: str
    ink: str  # text, axes, and full attention
    soft: str  # what is said beside
    line: str  # grids and rules
    other: str  # lines and points that have no name
    accent: str  # links
    colors: tuple[str, ...]  # of named lines, after the ink

    @property
    def hues(self) -> tuple[str, ...]:
        """Of named lines, in order."""
        return (self.ink, *self.colors)


LIGHT = Theme("#ffffff", "#1f2328", "#59636e", "#d8dee4", "#b4bcc5", "#0b66c2", ON_LIGHT)
DARK = Theme("#0f1318", "#e6edf3", "#9aa4af", "#30363d", "#4d5763", "#6cb0ff", ON_DARK)


class Layout(NamedTuple):
    """Room for a figure."""

    width: int  # of a panel of lines, pixels; their labels stand beside it
    inner: int  # of a panel of points, whose labels stand within
    height: int
    columns: int  # panels beside one another
    legend: Literal["right", "bottom"]  # where it stands


WIDE = Layout(430, 460, 330, 2, "right")
NARROW = Layout(195, 300, 300, 1, "bottom")  # a phone's


@dataclass(frozen=True)
class Figure:
    """What is prepared once and drawn for any room."""

    draw: Callable[[Layout], alt.ConcatChart]

    def to_dict(self, layout: Layout = WIDE) -> dict[str, Any]:
        """As Vega-Lite, without a theme; tests hold it to Vega-Lite's schema, which takes as long as all the rest."""
        return self.draw(layout).to_dict(validate=False)


class Look(NamedTuple):
    """The marks of one line among several."""

    dash: list[int]
    shape: str


FILTERS = ("wantedFamily", "wantedModel")  # parameters of each figure, which the page's filters set; empty: all


def chosen() -> Any:
    """How opaque a mark is: pale where the page's filters ask for other families and models."""
    wanted = "(wantedFamily == '' || datum.family == wantedFamily) && indexof(datum.model, wantedModel) >= 0"
    return alt.condition(wanted, alt.value(1), alt.value(0.06))


def look(at: int) -> Look:
    """Of the line that comes so many-th; its hue is the theme's."""
    turn, hue = divmod(at, HUES)
    return Look(DASHES[turn % len(DASHES)], SHAPES[(turn + hue) % len(SHAPES)])


def joined(panels: Sequence[alt.LayerChart], layout: Layout, **said: Any) -> alt.ConcatChart:
    """The panels beside one another, as one figure."""
    filters = [alt.VariableParameter(name=name, value="") for name in FILTERS]
    return alt.concat(*panels, columns=layout.columns, params=filters, spacing=36, **said)


def config(theme: Theme) -> dict[str, Any]:
    """The theme as Vega-Lite's config; marks name the styles `ink` and `other`, and scales the range `category`."""
    text = {"labelColor": theme.ink, "titleColor": theme.ink, "labelFontSize": SIZE, "titleFontSize": SIZE}
    plain = {**text, "titleFontWeight": "normal"}
    grid = {"gridColor": theme.line, "gridOpacity": 0.7, "domainColor": theme.soft, "tickColor": theme.soft}
    return {
        "background": theme.ground,
        "font": FONT,
        "view": {"stroke": None},
        "axis": {**plain, **grid, "labelFlush": False},
        "legend": {**plain, "symbolBaseFillColor": theme.ink},
        "title": {
            "color": theme.ink, "subtitleColor": theme.soft, "fontSize": SIZE + 2, "subtitleFontSize": SIZE,
            "anchor": "start", "offset": 12, "subtitlePadding": 4,
        },
        "style": {
            "ink": {"color": theme.ink},
            "label": {"color": theme.ink, "fontSize": SIZE},
            "halo": {"stroke": theme.ground, "strokeWidth": 3, "strokeOpacity": 0.85, "fontSize": SIZE},
            "other": {"color": theme.other},
        },
        "range": {"category": list(theme.hues)},
    }  # fmt: skip


def css(theme: Theme) -> str:
    """The theme as the page's custom properties."""
    said = {"ink": theme.ink, "soft": theme.soft, "line": theme.line, "ground": theme.ground, "accent": theme.accent}
    return " ".join(f"--{name}: {color};" for name, color in said.items()) + f" --tint: {theme.accent}2e;"


def styled(figure: Figure, theme: Theme = LIGHT) -> alt.ConcatChart:
    """The figure in a theme, on its ground: for a file."""
    return figure.draw(WIDE).configure(**config(theme))
