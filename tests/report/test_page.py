"""The page and the figures: whole, offline, safe; looked at in a real browser where there is one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from samples import Lra, by_place

from lra_bench import mixers
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.report import charts, labels, tables
from lra_bench.report.drawing import style
from lra_bench.report.page import page

QUICK = Path(__file__).parents[2] / "results" / "quick"
SPEED = Path(__file__).parents[2] / "results" / "speed" / "cpu.json"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
HOSTILE = "<script>document.title='taken'</script>&'\""


# A page of every kept model takes a quarter of a minute to make.
FEW = ("softmax", "linformer", "linear", "fnet", "local", "performer", "conv-local", "s4d")


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    every = store.to_dataframe([QUICK])
    return every[every["model"].isin(FEW)]


@pytest.fixture(scope="session")
def html(frame: pd.DataFrame) -> str:
    return page(frame, [fact for fact in json.loads(SPEED.read_text()) if fact["model"] in FEW])


def body(html: str) -> str:
    """Without the libraries that draw."""
    return html[: html.index('<script type="application/json"')]


def drawn(figure: Any, key: str) -> list[dict[str, Any]]:
    """The points of a figure that have a key."""
    every = [point for points in figure.to_dict()["datasets"].values() for point in points]
    return [point for point in every if key in point]


def test_every_model_has_a_line_on_every_task(html: str, frame: pd.DataFrame) -> None:
    lines = re.findall(r'<tr data-task="([^"]+)" data-family="[^"]+" data-model="([^"]+)"', html)
    assert len(lines) == len(set(lines)) == 2 * frame["model"].nunique()
    assert {model for _, model in lines} == set(FEW)
    assert 'class="control"' in html
    assert all(part in html for part in ('id="tradeoff"', 'id="growth"', 'id="curves"', 'id="budget"', 'id="measured"'))


def test_a_mailed_page_has_no_dead_link(html: str, frame: pd.DataFrame) -> None:
    """It is one file: its links lead into itself, or to a paper."""
    links = set(re.findall(r"""href=["']([^"']*)["']""", body(html)))
    inner = {link for link in links if link.startswith("#")}
    ids = set(re.findall(r"""[ ]id=["']([^"']+)["']""", body(html)))
    assert {link.removeprefix("#") for link in inner} - {""} <= ids
    assert all(re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{4,5}", link) for link in links - inner)
    assert {f"#run-{run}" for run in frame["run"]} <= inner


def test_each_model_has_a_section_with_its_paper_and_its_runs(html: str, frame: pd.DataFrame) -> None:
    sections = dict(re.findall(r'<details id="model-([^"]+)">(.*?)</details>', html, re.DOTALL))
    assert set(sections) == set(frame["model"])
    for name, section in sections.items():
        model_card = mixers.model_card(name)
        assert f"https://arxiv.org/abs/{model_card.card.paper}" in section
        assert all(f"<code>{option.name} = " in section for option in model_card.options)
    one = frame[frame["model"] == "linformer"]
    assert all(f"lra reproduce {folder}</code>" in sections["linformer"] for folder in one["folder"])
    assert html.count('<a href="#model-linformer">') >= 2 * 2, "in the leaderboard, and in the tables"


def test_labels_that_look_alike_have_places_of_their_own() -> None:
    assert labels.anchors(["linear", "linear[a=1]", "linear[a,1]", "linear"]) == {
        "linear": "model-linear", "linear[a=1]": "model-linear-a-1", "linear[a,1]": "model-linear-a-1-2",
    }  # fmt: skip
    assert labels.anchor("linear[b=2] + prune", {"linear": "model-linear"}) == "model-linear"
    assert labels.anchor("other", {"linear": "model-linear"}) is None


def test_nothing_is_fetched(html: str) -> None:
    assert not re.findall(r"""src=["']?(?:https?:)?//""", body(html))
    assert "<link" not in body(html)
    assert "@import" not in html.split("</style>")[0]
    assert len(html) < 5 * 2**20


def test_a_name_is_no_markup(frame: pd.DataFrame) -> None:
    one = frame.head(3).assign(model=HOSTILE, family=HOSTILE, device=HOSTILE)
    text = page(one, [])
    assert "<script>document.title" not in text
    assert "&lt;script&gt;document.title" in text


