"""`lra calibrate`: runs of a check, its verdicts, and what is kept."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from samples import Lra

from lra_bench import config
from lra_bench.config import calibration as files
from lra_bench.records import store
from lra_bench.sweeps import entrants

KNOWN = """\
title: Known
reference: nobody
differs: nothing
failure: this test
config: tiny
rates: [1.0e-2, 3.0e-2]
seeds: 0-1
arms:
  any: {models: linear, task: short}
expectations:
  - {expect: at-least, arm: any, value: 0.0, claim: no share is negative}
  - {expect: at-most, arm: any, value: 0.0, claim: nothing is ever right}
"""


@pytest.mark.sweep
def test_runs_are_done_once_and_their_verdicts_are_kept(installed: Lra, here: Path) -> None:
    (here / "known.yaml").write_text(KNOWN, encoding="utf-8")
    done = installed("calibrate", "known.yaml", "-o", "kept", "--json")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert [(one["model"], one["claim"], one["verdict"]) for one in told] == [
        ("linear", "no share is negative", "reproduced"),
        ("linear", "nothing is ever right", "differs"),
    ]
    assert {one["runs"] for one in told} == {2}
    assert len(list((here / "kept/runs").iterdir())) == 2 + 1, "two rates, and one more seed of the chosen one"
    assert "known" in (here / "kept/calibration.csv").read_text()
    assert "would mean: this test" in (here / "kept/calibration.md").read_text()
    again = installed("calibrate", "known.yaml", "-o", "kept")
    assert again.stderr.count("done before") == 3
    assert "no share is negative" in again.stdout


def test_what_would_run_is_shown(lra: Lra, here: Path) -> None:
    (here / "known.yaml").write_text(KNOWN, encoding="utf-8")
    done = lra("calibrate", "known.yaml", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert [one["state"] for one in json.loads(done.stdout)] == ["new"] * 3
    assert not (here / "results").exists()


def test_a_check_without_a_quick_form_is_refused_by_name(lra: Lra, here: Path) -> None:
    (here / "known.yaml").write_text(KNOWN, encoding="utf-8")
    done = lra("calibrate", "known.yaml", "--quick")
    assert (done.returncode, done.stderr) == (2, "lra: --quick: known has no quick form\n")


def test_a_check_whose_examples_are_not_here_is_skipped_with_a_line(lra: Lra, here: Path, tmp_path: Path) -> None:
    fetched = KNOWN.replace("task: short", "task: mnist-sequential@quick")
    (here / "known.yaml").write_text(fetched, encoding="utf-8")
    done = lra("calibrate", "known.yaml", "--dry-run", "--json", env={"LRA_CACHE": str(tmp_path / "empty")})
    assert json.loads(done.stdout) == []
    assert "known: skipped: the examples of mnist-sequential@quick are not here; lra data prepare" in done.stderr


def test_what_is_done_needs_no_examples(lra: Lra, here: Path, tmp_path: Path) -> None:
    kept = str(Path(__file__).parents[2] / "results" / "calibration")
    empty = {"LRA_CACHE": str(tmp_path / "empty")}
    done = lra("calibrate", "pixels", "--dry-run", "--json", "-o", kept, env=empty)
    assert {one["state"] for one in json.loads(done.stdout)} == {"done"}, done.stderr
    again = lra("calibrate", "pixels", "--dry-run", "--json", "-o", kept, "--overwrite", env=empty)
    assert "pixels: skipped: the examples of" in again.stderr


def checks_in(table: Path) -> set[str]:
    return {line["check"] for line in csv.DictReader(table.read_text(encoding="utf-8").splitlines())}


def ended(here: Path, *names: str) -> Path:
    """Checks that are found by these names, and a results folder in which all their runs have ended."""
    (here / "configs/calibration").mkdir()
    for place, name in enumerate(names):
        text = KNOWN.replace("[1.0e-2, 3.0e-2]", f"[{place + 1}.0e-2]") + "quick: {seeds: '0'}\n"
        (here / f"configs/calibration/{name}.yaml").write_text(text, encoding="utf-8")
        check = files.check(name)
        assert check is not None
        for entrant in entrants(name, check):
            for run in entrant.expected(here / "kept"):
                known = {"val_score": 0.5, "test_score": 0.5, "test_n": 400, "chance": 0.1}
                store.save(here / "kept", run, store.blank(run, "ok", **known))
    return here / "kept"


def test_a_command_for_one_check_keeps_all_that_have_runs(
    lra: Lra, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    kept = ended(here, "first", "second")
    done = lra("calibrate", "second", "-o", kept, "--json")
    assert done.returncode == 1, done.stderr
    assert {one["check"] for one in json.loads(done.stdout)} == {"second"}
    assert checks_in(kept / "calibration.csv") == {"first", "second"}
    page = (kept / "calibration.md").read_text(encoding="utf-8")
    sections = [line for line in page.splitlines() if line.startswith("- Check:")]
    assert sections == ["- Check: `first`", "- Check: `second`"]


def test_a_quick_table_replaces_no_other(lra: Lra, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    kept = ended(here, "first")
    for name in ("calibration.csv", "calibration.md"):
        (kept / name).write_text("of full runs", encoding="utf-8")
    done = lra("calibrate", "first", "--quick", "-o", kept)
    assert done.returncode == 1, done.stderr
    left = {(kept / name).read_text(encoding="utf-8") for name in ("calibration.csv", "calibration.md")}
    assert left == {"of full runs"}
    assert checks_in(kept / "calibration-quick.csv") == {"first"}
    assert (kept / "calibration-quick.md").read_text(encoding="utf-8").startswith("# Calibration, short checks")


def test_a_check_that_cannot_be_judged_again_leaves_the_table_with_a_line(
    lra: Lra, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    kept = ended(here, "first")
    (kept / "calibration.csv").write_text("check,claim\nmine,it is so\n", encoding="utf-8")
    (here / "configs/calibration/broken.yaml").write_text("title: Broken\n", encoding="utf-8")
    done = lra("calibrate", "first", "-o", kept)
    assert "mine: no longer in the table, as no check of that name is found; its runs stay" in done.stderr
    assert "broken: not in the table: " in done.stderr
    assert checks_in(kept / "calibration.csv") == {"first"}


def test_a_score_that_is_no_share_is_refused(lra: Lra, here: Path) -> None:
    (here / "known.yaml").write_text(KNOWN.replace("task: short", "task: adding"), encoding="utf-8")
    done = lra("calibrate", "known.yaml", "--dry-run")
    assert done.returncode == 2
    assert "mean squared error, which is no share" in done.stderr


@pytest.mark.sweep
def test_a_shipped_check_is_reproduced_in_a_small_form(installed: Lra, tmp_path: Path) -> None:
    values = dict(config.read(files.checks()["out-of-reach"]).values)
    values |= values.pop("quick")
    values["arms"] = {
        "beyond": {**values["arms"]["beyond"], "models": "conv-local[kernel=11]"},
        "within": {**values["arms"]["within"], "models": "softmax", "seeds": "0"},
    }
    values["expectations"] = [one for one in values["expectations"] if one["arm"] in values["arms"]]
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    done = installed("calibrate", "small.yaml", "--json", env={"XLA_FLAGS": ""})  # not those of tests: it trains
    assert done.returncode == 0, done.stderr
    assert {one["verdict"] for one in json.loads(done.stdout)} == {"reproduced"}
