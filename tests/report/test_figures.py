"""The figures: labels that cover nothing, colors that all can tell apart, files on a white ground."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from altair.utils.schemapi import SchemaValidationError
from hypothesis import given
from hypothesis import strategies as st
from samples import by_place

from lra_bench import mixers
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.report import charts, headline, scaling, tables
from lra_bench.report.drawing import labels, lines, points, style
from lra_bench.report.drawing.labels import GAP, Point

ROOT = Path(__file__).parents[2]
SPEED = ROOT / "results/speed/cpu.json"
FAMILIES = {name: mixers.model_card(name).card.family for name in mixers.names()}
LAYOUTS = (style.WIDE, style.NARROW)
CASES = (style.WIDE, pytest.param(style.NARROW, marks=pytest.mark.slow))

# What the color-blind see: Machado et al. 2009, severity 1, on linear RGB.
BLIND = {
    "nobody": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.fixture(scope="module")
def facts() -> list[dict[str, Any]]:
    return scaling.read(SPEED)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return store.to_dataframe([ROOT / "results/quick"])


@pytest.fixture(scope="module")
def tradeoff(frame: pd.DataFrame) -> style.Figure:
    return charts.tradeoff(by_place(frame[frame["task"] == "listops"]))


def panels(figure: style.Figure, layout: style.Layout = style.WIDE) -> list[dict[str, Any]]:
    return list(figure.to_dict(layout)["concat"])


def data(figure: style.Figure, key: str, layout: style.Layout = style.WIDE) -> list[list[dict[str, Any]]]:
    """The points that have a key, by data set."""
    return [rows for rows in figure.to_dict(layout)["datasets"].values() if rows and key in rows[0]]


def test_scores_over_the_bytes_that_decoding_keeps() -> None:
    rows = store.to_dataframe([ROOT / "results" / "bytes"])
    drawn = itertools.chain(*data(charts.state(tables.summary(rows)), "model"))
    by_model = {point["model"]: point["x"] for point in drawn if "x" in point}
    assert by_model == dict(zip(rows["model"], rows["state_bytes"], strict=True))
    with pytest.raises(ConfigError, match="only causal models that decode have one"):
        charts.state(tables.summary(rows.assign(state_bytes=None)))


@given(st.lists(st.floats(0, 300), max_size=20), st.floats(1, 15))
def test_spread_labels_are_apart_in_order_and_within(wanted: list[float], gap: float) -> None:
    placed = labels.spread(wanted, gap, 0, 300)
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    assert all(placed[b] - placed[a] >= gap - 1e-6 for a, b in itertools.pairwise(order))
    assert all(-1e-6 <= place <= 300 + 1e-6 for place in placed)


def test_spread_labels_stay_where_there_is_room_and_move_alike_where_not() -> None:
    assert labels.spread([10, 50, 200], 14, 0, 300) == [10, 50, 200]
    assert labels.spread([100, 100], 14, 0, 300) == [93, 107]
    assert labels.spread([0, 0, 5], 14, 0, 300) == [0, 14, 28]
    with pytest.raises(ValueError, match="3 labels of 14 pixels do not stand in 20"):
        labels.spread([1, 2, 3], 14, 0, 20)


@pytest.mark.slow
@pytest.mark.parametrize("layout", CASES)
def test_labels_of_lines_do_not_overlap(facts: list[dict[str, Any]], frame: pd.DataFrame, layout: style.Layout) -> None:
    for figure in (charts.growth(facts, FAMILIES), charts.curves(frame)):
        for panel, ends in zip(panels(figure, layout), data(figure, "label", layout), strict=True):
            scale = _scale(panel, "y:y", panel["height"])
            assert len(ends) > 10
            stand = sorted(scale.pixel(end["label"]) for end in ends)
            assert all(b - a >= GAP - 1e-6 for a, b in itertools.pairwise(stand))
            assert stand[0] >= -1e-6
            assert stand[-1] <= panel["height"] + 1e-6


def _scale(panel: dict[str, Any], name: str, pixels: float) -> lines.Scale:
    """The scale of an axis, as Vega-Lite is told it."""
    channel, field = name.split(":")
    said = [layer["encoding"][channel] for layer in panel["layer"] if "field" in layer["encoding"].get(channel, {})]
    scale = next(one["scale"] for one in said if one["field"] == field)
    return lines.Scale(*scale["domain"], pixels, log=scale.get("type") == "log")


@pytest.mark.parametrize("layout", CASES)
def test_labels_of_points_do_not_overlap(tradeoff: style.Figure, layout: style.Layout) -> None:
    for panel, shown in zip(panels(tradeoff, layout), data(tradeoff, "align", layout), strict=True):
        across, up = _scale(panel, "x:x", panel["width"]), _scale(panel, "y:y", panel["height"])
        boxes = [
            labels.Label(
                one["name"], across.height - across.pixel(one["label_x"]), up.pixel(one["label_y"]), one["align"], False
            ).box
            for one in shown
        ]
        assert not [pair for pair in itertools.combinations(boxes, 2) if _cover(*pair)]
        assert all(box.left > -1 and box.right < across.height + 1 for box in boxes)


def _cover(one: labels.Box, other: labels.Box) -> bool:
    """As `covers`, but for what rounding moves."""
    return labels.Box(one.left + 0.01, one.top + 0.01, one.right - 0.01, one.bottom - 0.01).covers(other)


@pytest.mark.slow
def test_the_front_and_full_attention_are_named(tradeoff: style.Figure) -> None:
    for layout in LAYOUTS:
        for every, shown in zip(data(tradeoff, "group", layout), data(tradeoff, "align", layout), strict=True):
            must = {row["name"] for row in every if row["group"] != points.GROUPS[2]}
            assert must
            assert must <= {row["name"] for row in shown}


def test_a_figure_without_room_for_any_name_is_drawn(frame: pd.DataFrame) -> None:
    one = frame[(frame["task"] == "listops") & (frame["model"] == "linear")].assign(model="x" * 90)
    assert not data(charts.tradeoff(by_place(one)), "align")


def test_a_label_without_room_is_left_out_and_one_that_must_stand_covers_no_other() -> None:
    crowd = [Point(50, 50, 3, f"model-{i}") for i in range(30)]
    placed = [label for label in labels.around(crowd, 200, 100) if label]
    assert len(placed) < 30
    assert not [pair for pair in itertools.combinations([label.box for label in placed], 2) if pair[0].covers(pair[1])]
    wall = [Point(float(x), float(y), 9, "") for x in range(0, 200, 16) for y in range(0, 100, 16)]
    here, *_ = labels.around([Point(100, 50, 3, "first", must=True), *wall], 200, 100)
    assert here is not None


def luminance(color: str) -> float:
    return float(linear(color) @ [0.2126, 0.7152, 0.0722])


def linear(color: str) -> np.ndarray:
    shares = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    f = np.cbrt(xyz / [0.9505, 1, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", [style.LIGHT, style.DARK])
def test_text_axes_and_lines_have_contrast_in_both_themes(theme: style.Theme) -> None:
    """WCAG 2: 4.5 for text, 3 for what has to be seen of graphics."""
    made = style.config(theme)
    assert made["background"] == theme.ground
    text = [made[part][key] for part in ("axis", "legend") for key in ("labelColor", "titleColor")]
    text += [made["title"]["color"], made["title"]["subtitleColor"], made["style"]["label"]["color"], theme.accent]
    assert all(contrast(color, theme.ground) >= 4.5 for color in text)
    graphics = [*theme.hues, made["axis"]["domainColor"], made["axis"]["tickColor"]]
    assert all(contrast(color, theme.ground) >= 3 for color in graphics)
    assert f"--ground: {theme.ground}" in style.css(theme)


@pytest.mark.parametrize("theme", [style.LIGHT, style.DARK])
@pytest.mark.parametrize("eyes", BLIND)
def test_hues_are_told_apart_by_all_eyes(theme: style.Theme, eyes: str) -> None:
    seen = [lab(np.array(BLIND[eyes]) @ linear(color)) for color in theme.hues]
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2)) > 15


def test_no_two_lines_look_alike(facts: list[dict[str, Any]]) -> None:
    looks = [(at % style.HUES, str(style.look(at).dash)) for at in range(style.MOST)]
    assert len(set(looks)) == style.MOST
    (panel,) = panels(charts.growth(facts, FAMILIES))
    dashes = next(one for one in (layer["encoding"].get("strokeDash") for layer in panel["layer"]) if one)
    assert len(dashes["scale"]["domain"]) == len(dashes["scale"]["range"]) <= style.MOST


def test_what_is_drawn_holds_to_vega_lites_schema(
    tradeoff: style.Figure, facts: list[dict[str, Any]], frame: pd.DataFrame
) -> None:
    """The page is made without this check."""
    curves = charts.curves(frame[frame["model"].isin(["linear", "softmax"])])
    for figure in (tradeoff, charts.growth(facts, FAMILIES), curves):
        made = style.styled(figure)
        made.to_dict()
        made.concat[0].layer[0].mark = "nothing"
        with pytest.raises(SchemaValidationError, match="nothing"):
            made.to_dict()


def test_growth_is_drawn_with_each_models_family(facts: list[dict[str, Any]]) -> None:
    figure = charts.growth(facts, FAMILIES)
    drawn = [row for rows in data(figure, "exponent") for row in rows]
    assert {row["family"] for row in drawn} == set(FAMILIES.values())
    assert round(next(row["exponent"] for row in drawn if row["model"] == "softmax[impl=auto]"), 2) == 1.89


def test_models_that_are_asked_for_are_drawn_alone(facts: list[dict[str, Any]]) -> None:
    asked = ["softmax[impl=auto]", "linear"]
    figure = charts.growth(facts, FAMILIES, asked)
    assert {row["model"] for rows in data(figure, "exponent") for row in rows} == {"softmax", "linear"}
    title = figure.to_dict()["title"]
    assert title["text"] == "Time of a training step against sequence length"
    assert title["subtitle"] == ["batch 4, median of 6 rounds or more; AMD EPYC, 2 cores"]
    both = charts.growth(facts, FAMILIES, ["softmax"])
    assert {row["model"] for rows in data(both, "exponent") for row in rows} == {
        "softmax[impl=auto]", "softmax[impl=plain]",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="--model sofmax: no step of it was timed; did you mean 'softmax'"):
        charts.growth(facts, FAMILIES, ["sofmax"])


def test_without_names_those_of_the_benchmarks_paper_are_told_apart(facts: list[dict[str, Any]]) -> None:
    named = {row["model"] for rows in data(charts.growth(facts, FAMILIES), "label") for row in rows}
    assert {"linformer", "performer", "reformer", "softmax[impl=auto]", "fnet"} <= named
    assert "hyena" not in named


def test_a_model_looks_alike_in_each_panel(frame: pd.DataFrame) -> None:
    first, second = (
        next(one["scale"] for one in (layer["encoding"].get("color") for layer in panel["layer"]) if one)
        for panel in panels(charts.curves(frame))
    )
    assert first == second
    assert first["domain"][0] == "softmax", "the baseline has the ink"


def test_sparsity_is_drawn_with_a_line_for_each_way() -> None:
    figure = charts.sparsity(store.to_dataframe([ROOT / "results/techniques"]))
    names = {row["model"] for rows in data(figure, "label") for row in rows}
    assert {"softmax, magnitude, 0 steps", "softmax, magnitude, 100 steps", "softmax, movement, 100 steps"} <= names


def test_a_picture_is_opaque(facts: list[dict[str, Any]], tmp_path: Path) -> None:
    from PIL import Image

    charts.save(charts.growth(facts, FAMILIES, ["softmax", "linear"]), tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    assert (pixels[..., 3] == 255).all()
    assert tuple(pixels[0, 0, :3]) == (255, 255, 255)


def step(model: str, ms: float, spread: float = 0.0, size: int = 2**20) -> dict[str, Any]:
    laps = [ms - spread] * 4 + [ms] + [ms + spread] * 4
    return {"model": model, "options": {}, "length": 64, "step_ms_p50": ms, "laps_ms": laps, "compiled_bytes": size}


def summed(scores: Sequence[float], metric: str = "accuracy") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": [f"m{i}" for i in range(len(scores))], "column": "listops quick", "metric": metric,
            "test_score": scores, "test_low": [s - 0.1 for s in scores], "test_high": [s + 0.1 for s in scores],
            "rank": range(1, 1 + len(scores)),
        }
    )  # fmt: skip


def test_the_headline_counts_what_the_intervals_tell() -> None:
    """A model whose interval meets full attention's is not said to be faster."""
    measured = [step("softmax", 100.0, 5.0), step("linear", 20.0), step("performer", 98.0, 5.0, 2**21)]
    measured.append(step("fnet", 10.0, size=3 * 2**20))
    random.Random(0).shuffle(measured)
    said = headline.headline(summed([0.5]), measured)
    assert said == (
        "Best score, listops quick: m0 with 50.0% (95% interval 40.0-60.0). At 64 tokens, 2 of 3 efficient models take "
        "less time for a training step than full attention; fnet, the fastest, is 10 times as fast"
    )
    found = headline.findings(summed([0.5, 0.7]), measured)
    assert [(one.title, one.model, one.value) for one in found] == [
        ("Best score, listops quick", "m1", "70.0%"),
        ("Fastest step, 64 tokens", "fnet", "10 ms"),
        ("Least compiled memory, 64 tokens", "linear", "1 MiB"),
    ]