def test_scores_at_other_lengths_are_a_column_where_there_are_some(frame: pd.DataFrame) -> None:
    one = frame[(frame["task"] == "recall-one") & frame["model"].isin(["linear", "fnet"])].copy()
    assert "other lengths" not in page(one, [])
    one["test_at"] = ['{"64": 0.5, "128": null}' if model == "linear" else None for model in one["model"]]
    text = page(one, [])
    assert text.count("64: 50.0; 128: bound") == 1
    cells = [line.count("<td") for line in re.findall(r"<tr data-task=.*?</tr>", text, re.DOTALL)]
    assert cells == [text.partition("</thead>")[0].rpartition("<thead")[2].count("<th")] * 2


def test_scores_of_the_parts_of_a_text_are_a_table_where_there_are_some(frame: pd.DataFrame) -> None:
    """Of a model's three seeds, their mean; a model without such scores has no line."""
    one = frame[(frame["task"] == "recall-one") & frame["model"].isin(["linear", "fnet"])].copy()
    assert tables.by_place(tables.summary(one)) is None
    assert "Scores by place" not in page(one, [])
    of_seeds = iter([0.25, 0.5, 0.75])
    one["test_by_place"] = [
        f'{{"0": {next(of_seeds)}, "16": 1.0}}' if model == "linear" else None for model in one["model"]
    ]
    found = tables.by_place(tables.summary(one))
    assert found is not None
    assert found.cells.to_dict("index") == {
        "linear": {"recall-one quick from 0": "50.0", "recall-one quick from 16": "100.0"}
    }
    assert "Scores by place" in page(one, [])


@pytest.mark.sweep
def test_what_failed_stands_as_failed(frame: pd.DataFrame) -> None:
    one = frame[(frame["model"] == "linear") & (frame["task"] == "recall-one")].copy()
    one["status"] = ["oom", "ok", "at-chance"]
    one.loc[one["status"] == "oom", "test_score"] = None
    assert "FAIL 1 of 3" in page(one, [])
    assert " chance 1 of 2" in page(one, [])
    both = pd.concat([one, frame[frame["model"] == "softmax"].assign(status="nan", test_score=None)])
    assert "FAIL (nan)" in page(both, [])
    with pytest.raises(ConfigError, match="no run here has finished"):
        page(one[one["status"] == "oom"].reset_index(drop=True), [])


@pytest.mark.slow
def test_a_line_has_the_times_of_one_place_and_names_another(frame: pd.DataFrame) -> None:
    """No mean over machines on the leaderboard; a fallback behind its number; and codes that are mixed, in words."""
    one = frame[(frame["task"] == "recall-one") & frame["model"].isin(["linear", "softmax", "fnet"])].copy()
    away, fell = (one["model"] == "fnet"), (one["model"] == "softmax")
    one.loc[away, ["platform", "device"]] = ["gpu", "NVIDIA H100"]
    one["fallback"] = one["fallback"].astype(object).where(~fell, "accumulate 2")
    one.loc[fell, "step_ms_p50"] = 77.0
    one = one.assign(code_hash=["a" * 64 if far else "b" * 64 for far in away])
    text = page(one, [])
    assert "77 accumulate 2</td>" in text.replace("\n", "")
    assert re.search(r'data-sort="">[\d.,]+<sup>a</sup></td>', text), "a time of another machine sorts with none"
    assert "<sup>a</sup> recall-one quick, 1 x NVIDIA H100" in text
    assert "NOT OF THE SAME CODE, its results have 2 hashes" in text
    points = drawn(charts.tradeoff(by_place(one)), "group")
    assert {p["column"] for p in points if p["model"] == "fnet"} == {"recall-one quick, 1 x NVIDIA H100"}
    assert {p["name"] for p in points if p["model"] == "softmax"} == {"softmax accumulate 2"}


def test_what_decoding_keeps_is_drawn_where_models_are_causal(html: str) -> None:
    assert 'id="state"' not in html
    every = store.to_dataframe([QUICK.parent / "recall"])
    causal = every[every["model"].isin(["softmax", "linear", "lru"])]
    text = page(causal, [])
    assert 'data-chart="state"' in text
    states = {p["model"]: p["x"] for p in drawn(charts.state(tables.summary(causal)), "group")}
    assert states["softmax"] == 2 * 2 * 64 * 64 * 4 + 2 * 4, "keys and values of two layers, and two counters"


