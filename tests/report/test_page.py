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
from samples import Lra

from lra_bench import mixers
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.report import charts, tables
from lra_bench.report.page import page

QUICK = Path(__file__).parents[2] / "results" / "quick"
SPEED = Path(__file__).parents[2] / "results" / "speed" / "bench.json"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
HOSTILE = "<script>document.title='taken'</script>&'\""


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    return store.frame([QUICK])


@pytest.fixture(scope="session")
def html(frame: pd.DataFrame) -> str:
    return page(frame, json.loads(SPEED.read_text()), QUICK / "report.html")


def body(html: str) -> str:
    """Without the libraries that draw."""
    return html[: html.index('<script type="application/json"')]


def test_every_model_has_a_line_on_every_task(html: str, frame: pd.DataFrame) -> None:
    lines = re.findall(r'<tr data-task="([^"]+)" data-family="[^"]+" data-model="([^"]+)"', html)
    assert len(lines) == len(set(lines)) == 2 * frame["model"].nunique()
    assert {model for _, model in lines} == set(mixers.names())
    assert 'class="control"' in html
    assert all(part in html for part in ('id="tradeoff"', 'id="growth"', 'id="curves"', 'id="budget"', 'id="measured"'))


def test_links_lead_to_the_rows(html: str, frame: pd.DataFrame) -> None:
    links = re.findall(r'href="(runs/[^"]+/result\.json)"', html)
    assert len(set(links)) == len(frame)
    assert all((QUICK / link).is_file() for link in links)


def test_nothing_is_fetched(html: str) -> None:
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", body(html))
    assert "@import" not in html.split("</style>")[0]
    assert len(html) < 5 * 2**20


def test_a_name_is_no_markup(frame: pd.DataFrame) -> None:
    one = frame.head(3).assign(model=HOSTILE, family=HOSTILE, device=HOSTILE)
    text = page(one, [], QUICK / "report.html")
    assert "<script>document.title" not in text
    assert "&lt;script&gt;document.title" in text


@pytest.mark.slow
def test_what_failed_stands_as_failed(frame: pd.DataFrame) -> None:
    one = frame[(frame["model"] == "linear") & (frame["task"] == "mqar")].copy()
    one["status"] = ["oom", "ok", "at-chance"]
    one.loc[one["status"] == "oom", "test_score"] = None
    assert "FAIL 1 of 3" in page(one, [], QUICK / "report.html")
    assert " chance 1 of 2" in page(one, [], QUICK / "report.html")
    both = pd.concat([one, frame[frame["model"] == "softmax"].assign(status="nan", test_score=None)])
    assert "FAIL (nan)" in page(both, [], QUICK / "report.html")
    with pytest.raises(ConfigError, match="no run here has finished"):
        page(one[one["status"] == "oom"].reset_index(drop=True), [], QUICK / "report.html")


@pytest.mark.slow
def test_a_line_has_the_times_of_one_place_and_names_another(frame: pd.DataFrame) -> None:
    """No mean over machines on the leaderboard; a fallback behind its number; and codes that are mixed, in words."""
    one = frame[(frame["task"] == "mqar") & frame["model"].isin(["linear", "softmax", "fnet"])].copy()
    away, fell = (one["model"] == "fnet"), (one["model"] == "softmax")
    one.loc[away, ["platform", "device"]] = ["gpu", "NVIDIA H100"]
    one["fallback"] = one["fallback"].astype(object).where(~fell, "accumulate 2")
    one.loc[fell, "step_ms_p50"] = 77.0
    one = one.assign(code_hash=["a" * 64 if far else "b" * 64 for far in away])
    text = page(one, [], QUICK / "report.html")
    assert "77 accumulate 2</td>" in text.replace("\n", "")
    assert re.search(r'data-sort="">[\d.,]+, 1 x NVIDIA H100</td>', text), "a time of another machine sorts with none"
    assert "NOT OF THE SAME CODE, its results have 2 hashes" in text
    points = next(iter(charts.tradeoff(one).to_dict()["datasets"].values()))
    assert {p["column"] for p in points if p["model"] == "fnet"} == {"mqar quick, 1 x NVIDIA H100"}
    assert {p["named"] for p in points if p["model"] == "softmax"} == {"softmax accumulate 2"}


@pytest.mark.slow
def test_a_table_without_its_runs_has_a_page_too(frame: pd.DataFrame) -> None:
    text = page(frame.assign(folder=None, examples_per_s=None), [], QUICK / "report.html")
    assert 'id="curves"' not in text
    assert 'data-chart="tradeoff"' not in text
    assert 'id="tradeoff"' in text, "its tables are there"
    assert "result.json" not in body(text)


