"""Two results folders: what changed, how sure that is, and what a CI is to fail on."""

from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from samples import Lra

from lra_bench import statistics, sweeps
from lra_bench.cli.compare import _limit
from lra_bench.errors import ConfigError
from lra_bench.metrics import ACCURACY
from lra_bench.records import store
from lra_bench.records.schema import COLUMNS, Result
from lra_bench.report import diff
from lra_bench.report.summary import regressions
from lra_bench.sweeps import Request

N = 1000
ALL = ("accuracy", "speed", "memory")
SEEDS = range(statistics.LEAST_RUNS)


@pytest.fixture(autouse=True)
def inside(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def put(origin: str, right: int, seed: int = 0, model: str = "softmax", first: int = 0, **more: Any) -> Result:
    """A run that has `right` of the examples right, those from `first` on."""
    (run,) = sweeps.runs(Request(model, "short", "tiny", seeds=(seed,)))
    facts = {
        "val_score": 0.5,
        "test_n": N,
        "chance": 0.1,
        "step_ms_p50": 20.0,
        "compiled_bytes": 2**20,
        "data_hash": "d",
    }
    row = dataclasses.replace(store.blank(run, "ok"), **{"test_score": right / N} | facts | more)
    store.write_json(store.folder(Path(origin), run) / "run.json", run.model_dump(mode="json"))
    store.save(Path(origin), run, row)
    bits = np.zeros(N, bool)
    bits[first : first + right] = True
    store.save_scores(store.folder(Path(origin), run), bits, ACCURACY)
    return row


def found(what: str = "accuracy") -> pd.Series:
    every = diff.changes(store.to_dataframe([Path("old"), Path("new")]), (what,))
    (row,) = every[every["what"] == what].to_dict("records")
    return pd.Series(row)


def worse(limit: float = 0.02, what: Sequence[str] = ALL) -> list[str]:
    return list(regressions.lines(diff.changes(store.to_dataframe([Path("old"), Path("new")]), what), limit))


def test_single_runs_are_not_told_apart_and_that_is_said() -> None:
    """The same model differs from itself by more than its examples say."""
    put("old", 400)
    put("new", 390)
    one = found()
    assert (one["first"], one["second"], one["sure"]) == (0.4, 0.39, False)
    assert one["change"] == pytest.approx(-0.01)
    assert one["worse_by"] == pytest.approx(0.025)
    assert math.isnan(one["p"])
    assert "accuracy of softmax: not told: no model" in next(regressions.untold(one.to_frame().T))
    assert not worse()


def test_seeds_of_another_model_of_the_column_tell() -> None:
    for seed in SEEDS:
        put("old", 400 + seed, seed, model="linear")
    put("old", 400)
    put("new", 300)
    put("new", 400, model="linear")
    assert worse(what=["accuracy"]) == ["softmax on short tiny: accuracy 40.0 -> 30.0: -10.0 (-11.9 to -8.1) *"]
    put("new", 398)
    assert not worse(0.0, ["accuracy"]), "within what seeds do"


def test_seeds_widen_the_interval() -> None:
    for seed, (old, new) in enumerate(((400, 300), (300, 400), (350, 320))):
        put("old", old, seed)
        put("new", new, seed)
    assert found()["change"] == pytest.approx(-0.01)
    assert not found()["sure"]
    assert found()["low"] < -0.05


def test_seeds_of_another_folder_tell_too() -> None:
    for seed in SEEDS:
        put("elsewhere", 400 + seed, seed + 1)
    put("old", 400)
    put("new", 300)
    frame, elsewhere = store.to_dataframe([Path("old"), Path("new")]), store.to_dataframe([Path("elsewhere")])
    assert diff.changes(frame, ["accuracy"], elsewhere=elsewhere)["sure"].all()
    assert not diff.changes(frame, ["accuracy"])["sure"].any()


@pytest.mark.parametrize(
    ("times", "sure"),
    [
        ({"step_ms_p10": 18.0, "step_ms_p50": 20.0, "step_ms_p90": 22.0}, True),
        ({"step_ms_p10": 5.0, "step_ms_p50": 20.0, "step_ms_p90": 80.0}, False),
        ({"step_ms_p50": 20.0}, True),
    ],
)
def test_a_time_of_single_runs_is_judged_by_its_steps_or_by_the_bare_ratio(times: dict[str, float], sure: bool) -> None:
    put("old", 400, **{key: ms / 2 for key, ms in times.items()})
    put("new", 400, **times)
    assert found("speed")["change"] == pytest.approx(2)
    assert found("speed")["sure"] == sure
    assert len(worse()) == sure
    put("new", 400, **{key: ms / 2 for key, ms in times.items()})
    assert not worse(0.0)


def test_times_of_several_seeds_are_compared_over_them() -> None:
    for seed in SEEDS:
        put("old", 400, seed, step_ms_p50=10.0 + seed)
        put("new", 400, seed, step_ms_p50=20.0 + seed)
    assert found("speed")["sure"]
    assert 1.4 < found("speed")["low"] < found("speed")["change"] < found("speed")["high"] < 2.6


def test_what_was_planned_has_no_chance_in_it() -> None:
    put("old", 400)
    put("new", 400, compiled_bytes=2**21)
    assert (found("memory")["change"], found("memory")["sure"], found("memory")["worse_by"]) == (2, True, 1)
    assert worse() == ["softmax on short tiny: memory 1 MiB -> 2 MiB: 2.00x *"]
    assert not worse(1.0), "not by more than the limit"
    put("new", 400, compiled_bytes=2**19)
    assert not worse(0.0), "less is not worse"


@pytest.mark.parametrize("status", ["nan", "oom", "timeout", "error"])
def test_what_finished_and_does_not_is_a_regression(status: str) -> None:
    for seed in (0, 1):
        put("old", 400, seed)
        put("new", 400, seed)
    put("new", 0, 1, status=status, test_score=None, step_ms_p50=None, compiled_bytes=None, data_hash=None)
    assert worse() == [f"softmax on short tiny: ok -> {status} (seed 1)"]
    put("old", 0, 1, status=status, test_score=None, step_ms_p50=None, compiled_bytes=None, data_hash=None)
    assert not worse(), "it did not finish before either"


def test_what_is_gone_or_on_other_data_is_a_regression() -> None:
    put("old", 400)
    put("old", 400, model="linear")
    put("new", 400, data_hash="other")
    put("new", 400, model="local")
    assert worse() == [
        "linear on short tiny, data d: ok -> missing",
        "softmax on short tiny, data other: data d -> other data other",
    ]


def test_what_learned_and_does_not_is_a_regression_unless_at_the_edge() -> None:
    put("old", 400)
    put("new", 110, status="at-chance")
    assert worse() == ["softmax on short tiny: ok -> at-chance (seed 0)"]
    put("old", 125)
    assert not worse()


def test_another_machine_is_not_slower_code() -> None:
    place = {"platform": "gpu", "device": "NVIDIA H100", "devices": 1}
    put("old", 400, **place, step_ms_p50=2.0)
    put("new", 400, platform="cpu", device="AMD EPYC, 8 cores", devices=1, compiled_bytes=2**25)
    assert not worse()
    told = list(regressions.untold(diff.changes(store.to_dataframe([Path("old"), Path("new")]), ALL)))
    assert "speed of softmax: not compared: measured on other machines" in told
    put("new", 400, **place, step_ms_p50=20.0, fallback="accumulate 2", code_hash="c" * 64)
    assert worse(what=["speed"]) == ["softmax on short tiny: speed 2 ms -> 20 ms accumulate 2: 10.00x, the bare ratio"]


def test_an_option_that_the_code_got_is_no_other_model() -> None:
    row = put("old", 400)
    put("new", 400, options=row.options.replace("{", '{"cap": 0, '), compiled_bytes=2**21)
    assert worse() == ["softmax on short tiny: memory 1 MiB -> 2 MiB: 2.00x *"]
    (said,) = diff.other_settings(store.to_dataframe([Path("old"), Path("new")]))
    assert said == "softmax: other hyperparameters: cap not there -> 0"


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("0.05", 0.05), ("0%", 0.0)])
def test_limits(text: str, share: float) -> None:
    assert _limit(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["two", "-1%", "200%", "%"])