@pytest.mark.slow
def test_a_table_without_its_runs_has_a_page_too(frame: pd.DataFrame) -> None:
    text = page(frame.assign(folder=None, examples_per_s=None), [])
    assert 'id="curves"' not in text
    assert 'data-chart="tradeoff"' not in text
    assert 'id="tradeoff"' in text, "its tables are there"
    assert "result.json" not in body(text)


@pytest.mark.sweep
def test_the_best_comes_first_where_the_lower_is_the_better(frame: pd.DataFrame) -> None:
    error = frame[frame["task"] == "recall-one"].assign(metric="mean-squared-error", test_spread=0.1, family="full")
    lines = re.findall(r'data-model="([^"]+)"', page(error, []))
    best = error.groupby("model")["test_score"].mean().sort_values()
    assert (lines[0], lines[-1]) == (best.index[0], best.index[-1])


def test_the_line_joins_what_no_other_beats_in_both(frame: pd.DataFrame) -> None:
    points = drawn(charts.tradeoff(by_place(frame[frame["task"] == "recall-one"])), "group")
    best = {point["model"] for point in points if point["best"]}
    ends = [max(points, key=lambda point, key=key: point[key])["model"] for key in ("y", "x")]
    assert set(ends) <= best, "the most accurate and the fastest"
    for point in points:
        like = [other for other in points if other["column"] == point["column"]]
        beaten = any(o["y"] > point["y"] and o["x"] > point["x"] for o in like)
        assert not (beaten and point["best"])


@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<svg"), (".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_figures_are_files_of_their_kind(frame: pd.DataFrame, tmp_path: Path, suffix: str, magic: bytes) -> None:
    path = tmp_path / "deep" / f"figure{suffix}"
    charts.save(charts.curves(frame[frame["model"].isin(["softmax", "linear"])]), path)
    assert path.read_bytes().startswith(magic)
    with pytest.raises(ConfigError, match=r"figure\.gif: must end in \.svg, \.png, \.pdf"):
        charts.save(charts.curves(frame), tmp_path / "figure.gif")


@pytest.mark.slow
def test_the_commands(lra: Lra, tmp_path: Path) -> None:
    made = lra("report", QUICK, "--speed", SPEED, "--out", "deep/report.html")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "deep/report.html").stat().st_size > 2**19
    drawn = lra("plot", QUICK, "--kind", "tradeoff", "-t", "recall-one", "--out", "figure.png")
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    wrong = lra("plot", QUICK, "-t", "recall-oen")
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "lra: --task recall-oen: no run of it here; did you mean 'recall-one'?\n",
    )
    none = lra("plot", "--kind", "scaling")
    assert none.returncode == 2
    assert "lra speed --out" in none.stderr
    some = lra("plot", "--kind", "scaling", "--speed", SPEED, "-m", "linear,softmax[impl=auto]", "--out", "some.svg")
    assert some.returncode == 0, some.stderr
    assert {"linear", "softmax"} <= set(re.findall(r">([^<>]+)</text>", (tmp_path / "some.svg").read_text()))
    for ignored in ((QUICK, "--kind", "scaling"), (QUICK, "--speed", SPEED), (QUICK, "-m", "linear")):
        refused = lra("plot", *ignored)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


