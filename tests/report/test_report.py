"""Tables: failures stand, nothing missing is a number, seeds are joined, differences are differences."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lra_bench import sweeps
from lra_bench.records import store
from lra_bench.records.schema import Result
from lra_bench.report import tables, techniques
from lra_bench.sweeps import Request


@pytest.fixture
def row(here: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.chdir(here)
    run = sweeps.runs(Request("softmax", "short", "tiny"))[0]
    facts = {"test_score": 0.4, "val_score": 0.5, "test_n": 2000, "chance": 0.175, "step_ms_p50": 20.0}
    return store.blank(run, "ok", examples_per_s=400.0, compiled_bytes=2**20, peak_bytes=2**21, **facts)


def frame(*rows: Result, origin: str = "results") -> pd.DataFrame:
    """Different results are of different runs."""
    ids = {row: str(hash(row)) for row in rows}
    return pd.DataFrame([row.as_dict() | {"run": ids[row], "origin": origin} for row in rows])


def compared(*rows: Result, metric: str = "accuracy", by: str = "model") -> tables.Comparison:
    joined = tables.summary if metric == "accuracy" else tables.measured
    return tables.compare(joined(frame(*rows), by), metric, by)


def cells(row: Result, *others: Result, metric: str = "accuracy", by: str = "model") -> dict[str, dict[str, Any]]:
    table = compared(row, *others, metric=metric, by=by).cells
    return {str(k): dict(v) for k, v in table.to_dict("index").items()}


def test_each_metric(row: Result) -> None:
    assert cells(row) == {"softmax": {"short tiny": "40.0 (37.9-42.2)"}}
    assert cells(row, metric="speed") == {"softmax": {"short tiny": "20 (400/s)"}}
    assert cells(row, metric="memory") == {"softmax": {"short tiny": "1 (2)"}}


def test_a_failure_stands_as_its_status_and_a_gap_stays_a_gap(row: Result) -> None:
    failed = dataclasses.replace(row, model="linear", status="oom", test_score=None)
    elsewhere = dataclasses.replace(row, model="local", task="other")
    table = cells(row, failed, elsewhere)
    assert table["linear"]["short tiny"] == "FAIL (oom)"
    assert table["local"]["short tiny"] == ""
    assert table["softmax"]["other tiny"] == ""


def test_a_row_that_did_not_learn_says_so(row: Result) -> None:
    low = dataclasses.replace(row, status="at-chance", test_score=0.18)
    assert cells(low)["softmax"]["short tiny"].endswith("chance")
    assert cells(low, metric="speed")["softmax"]["short tiny"].startswith("20"), "its time is a time like any other"
    assert not cells(row)["softmax"]["short tiny"].endswith("chance")


def test_an_error_is_shown_as_it_is_and_the_lower_the_better(row: Result) -> None:
    error = {"metric": "mean-squared-error", "test_spread": 0.2, "chance": 0.175}
    low = dataclasses.replace(row, **error, test_score=0.04)
    same = dataclasses.replace(row, **error, test_score=0.17, status="at-chance")
    assert cells(low)["softmax"]["short tiny"] == "0.04 (0.03123-0.04877)"
    assert cells(same)["softmax"]["short tiny"].endswith("chance")
    notes = tables.compare(tables.summary(frame(low)), "accuracy").notes
    assert any("mean squared error, the lower ↓ the better" in note for note in notes)


def test_a_variant_is_in_the_columns_name(row: Result) -> None:
    published = dataclasses.replace(row, variant="as-published")
    quick = dataclasses.replace(row, variant="tiny")
    assert set(cells(published)["softmax"]) == {"short@as-published tiny"}
    assert set(cells(quick)["softmax"]) == {"short tiny"}


def test_other_data_are_another_column_and_are_said_to_be(row: Result) -> None:
    """Three data sets under one name are no three seeds: no mean, no interval beyond 0 to 100."""
    one = dataclasses.replace(row, data_hash="a" * 64, test_score=0.99)
    two = dataclasses.replace(row, data_hash="b" * 64, test_score=0.4)
    three = dataclasses.replace(row, data_hash=None, test_score=0.02)
    table = compared(one, two, three)
    names = ["short tiny, data aaaaaaa", "short tiny, data bbbbbbb", "short tiny, data unknown"]
    assert list(table.cells.loc["softmax", names]) == ["99.0 (98.5-99.4)", "40.0 (37.9-42.2)", "2.0 (1.5-2.7)"]
    said = "short tiny: NOT OF THE SAME DATA, a column for each of 3 hashes: aaaaaaaaaa, bbbbbbbbbb, unknown"
    assert said in table.notes
    assert list(table.cells) == names, "no mean over data sets of one task"
    failed = dataclasses.replace(one, model="linear", data_hash=None, status="oom", test_score=None)
    alone = compared(one, dataclasses.replace(one, model="linear"), failed)
    assert list(alone.cells) == ["short tiny"], "what failed before it saw its data stands where the others do"
    assert not [note for note in alone.notes if "NOT" in note]


def test_a_configs_name_for_other_settings_is_another_column(row: Result) -> None:
    """A config that was edited between two runs: no mean over both, nor of two runs of one seed."""
    edited = dataclasses.replace(row, config_hash="0123456789", test_score=0.6)
    table = compared(row, edited)
    names = [f"short tiny, config {str(one.config_hash)[:7]}" for one in (row, edited)]
    assert list(table.cells.loc["softmax", names]) == ["40.0 (37.9-42.2)", "60.0 (57.8-62.1)"]
    assert any(note.startswith("short tiny: NOT OF THE SAME SETTINGS, a column for each of 2") for note in table.notes)


def test_a_run_from_two_places_counts_once(row: Result) -> None:
    twice = pd.concat([frame(row, origin="a"), frame(row, origin="b")])
    assert list(tables.summary(twice)["runs"]) == [1]
    assert list(tables.summary(twice, apart=True)["runs"]) == [1, 1]


def test_seeds_are_joined_with_students_interval(row: Result) -> None:
    others = [dataclasses.replace(row, seed=s, test_score=a) for s, a in ((1, 0.42), (2, 0.44))]
    text = cells(row, *others)["softmax"]["short tiny"]
    assert text == "42.0 (37.0-47.0, 3 runs)"
    failed = dataclasses.replace(row, seed=3, status="nan", test_score=None)
    assert cells(row, *others, failed)["softmax"]["short tiny"] == "42.0 (37.0-47.0, 3 runs) (FAIL 1 of 4: nan)"


def test_what_may_not_be_compared_has_a_column_of_its_own(row: Result) -> None:
    limited = dataclasses.replace(row, tag="tiny, limit 5")
    changed = dataclasses.replace(row, changed="training.steps=3")
    table = tables.compare(tables.summary(frame(row, limited, changed)), "accuracy")
    assert list(table.cells.columns) == ["short tiny", "short tiny [tiny, limit 5]", "short tiny #2"]
    assert "short tiny #2: version 1, n = 2,000, L = 20, batch 8, with training.steps=3" in table.notes


def test_one_model_with_two_settings_is_two_lines(row: Result) -> None:
    plain = dataclasses.replace(row, options=json.dumps({"impl": "plain"}))
    assert set(cells(row, plain)) == {"softmax[impl=auto]", "softmax[impl=plain]"}


def test_a_mean_is_over_what_every_model_finished(row: Result) -> None:
    both = [dataclasses.replace(row, model=m, task=t) for m in ("softmax", "linear") for t in ("short", "other")]
    only = dataclasses.replace(row, task="third")
    assert cells(*both, only)["linear"]["mean of 2"] == "40.0"
    assert "mean of 2" not in cells(*both[:3])["softmax"], "a mean of one is none"


def test_by_family(row: Result) -> None:
    other = dataclasses.replace(row, model="mine", test_score=0.44)
    assert cells(row, other, by="family") == {"full": {"short tiny": "42.0 (16.6-67.4, 2 runs)"}}


def test_what_is_exported_can_be_compared_again(row: Result, tmp_path: Path) -> None:
    summed = tables.summary(frame(row))
    for suffix in ("csv", "json"):
        path = tmp_path / f"t.{suffix}"
        path.write_text(tables.exported(summed, suffix))
        again = tables.summary(store.to_dataframe([path]))
        assert tables.compare(again, "accuracy").cells.equals(tables.compare(summed, "accuracy").cells)


def test_markdown_and_latex(row: Result) -> None:
    comparison = tables.compare(tables.summary(frame(row)), "accuracy")
    assert "| softmax | 40.0 (37.9-42.2) |" in tables.written(comparison, "md")
    latex = tables.written(comparison, "latex")
    assert r"\toprule" in latex
    assert "softmax & 40.0 (37.9-42.2)" in latex


def test_names_are_escaped(row: Result) -> None:
    hostile = dataclasses.replace(row, task="path_x & 5%", model="<b>50%_of</b>")
    comparison = tables.compare(tables.summary(frame(hostile)), "accuracy")
    latex, html = (tables.written(comparison, format) for format in ("latex", "html"))
    assert r"model & path\_x \& 5\% tiny" in latex
    assert r"\caption{test accuracy, \% $\uparrow$, with" in latex
    assert r"50\%\_of" in latex
    assert "<b>50%" not in html
    assert "path_x &amp; 5% tiny" in html
    assert "<h3>test accuracy, % ↑" in html


def test_times_beside_other_runs_are_said_to_be(row: Result) -> None:
    beside = dataclasses.replace(row, jobs=2)
    for what in ("speed", "memory"):
        said = [n for n in compared(beside, metric=what).notes if "at a time:" in n]
        assert said == ["short tiny: up to 2 runs at a time: no times and peaks of an idle machine"]
        assert not [n for n in compared(dataclasses.replace(row, jobs=1), metric=what).notes if "at a time" in n]


def test_two_versions_of_a_task_are_two_columns(row: Result) -> None:
    table = tables.compare(tables.summary(frame(row, dataclasses.replace(row, task_version=2))), "accuracy")
    assert list(table.cells.columns) == ["short tiny", "short tiny #2"]
    assert "short tiny #2: version 2, n = 2,000, L = 20, batch 8" in table.notes


H100 = {"platform": "gpu", "device": "NVIDIA H100", "devices": 1, "processes": 1}
CPU = {"platform": "cpu", "device": "AMD EPYC, 2 cores", "devices": 1, "processes": 1}


@pytest.mark.parametrize(
    ("other", "heads"),
    [
        (H100, ["short tiny, 1 x NVIDIA H100", "short tiny, AMD EPYC, 2 cores"]),
        (CPU | {"devices": 4}, ["short tiny, 4 x CPU devices", "short tiny, AMD EPYC, 2 cores"]),
        (CPU | {"processes": 2}, ["short tiny, 2 processes", "short tiny, 1 process"]),
        (CPU | {"jobs": 2}, ["short tiny, 2 jobs at once", "short tiny, 1 job"]),
        (CPU | {"code_hash": "b" * 64}, ["short tiny, code bbbbbbb", "short tiny, code aaaaaaa"]),
        (CPU | {"code_hash": None, "commit": "c" * 40}, ["short tiny, commit ccccccc", "short tiny, code aaaaaaa"]),
        (CPU | {"versions": '{"jax": "0.11"}'}, ["short tiny, jax 0.11", "short tiny, jax 0.10"]),
        (CPU | {"matmul": "tf32"}, ["short tiny, tf32 products", "short tiny, float32 products"]),
        (CPU | {"deterministic": True}, ["short tiny, deterministic", "short tiny, not deterministic"]),
        (CPU | {"environment": '{"XLA": "x"}'}, ["short tiny, XLA x", "short tiny, XLA unknown"]),
    ],
)
def test_no_time_is_a_mean_over_places(row: Result, other: dict[str, Any], heads: list[str]) -> None:
    """One model and two runs that differ in one thing alone: two columns, that which ran last first."""
    code = {"code_hash": "a" * 64, "versions": '{"jax": "0.10", "lra-bench": "0.1"}', "jobs": 1}
    more = {"matmul": "float32", "deterministic": False, "environment": "{}"}
    ours = dataclasses.replace(row, **CPU, **code, **more, started="2026-01-01", step_ms_p50=68.0)
    theirs = dataclasses.replace(ours, seed=1, **other, started="2026-01-02", step_ms_p50=2.0, compiled_bytes=2**22)
    for what, numbers in (("speed", ["2 (400/s)", "68 (400/s)"]), ("memory", ["4 (2)", "1 (2)"])):
        table = compared(ours, theirs, metric=what)
        assert list(table.cells) == heads
        assert list(table.cells.loc["softmax"]) == numbers
        assert any(note.startswith(f"{heads[0]}: measured on ") for note in table.notes)
    assert list(compared(ours, theirs).cells.columns) == ["short tiny"], "a score is of both"
    same = dataclasses.replace(ours, seed=1, versions='{"jax": "0.10", "lra-bench": "0.2"}', commit="d" * 40)
    assert cells(ours, same, metric="speed") == {"softmax": {"short tiny": "68 (400/s)"}}, "the same code and libraries"


def test_a_memory_fallback_stands_behind_its_numbers_and_in_no_mean(row: Result) -> None:
    fell = dataclasses.replace(row, seed=1, fallback="accumulate 4, remat", accumulate=4, step_ms_p50=60.0)
    assert cells(row, fell, metric="speed")["softmax"]["short tiny"] == "20 (400/s); 60 (400/s) accumulate 4, remat"
    assert cells(fell, metric="memory")["softmax"]["short tiny"] == "1 (2) accumulate 4, remat"
    assert any(note.startswith("accumulate k, remat: ") for note in compared(fell, metric="speed").notes)
    one, two = (dataclasses.replace(row, seed=seed, parts_hash=part * 64) for seed, part in enumerate("ef"))
    said = cells(one, two, metric="speed")["softmax"]["short tiny"]
    assert said == "20 (400/s) parts eeeeeee; 20 (400/s) parts fffffff"
    assert cells(one, metric="speed")["softmax"]["short tiny"] == "20 (400/s)"


def test_what_failed_stands_in_the_only_place_there_is(row: Result) -> None:
    ours = dataclasses.replace(row, **CPU, code_hash="a" * 64)
    failed = dataclasses.replace(row, seed=1, status="oom", test_score=None, step_ms_p50=None, compiled_bytes=None)
    assert cells(ours, failed, metric="speed") == {"softmax": {"short tiny": "20 (400/s) (FAIL 1 of 2: oom)"}}
    elsewhere = dataclasses.replace(ours, seed=2, **H100)
    said = cells(ours, elsewhere, failed, metric="speed")["softmax"]
    assert said["short tiny, device unknown"] == "FAIL (oom)"


def test_a_column_that_mixes_codes_says_so(row: Result) -> None:
    ours = dataclasses.replace(row, code_hash="a" * 64, parts_hash="1" * 64, matmul="float32", versions='{"jax": "1"}')
    plain = compared(ours, dataclasses.replace(ours, model="linear", parts_hash="2" * 64))
    assert not [note for note in plain.notes if "NOT" in note], "models have each their own parts"
    cases = [
        (
            {"model": "linear", "code_hash": "b" * 64},
            "NOT OF THE SAME CODE, its results have 2 hashes: aaaaaaa",
        ),
        ({"seed": 1, "parts_hash": "2" * 64}, "runs NOT OF THE SAME CODE of their mixer or source: softmax"),
        ({"code_hash": None, "commit": "c" * 40}, "NOT KNOWN TO BE OF THE SAME CODE, its results are of 1 hashes: aaa"),
        ({"seed": 1, "matmul": "tf32"}, "NOT OF THE SAME PRECISION, float32 products were float32, tf32"),
        ({"seed": 1, "versions": '{"jax": "2"}'}, "NOT OF THE SAME LIBRARIES: jax 1 / jax 2"),
    ]
    for facts, said in cases:
        notes = compared(ours, dataclasses.replace(ours, **{"seed": 5} | facts)).notes
        assert any(note.startswith(f"short tiny: {said}") for note in notes), (said, notes)


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_what_is_exported_keeps_places_and_seeds(row: Result, tmp_path: Path, suffix: str) -> None:
    runs = [dataclasses.replace(row, seed=s, test_score=0.4 + s / 50, **CPU, code_hash="1" * 64) for s in range(3)]
    away = dataclasses.replace(row, seed=3, test_score=0.45, **H100, fallback="accumulate 2", deterministic=True)
    failed = dataclasses.replace(runs[0], seed=4, status="nan", test_score=None, step_ms_p50=None)
    rows = frame(*runs, away, failed)
    path = tmp_path / f"t.{suffix}"
    path.write_text(tables.exported(tables.measured(rows), suffix))
    again = store.to_dataframe([path])
    for what, joined in (("accuracy", tables.summary), ("speed", tables.measured), ("memory", tables.measured)):
        one, other = (tables.compare(joined(each), what) for each in (rows, again))
        pd.testing.assert_frame_equal(one.cells, other.cells)
        assert one.notes == other.notes
    assert "4 runs) (FAIL 1 of 5: nan)" in tables.compare(tables.summary(again), "accuracy").cells.iloc[0, 0]


def test_an_interval_of_a_share_stays_within_0_and_100(row: Result) -> None:
    high = [dataclasses.replace(row, seed=seed, test_score=score) for seed, score in enumerate((0.99, 0.9, 0.999))]
    low, top = re.search(r"\((.+)-(.+), 3 runs", cells(*high)["softmax"]["short tiny"]).groups()  # type: ignore[union-attr]
    assert 0 <= float(low) < float(top) <= 100
    alike = [dataclasses.replace(row, seed=seed) for seed in range(3)]
    assert cells(*alike)["softmax"]["short tiny"] == "40.0 (37.9-42.2, 3 runs)", "as wide as one run's examples say"


def test_techniques_times_say_where_they_were_measured(row: Result) -> None:
    """None over two machines is a mean: the newest counts, and a number says which lines may be compared."""
    none = dataclasses.replace(row, **CPU, started="2026-01-01", step_ms_p50=68.0)
    moved = dataclasses.replace(none, **H100, seed=1, started="2026-01-02", step_ms_p50=2.0)
    pruned = dataclasses.replace(none, techniques='{"continued": {"steps": 9}}', fallback="remat", step_ms_p50=50.0)
    rows = frame(none, moved, pruned).assign(folder=None)
    table = techniques.report(rows).tables[1]
    assert list(table.cells["step ms"]) == ["2", "50 remat"]
    assert list(table.cells["timed"]) == ["#1", "#2"]
    assert (
        "short tiny: timed: compare times of one number alone: #1 1 x NVIDIA H100; #2 AMD EPYC, 2 cores" in table.notes
    )
    assert "timed" not in techniques.report(frame(none, pruned).assign(folder=None)).tables[1].cells