@pytest.mark.slow
def test_the_best_comes_first_where_the_lower_is_the_better(frame: pd.DataFrame) -> None:
    error = frame[frame["task"] == "mqar"].assign(metric="mean-squared-error", test_spread=0.1, family="full")
    lines = re.findall(r'data-model="([^"]+)"', page(error, [], QUICK / "report.html"))
    best = error.groupby("model")["test_score"].mean().sort_values()
    assert (lines[0], lines[-1]) == (best.index[0], best.index[-1])


def test_the_line_joins_what_no_other_beats_in_both(frame: pd.DataFrame) -> None:
    drawn = charts.tradeoff(frame[frame["task"] == "mqar"]).to_dict()
    points = next(iter(drawn["datasets"].values()))
    best = {point["model"] for point in points if point["best"]}
    ends = [max(points, key=lambda point, key=key: point[key])["model"] for key in ("shown", "examples_per_s")]
    assert set(ends) <= best, "the most accurate and the fastest"
    for point in points:
        like = [other for other in points if other["column"] == point["column"]]
        beaten = any(o["shown"] > point["shown"] and o["examples_per_s"] > point["examples_per_s"] for o in like)
        assert not (beaten and point["best"])


@pytest.mark.parametrize(("suffix", "magic"), [(".svg", b"<svg"), (".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_figures_are_files_of_their_kind(frame: pd.DataFrame, tmp_path: Path, suffix: str, magic: bytes) -> None:
    path = tmp_path / "deep" / f"figure{suffix}"
    charts.save(charts.curves(frame[frame["model"].isin(["softmax", "linear"])]), path)
    assert path.read_bytes().startswith(magic)
    with pytest.raises(ConfigError, match=r"figure\.gif: must end in \.svg, \.png, \.pdf"):
        charts.save(charts.curves(frame), tmp_path / "figure.gif")


def test_growth_is_drawn_with_each_models_family() -> None:
    families = {name: mixers.sheet(name).card.family for name in mixers.names()}
    drawn = charts.growth(json.loads(SPEED.read_text()), families).to_dict()
    points = next(iter(drawn["datasets"].values()))
    assert {p["family"] for p in points} == set(families.values())
    assert round(next(p["exponent"] for p in points if p["model"] == "softmax[impl=auto]"), 2) == 1.95


@pytest.mark.slow
def test_the_commands(lra: Lra, tmp_path: Path) -> None:
    made = lra("report", QUICK, "--speed", SPEED, "--out", "deep/report.html")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "deep/report.html").stat().st_size > 2**19
    drawn = lra("plot", QUICK, "--kind", "tradeoff", "-t", "mqar", "--out", "figure.png")
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    wrong = lra("plot", QUICK, "-t", "mqr")
    assert (wrong.returncode, wrong.stderr) == (2, "lra: --task mqr: no run of it here; did you mean 'mqar'?\n")
    none = lra("plot", "--kind", "scaling")
    assert none.returncode == 2
    assert "lra speed --out" in none.stderr
    for ignored in ((QUICK, "--kind", "scaling"), (QUICK, "--speed", SPEED)):
        refused = lra("plot", *ignored)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


@pytest.fixture
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("no Chromium on PATH (apt-get install chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1300,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = shutil.which("chromedriver")
    service = webdriver.ChromeService(executable_path=driver) if driver else None
    browser = webdriver.Chrome(options=options, service=service)
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
    Select(browser.find_element(By.ID, "task")).select_by_visible_text("mqar quick")
    assert len(shown(browser)) == 41
    heads = {head.text: head for head in browser.find_elements(By.CSS_SELECTOR, "#board th button")}
    heads["ms/step"].click()
    falling = shown(browser)
    heads["ms/step"].click()
    times = frame[frame["task"] == "mqar"].groupby("model")["step_ms_p50"].mean().sort_values()
    assert shown(browser) == list(times.index)
    assert falling == shown(browser)[::-1]
    heads["model"].click()
    assert shown(browser) == sorted(shown(browser))
    Select(browser.find_element(By.ID, "family")).select_by_visible_text("kernel")
    assert shown(browser) == ["cosformer", "linear", "performer", "rfa"]
    assert browser.find_element(By.ID, "count").text == "4 of 82"
    circles = browser.find_elements(By.CSS_SELECTOR, "[data-chart=tradeoff] .tag-symbol.role-mark path")
    assert len(circles) == len(tables.measured(frame))
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
