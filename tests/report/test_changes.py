"""Two results folders: what changed, how sure that is, and what a CI is to fail on."""

from __future__ import annotations

import dataclasses
import math
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from samples import Lra

from lra_bench import matrix, store
from lra_bench.cli.compare import _limit
from lra_bench.errors import ConfigError
from lra_bench.matrix import Request
from lra_bench.metrics import ACCURACY
from lra_bench.report import changes
from lra_bench.rows import Row

N = 1000
ALL = ("accuracy", "speed", "memory")


@pytest.fixture(autouse=True)
def inside(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def put(origin: str, right: int, seed: int = 0, model: str = "softmax", first: int = 0, **more: object) -> Row:
    """A run that has `right` of the examples right, those from `first` on."""
    (cell,) = matrix.cells(Request(model, "short", "tiny", seeds=(seed,)))
    facts = {"val_score": 0.5, "test_n": N, "floor": 0.1, "step_ms_p50": 20.0, "planned_bytes": 2**20, "data_hash": "d"}
    row = store.blank(cell, "ok", test_score=right / N, **facts | more)  # type: ignore[arg-type]
    store.write_json(store.folder(Path(origin), cell) / "cell.json", cell.model_dump())
    store.put(Path(origin), cell, row)
    bits = np.zeros(N, bool)
    bits[first : first + right] = True
    store.put_scores(store.folder(Path(origin), cell), bits, ACCURACY)
    return row


def found(what: str = "accuracy") -> pd.Series:
    (row,) = changes.changes(store.frame([Path("old"), Path("new")]), (what,)).to_dict("records")
    return pd.Series(row)


def test_scores_are_compared_on_the_same_examples() -> None:
    put("old", 400)
    put("new", 390)
    same = found()
    assert (same["first"], same["second"]) == (0.4, 0.39)
    assert same["change"] == pytest.approx(-0.01)
    assert same["worse_by"] == pytest.approx(0.025)
    assert same["sure"], "ten examples lost and none gained"
    put("new", 390, first=300)
    assert found()["change"] == pytest.approx(-0.01)
    assert not found()["sure"], "300 lost and 290 gained"


def test_seeds_widen_the_interval() -> None:
    for seed, (old, new) in enumerate(((400, 300), (300, 400), (350, 320))):
        put("old", old, seed)
        put("new", new, seed)
    assert found()["change"] == pytest.approx(-0.01)
    assert not found()["sure"]
    assert found()["low"] < -0.05


def test_times_are_compared_over_seeds_and_single_ones_are_never_sure() -> None:
    put("old", 400, step_ms_p50=10.0)
    put("new", 400, step_ms_p50=20.0)
    assert found("speed")["change"] == pytest.approx(2)
    assert math.isnan(found("speed")["low"])
    assert not found("speed")["sure"]
    for seed in (1, 2):
        put("old", 400, seed, step_ms_p50=10.0 + seed)
        put("new", 400, seed, step_ms_p50=20.0 + seed)
    assert found("speed")["sure"]
    assert 1.5 < found("speed")["low"] < found("speed")["change"] < found("speed")["high"] < 2.5


def test_what_was_planned_has_no_chance_in_it() -> None:
    put("old", 400)
    put("new", 400, planned_bytes=2**21)
    assert (found("memory")["change"], found("memory")["sure"], found("memory")["worse_by"]) == (2, True, 1)
    put("new", 400)
    assert not found("memory")["sure"]


def test_what_one_folder_lacks_and_what_failed_is_left_out() -> None:
    row = put("old", 400)
    put("new", 400)
    put("new", 400, model="linear")
    assert list(changes.changes(store.frame([Path("old"), Path("new")]), ALL)["model"]) == ["softmax"] * 3
    (cell,) = matrix.cells(Request("softmax", "short", "tiny"))
    store.put(Path("new"), cell, dataclasses.replace(row, status="nan", test_score=None))
    assert changes.changes(store.frame([Path("old"), Path("new")]), ALL).empty


def test_only_a_sure_and_large_loss_is_a_regression() -> None:
    put("old", 400)
    put("new", 390, planned_bytes=2**20 * 3 // 2)
    changed = changes.changes(store.frame([Path("old"), Path("new")]), ALL)
    assert list(changes.regressions(changed, 0.02)) == [
        "softmax on short tiny: accuracy 40.0 -> 39.0: -1.0 (-1.6 to -0.4) *",
        "softmax on short tiny: memory 1 MiB -> 2 MiB: 1.50x *",
    ]
    assert len(list(changes.regressions(changed, 0.03))) == 1
    put("new", 390, first=300)
    assert not list(changes.regressions(changes.changes(store.frame([Path("old"), Path("new")]), ALL), 0.02))
    put("new", 500)
    better = changes.changes(store.frame([Path("old"), Path("new")]), ALL)
    assert not list(changes.regressions(better, 0.0)), "more accurate is not worse"


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("0.05", 0.05), ("0%", 0.0)])
def test_limits(text: str, share: float) -> None:
    assert _limit(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["two", "-1%", "200%", "%"])
def test_wrong_limits_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--fail-on-regression {text}: must be a share as 2% or 0.02"):
        _limit(text)


def test_the_command_fails_a_ci(lra: Lra) -> None:
    put("old", 400)
    put("new", 390)
    told = lra("compare", "old", "new", "--metric", "accuracy", "--format", "md")
    assert "| softmax | short tiny | 40.0 | 39.0 | -1.0 (-1.6 to -0.4) * |" in " ".join(told.stdout.split())
    assert told.returncode == 0
    failed = lra("compare", "old", "new", "--fail-on-regression", "2%", "--format", "json")
    assert failed.returncode == 1
    assert failed.stderr == "worse: softmax on short tiny: accuracy 40.0 -> 39.0: -1.0 (-1.6 to -0.4) *\n"
    assert lra("compare", "old", "new", "--fail-on-regression", "5%").returncode == 0
    one = lra("compare", "old", "--fail-on-regression", "5%")
    assert (one.returncode, "is of two results folders" in one.stderr) == (2, True)


def test_a_folder_at_two_commits(lra: Lra, here: Path) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(here)]
    subprocess.run([*git, "init", "-q"], check=True)
    for right in (400, 390):
        put("results", right)
        subprocess.run([*git, "add", "results"], check=True)
        subprocess.run([*git, "commit", "-qm", "rows"], check=True)
    told = lra("compare", "results@HEAD~1", "results@HEAD", "--metric", "accuracy", "--format", "md")
    assert "| results@HEAD~1 | results@HEAD | difference" in " ".join(told.stdout.split()).replace("   ", " ")
    assert "| 40.0 | 39.0 | -1.0 (-1.6 to -0.4) * |" in " ".join(told.stdout.split())
    assert lra("compare", "results@HEAD~1", "results", "--fail-on-regression", "2%").returncode == 1
    wrong = lra("compare", "results@nowhere", "results")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert wrong.stderr.startswith("lra: results@nowhere: ")
    assert lra("compare", "other@HEAD", "results").returncode == 2
