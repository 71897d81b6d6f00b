"""Scores over length: of runs at several lengths, and of a model that was trained at another one."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from samples import Lra

from lra_bench import sweeps
from lra_bench.analysis import extrapolation
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.records.schema import Result
from lra_bench.report import extrapolation as report
from lra_bench.report import tables
from lra_bench.sweeps import Request

RUN = ("run", "-t", "short", "-c", "tiny", "-m")


@pytest.fixture
def row(here: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.chdir(here)
    run = sweeps.runs(Request("softmax", "short", "tiny"))[0]
    return store.blank(run, "ok", test_score=0.4, val_score=0.4, test_n=2000, chance=0.1, step_ms_p50=1.0)


def frame(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([{**row, "run": str(i), "origin": "results"} for i, row in enumerate(rows)])


def test_what_differs_in_its_length_alone_is_one_line(row: Result) -> None:
    short = row.as_dict()
    long = {**short, "length": 40, "changed": "length=40", "test_score": 0.3, "chance": 0.2}
    other = {**long, "model": "linear"}
    tuned = {**long, "changed": "optimizer.lr=0.1 length=40"}
    (table,) = report.report(frame(short, long, other, tuned)).tables
    assert list(table.cells.columns) == ["L = 20", "L = 40"]
    assert table.cells.loc["softmax"].tolist() == ["40.0 (37.9-42.2)", "30.0 (28.0-32.0)"]
    assert table.cells.loc["linear"].tolist() == ["", "30.0 (28.0-32.0)"]
    assert table.notes == ("chance: 10.0 at 20, 20.0 at 40",)
    with pytest.raises(ConfigError, match="no task here was run at several lengths"):
        report.report(frame(short, tuned))


def test_scores_at_other_lengths_stand_beside_those_at_their_own(row: Result, tmp_path: Path) -> None:
    """The mean over seeds; what is bound to its length has no score, and a task that asks for none has no column."""
    first = {**row.as_dict(), "test_at": json.dumps({"40": 0.3, "80": None})}
    second = {**first, "seed": 1, "test_at": json.dumps({"40": 0.2, "80": None})}
    bound = {**first, "model": "linformer", "test_at": json.dumps({"40": None, "80": None})}
    summed = tables.summary(frame(first, second, bound, {**row.as_dict(), "task": "text"}))
    cells = tables.compare(summed, "accuracy").cells
    assert [name for name in cells.columns if "@" in name] == ["short tiny @40", "short tiny @80"]
    assert cells.loc["softmax", "short tiny @40"] == "25.0"
    assert cells.loc["softmax", "short tiny @80"] == cells.loc["linformer", "short tiny @40"] == "bound"
    (tmp_path / "t.csv").write_text(tables.exported(summed, "csv"))
    again = tables.compare(tables.summary(store.to_dataframe([tmp_path / "t.csv"])), "accuracy").cells
    assert again.equals(cells), "an exported table says the same"
    plain = tables.compare(tables.summary(frame(row.as_dict())), "accuracy").cells
    assert not [name for name in plain.columns if "@" in name]


@pytest.mark.slow
def test_trained_short_tested_long(lra: Lra, here: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("LRA_CACHE", str(cache))
    monkeypatch.chdir(here)
    settings = ("--set", "backbone.positions=sinusoidal", "--set", "task.test_lengths=[20,40]")
    done = lra(*RUN, "linear,linformer", *settings, "--json")
    rows = {row["model"]: row for row in json.loads(done.stdout)}
    folders = {model: next((here / "results/runs").glob(f"{model}-*")) for model in rows}
    told = lra("scale", "--run", folders["linear"], "-n", "20,40", "--json")
    assert told.returncode == 0, told.stderr
    same, longer = json.loads(told.stdout)
    assert same["score"] == pytest.approx(rows["linear"]["test_score"]), "at its own length it is the run's"
    assert (longer["length"], longer["n"], longer["why"]) == (40, 21, None)
    of_linear, of_linformer = (json.loads(rows[model]["test_at"]) for model in ("linear", "linformer"))
    assert of_linear == {"20": pytest.approx(same["score"]), "40": pytest.approx(longer["score"])}
    assert of_linformer == {"20": pytest.approx(rows["linformer"]["test_score"]), "40": None}
    shown = lra(*RUN, "linear,linformer", *settings).stdout
    assert "test@40" in shown
    assert "bound" in shown
    bound = lra("scale", "--run", folders["linformer"], "-n", "40")
    assert "bound to L = 20: blocks.mixer" in bound.stdout
    deeper = list(extrapolation.over(folders["linear"], [40], ["task.args.max_length=40"], lambda *_: None))
    assert deeper[0].n == 21
    with pytest.raises(ConfigError, match=r"--set backbone\.width=3: only task"):
        list(extrapolation.over(folders["linear"], [40], ["backbone.width=3"], lambda *_: None))
    for wrong, said in (
        (("--run", folders["linear"]), "tested at which lengths?"),
        (("-n", "40"), "-n and --set: are of --run"),
        (("--run", folders["linear"], "-n", "40", "--set", "task.args.max_lenth=4"), "did you mean 'max_length'?"),
    ):
        refused = lra("scale", *wrong)
        assert refused.returncode == 2
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1