@pytest.fixture
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("no Chromium on PATH (apt-get install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.common.exceptions import NoSuchDriverException

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1300,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = shutil.which("chromedriver")
    service = webdriver.ChromeService(executable_path=driver) if driver else None
    try:
        browser = webdriver.Chrome(options=options, service=service)
    except NoSuchDriverException:
        pytest.skip("no chromedriver on PATH, and none to be had (apt-get install chromium-driver)")
    yield browser
    browser.quit()


def shown(browser: Any) -> list[str]:
    """The models of the lines that are to be seen, in order."""
    script = "return [...document.querySelectorAll('#board tbody tr')].filter(r => !r.hidden).map(r => r.dataset.model)"
    return list(browser.execute_script(script))


def test_in_a_browser_it_sorts_filters_and_draws(browser: Any, html: str, frame: pd.DataFrame, tmp_path: Path) -> None:
    from PIL import Image
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select, WebDriverWait

    file = tmp_path / "report.html"
    file.write_text(html)
    browser.get(file.as_uri())
    WebDriverWait(browser, 30).until(lambda b: len(b.find_elements(By.CSS_SELECTOR, ".chart svg.marks")) == 3)
    Select(browser.find_element(By.ID, "task")).select_by_visible_text("recall-one quick")
    assert len(shown(browser)) == 41
    heads = {head.text: head for head in browser.find_elements(By.CSS_SELECTOR, "#board th button")}
    heads["ms/step"].click()
    falling = shown(browser)
    heads["ms/step"].click()
    rows = tables.measured(frame[frame["task"] == "recall-one"])
    times = rows[rows["code_hash"] == rows["code_hash"].mode()[0]].set_index("model")["step_ms_p50"].sort_values()
    assert shown(browser)[: len(times)] == list(times.index)
    assert falling[: len(times)] == list(times.index)[::-1], "what was measured elsewhere comes last"
    heads["model"].click()
    assert shown(browser) == sorted(shown(browser))
    Select(browser.find_element(By.ID, "family")).select_by_visible_text("kernel")
    assert shown(browser) == ["cosformer", "linear", "performer", "rfa"]
    assert browser.find_element(By.ID, "count").text == "4 of 82"
    points = browser.find_elements(By.CSS_SELECTOR, "[data-chart=tradeoff] .mark-symbol.role-mark path")
    assert len(points) == len(tables.measured(frame).dropna(subset=["examples_per_s", "compiled_bytes"]))
    pale = [point for point in points if point.get_attribute("opacity") == "0.06"]
    assert len(points) - len(pale) == sum(tables.measured(frame).dropna(subset="examples_per_s")["family"] == "kernel")
    browser.execute_script("URL.createObjectURL = (blob) => { blob.text().then((text) => saved = text); return '#'; }")
    browser.find_element(By.ID, "download").click()
    saved = WebDriverWait(browser, 10).until(lambda b: b.execute_script("return window.saved"))
    assert saved.startswith('"rank","model"')
    assert [line.split(",")[1] for line in saved.splitlines()[1:]] == [f'"{name}"' for name in shown(browser)]
    Select(browser.find_element(By.ID, "family")).select_by_visible_text("all")
    browser.execute_script("document.getElementById('tradeoff').scrollIntoView()")
    browser.save_screenshot(str(tmp_path / "seen.png"))
    with Image.open(tmp_path / "seen.png") as picture:
        colors = picture.convert("RGB").getcolors(2**24)
    assert colors is not None
    assert len(colors) > 100, "something is drawn"
    assert sum(n for n, (r, g, b) in colors if max(r, g, b) - min(r, g, b) > 80) > 2000, "in color"
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe
    sent = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"]
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)


@pytest.mark.slow
def test_in_a_browser_dark_mode_and_a_phone(browser: Any, html: str, tmp_path: Path) -> None:
    """Axes and text of figures change with the page's ground; nothing is wider than a phone; the first screen shows
    the headline and a figure; a link to a run opens its model."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    file = tmp_path / "report.html"
    file.write_text(html)
    for theme, scheme, width, height in ((style.LIGHT, "light", 1280, 800), (style.DARK, "dark", 390, 844)):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.get(file.as_uri())
        WebDriverWait(browser, 30).until(lambda b: len(b.find_elements(By.CSS_SELECTOR, ".chart svg.marks")) == 3)
        texts = browser.find_elements(By.CSS_SELECTOR, ".chart [class*=role-axis-label] text")
        assert {text.get_attribute("fill") for text in texts} == {theme.ink}
        domains = browser.find_elements(By.CSS_SELECTOR, ".chart .role-axis-domain line")
        assert {line.get_attribute("stroke") for line in domains} == {theme.soft}
        grounds = browser.find_elements(By.CSS_SELECTOR, ".chart svg.marks")
        colors = {re.sub(r"[^\d,]", "", svg.value_of_css_property("background-color")) for svg in grounds}
        red, green, blue = bytes.fromhex(theme.ground[1:])
        assert colors <= {f"{red},{green},{blue}", f"{red},{green},{blue},1"}
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        figure = browser.find_element(By.CSS_SELECTOR, "header .chart svg").rect
        assert figure["y"] + figure["height"] <= height
    run = re.search(r'href="#(run-[0-9a-f]+)"', html)
    assert run is not None
    browser.execute_script(f"location.hash = '{run[1]}'")
    WebDriverWait(browser, 10).until(lambda b: b.find_element(By.ID, run[1]).is_displayed())