def test_the_best_of_single_runs_is_said_to_be_one_of_several() -> None:
    """Without ranks, the intervals tell which scores are apart."""
    single = summed([0.5, 0.72, 0.7, 0.71]).drop(columns="rank")
    (best,) = headline.findings(single, [])
    assert (best.model, best.said) == ("m1", "95% interval 62.0-82.0; not told from 2 others")
    (alone,) = headline.findings(summed([0.5, 0.72]).drop(columns="rank"), [])
    assert alone.said == "95% interval 62.0-82.0"
    (ranked,) = headline.findings(summed([0.5, 0.72]), [])
    assert ranked.said == "95% interval 62.0-82.0; 1 of 2 models share rank 1"


def test_the_headline_without_steps_is_of_scores() -> None:
    assert headline.headline(summed([0.5, 0.72]), []) == (
        "Best score, listops quick: m1 with 72.0% (95% interval 62.0-82.0; 1 of 2 models share rank 1)"
    )
    error = headline.findings(summed([0.5, 0.7], "mean-squared-error"), [])
    assert error[0].model == "m0", "the lower is the better"


@pytest.mark.parametrize("beside", [[], [step("linear", 9.0)]])
def test_without_full_attention_no_length_is_told(beside: list[dict[str, Any]]) -> None:
    assert headline.longest(beside) is None