def test_wrong_limits_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--fail-on-regression {text}: must be a share as 2% or 0.02"):
        _limit(text)


@pytest.fixture
def many() -> None:
    """A folder as a CI keeps it: two models, three seeds; and the same as a new one."""
    for model, ms in (("softmax", 20.0), ("linear", 10.0)):
        for seed in SEEDS:
            times = {"step_ms_p10": 0.9 * ms, "step_ms_p50": ms + seed / 10, "step_ms_p90": 1.1 * ms}
            put("old", 400 + 5 * seed, seed, model, **times)
    shutil.copytree("old", "new")


def again(model: str, **facts: Any) -> None:
    """The new rows of a model with other facts; a number multiplies what was there."""
    for path in Path("new/runs").glob(f"{model}-*/result.json"):
        row = store.read_json(path)
        changed = {key: row[key] * fact if isinstance(fact, int) else fact for key, fact in facts.items()}
        store.write_json(path, row | changed)


def test_a_ci_passes_what_is_the_same(many: None, lra: Lra) -> None:
    told = lra("compare", "old", "new", "--fail-on-regression", "2%", "--format", "json")
    assert (told.returncode, told.stderr) == (0, "")
    assert lra("compare", "old", "--fail-on-regression", "5%").returncode == 2
    family = lra("compare", "old", "new", "--by", "family", "--fail-on-regression", "5%")
    assert (family.returncode, family.stderr.count("\n")) == (2, 1)


