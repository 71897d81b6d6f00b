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


@pytest.mark.slow
def test_trained_short_tested_long(lra: Lra, here: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("LRA_CACHE", str(cache))
    monkeypatch.chdir(here)
    done = lra(*RUN, "linear,linformer", "--set", "backbone.positions=sinusoidal", "--json")
    rows = {row["model"]: row for row in json.loads(done.stdout)}
    folders = {model: next((here / "results/runs").glob(f"{model}-*")) for model in rows}
    told = lra("scale", "--run", folders["linear"], "-n", "20,40", "--json")
    assert told.returncode == 0, told.stderr
    same, longer = json.loads(told.stdout)
    assert same["score"] == pytest.approx(rows["linear"]["test_score"]), "at its own length it is the run's"
    assert (longer["length"], longer["n"], longer["why"]) == (40, 21, None)
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