def test_a_ci_fails_what_is_slower(many: None, lra: Lra) -> None:
    again("softmax", step_ms_p10=10, step_ms_p50=10, step_ms_p90=10)
    told = lra("compare", "old", "new", "--metric", "speed", "--fail-on-regression", "2%", "--format", "md")
    assert told.returncode == 1
    assert told.stderr.startswith("worse: softmax on short tiny: speed 20.1 ms -> 201 ms: 10.00x (")
    assert told.stderr.count("\n") == 1
    assert "after Holm over the 2 scores and times that were tested" in " ".join(told.stdout.split())
    assert lra("compare", "old", "new").returncode == 0, "none was asked to fail"


def test_a_ci_fails_what_broke_or_is_gone(many: None, lra: Lra) -> None:
    again("linear", status="nan", test_score=None, step_ms_p50=None)
    for path in Path("new/runs").glob("softmax-*"):
        shutil.rmtree(path)
    told = lra("compare", "old", "new", "--fail-on-regression", "90%")
    assert told.returncode == 1
    assert sorted(told.stderr.splitlines()) == [
        *(f"worse: linear on short tiny: ok -> nan (seed {seed})" for seed in SEEDS),
        "worse: softmax on short tiny: ok -> missing",
    ]
    assert "runs that finished, and do not now" in told.stdout


def noise(rng: np.random.Generator, seeds: int, bad: float) -> pd.DataFrame:
    """Two folders of 41 models on two columns, as alike as seeds and a machine make them; `bad` do not learn."""
    lines = []
    for task, sd in (("one", 0.012), ("two", 0.013)):
        for model in range(41):
            level, ms = rng.uniform(0.2, 0.4), rng.uniform(10, 200)
            for origin in ("old", "new"):
                for seed in range(seeds):
                    learned = rng.random() >= bad
                    score = rng.binomial(2000, np.clip(rng.normal(level if learned else 0.15, sd), 0, 1)) / 2000
                    median = ms * math.exp(rng.normal(0, 0.1))
                    lines.append(
                        {"origin": origin, "model": f"m{model}", "task": task, "seed": seed, "test_score": score}
                        | {"step_ms_p10": median * 0.88, "step_ms_p50": median, "step_ms_p90": median * 1.14}
                    )
    whole = {"family": "f", "config": "quick", "length": 128, "batch": 32, "metric": "accuracy", "test_n": 2000}
    more = {"status": "ok", "compiled_bytes": 2**20, "chance": 0.1, "options": "{}", "data_hash": "d"}
    columns = [*COLUMNS, "origin", "folder", "bundle", "code"]
    return pd.DataFrame(lines).assign(**whole, **more).reindex(columns=columns)


@pytest.mark.sweep
@pytest.mark.parametrize(("seeds", "bad", "tables"), [(1, 0.0, 40), (3, 0.1, 40)])
def test_noise_of_many_models_fails_few_cis(seeds: int, bad: float, tables: int) -> None:
    """41 models on two tasks, alike in both folders: at most one in twenty fails, so of forty four by bad luck."""
    rng = np.random.default_rng(seeds)
    failed = 0
    for _ in range(tables):
        changed = diff.changes(noise(rng, seeds, bad), ("accuracy", "speed", "memory"))
        assert changed["p"].notna().sum() == 82 * (2 if seeds > 1 else 1)
        failed += len(diff.regressions(changed, 0.02)) > 0
    assert failed <= 0.1 * tables


def test_a_folder_at_two_commits(lra: Lra, here: Path) -> None:
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(here)]
    subprocess.run([*git, "init", "-q"], check=True)
    for right, planned in ((400, 2**20), (390, 2**21)):
        put("results", right, compiled_bytes=planned)
        subprocess.run([*git, "add", "results"], check=True)
        subprocess.run([*git, "commit", "-qm", "rows"], check=True)
    told = lra("compare", "results@HEAD~1", "results@HEAD", "--metric", "accuracy", "--format", "md")
    assert "| results@HEAD~1 | results@HEAD | difference" in " ".join(told.stdout.split()).replace("   ", " ")
    assert "| 40.0 | 39.0 | -1.0 (-1.6 to -0.4), not told |" in " ".join(told.stdout.split())
    assert lra("compare", "results@HEAD~1", "results", "--fail-on-regression", "2%").returncode == 1
    wrong = lra("compare", "results@nowhere", "results")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert wrong.stderr.startswith("lra: results@nowhere: ")
    assert lra("compare", "other@HEAD", "results").returncode == 2
