"""What running would take: from results of this machine, else from a probe; what fits, and how."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from samples import Lra

from lra_bench import cli, speed, sweeps
from lra_bench.cli import planned, screen
from lra_bench.config import Run
from lra_bench.launch import local
from lra_bench.launch.engine import Stopped
from lra_bench.launch.place import Place
from lra_bench.measure.asked import Asked
from lra_bench.records import store
from lra_bench.records.schema import Status
from lra_bench.runs import build
from lra_bench.sweeps import Request

HERE = {"platform": "cpu", "device": "ours, 2 cores", "devices": 1, "available_bytes": 1000}
PROBED = {"params": 7, "compiled_bytes": 1001, "flops_per_step": 1.0, "compile_s": 1.0, "step_ms_p50": 3600.0}


@pytest.fixture
def probed(here: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """What was probed, on a machine that is not there."""
    monkeypatch.chdir(here)
    monkeypatch.setattr(local, "machine", lambda *_: HERE)
    seen: list[Run] = []

    def measure(runs: Sequence[Run], asked: Asked, tell: Any, place: Place) -> list[dict[str, Any]]:
        assert asked.fitting, "a plan says what a run would do"
        seen.extend(runs)
        return [dict(PROBED) for _ in runs]

    monkeypatch.setattr(local, "measure", measure)
    return seen


def runs_of(models: str = "linear", **more: Any) -> list[Run]:
    return sweeps.runs(Request(models, "short", "tiny", seeds=(0, 1, 2), **more))


def put(results: Path, run: Run, status: Status = "ok", **other: Any) -> None:
    facts: dict[str, Any] = {**HERE, "wall_s": 1800.0, "compiled_bytes": 999, **other}
    del facts["available_bytes"]
    store.write_json(store.folder(results, run) / "run.json", run.model_dump())
    store.save(results, run, store.blank(run, status, **facts))


def plan(every: Sequence[Run], results: Path, jobs: int = 1) -> list[dict[str, Any]]:
    return sweeps.plan(every, results, lambda *_: None, jobs)


def test_hours_are_those_of_another_seed_on_this_machine(probed: list[Run], tmp_path: Path) -> None:
    every = runs_of()
    put(tmp_path, every[1])
    plans = plan(every, tmp_path)
    assert not probed
    assert [(p["state"], p["hours"], p["hours_from"]) for p in plans] == [
        ("new", 0.5, "row"), ("done", 0.0, None), ("new", 0.5, "row"),
    ]  # fmt: skip
    assert all(p["fits"] and p["compiled_bytes"] == 999 and p["available_bytes"] == 1000 for p in plans)


@pytest.mark.parametrize(
    "why", ["another machine", "two processes", "failed", "no time", "other settings", "another version"]
)
def test_other_rows_say_nothing_and_a_step_is_probed_once_for_all_seeds(
    probed: list[Run], tmp_path: Path, why: str
) -> None:
    every = runs_of()
    kept = runs_of(settings=("training.steps=13",))[0] if why == "other settings" else every[0]
    places = {"another machine": {"device": "theirs"}, "two processes": {"devices": 2, "processes": 2}}
    other = {**places, "no time": {"wall_s": None}}.get(why, {})
    put(tmp_path, kept, "oom" if why == "failed" else "ok", **other)
    if why == "another version":
        store.write_json(store.folder(tmp_path, kept) / "run.json", {"model": "linear"})
    plans = plan(every[1:], tmp_path)
    assert [run.seed for run in probed] == [1]
    assert {p["hours_from"] for p in plans} == {"probe"}
    steps = 12 + (3 * 13 + 21) / 8 / 3
    assert plans[0]["hours"] == pytest.approx((steps * 3.6 + 2) / 3600)
    assert plans[0]["fits"] is False, "1,001 bytes of 1,000"


def test_the_table_has_a_line_for_all_seeds_and_deals_the_hours_to_the_jobs(probed: list[Run], tmp_path: Path) -> None:
    every = runs_of("linear,softmax")
    put(tmp_path, every[0])
    console = Console(width=200)
    with console.capture() as said:
        console.print(planned.table(plan(every, tmp_path), jobs=2))
    text = " ".join(said.get().split())
    assert text.count("short tiny 20") == 2
    assert "linear short tiny 20 2 1" in text, "two to be run, one done"
    assert "runs: 6, to be run: 5, 2 at once" in text
    probe = plan(every, tmp_path)[1]["hours"]
    assert f"about {(2 * 0.5 + 3 * probe) / 2:.2f}" in text


def test_a_step_of_what_has_a_teacher_is_probed_once_for_all_seeds(probed: list[Run], tmp_path: Path) -> None:
    plan(runs_of(techniques="distilled", settings=("distill.teacher=softmax",)), tmp_path)
    assert len(probed) == 1


@pytest.mark.slow
def test_a_probe_says_what_would_be_changed_for_a_step_to_fit(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    run = runs_of()[0]
    whole = speed.measure([run], Asked(1, fitting=True))[0]
    assert (whole["status"], whole.get("fallback")) == ("ok", None)
    monkeypatch.setattr(build, "available_bytes", lambda _: whole["compiled_bytes"] - 1)
    refused = speed.measure([run], Asked(1))[0]
    assert (refused["status"], refused["compiled_bytes"]) == ("oom", whole["compiled_bytes"])
    sliced = speed.measure([run], Asked(1, fitting=True))[0]
    assert (sliced["status"], sliced["fallback"]) == ("ok", "accumulate 2")
    assert sliced["compiled_bytes"] < whole["compiled_bytes"]


def test_the_machine_is_asked_in_a_process_of_its_own() -> None:
    said = local.machine()
    assert said["platform"] == "cpu"
    assert said["available_bytes"] > 2**20


def test_cores_are_lent_and_given_back() -> None:
    ours = os.sched_getaffinity(0)
    with local.on([min(ours)]):
        assert os.sched_getaffinity(0) == {min(ours)}
    assert os.sched_getaffinity(0) == ours
    with local.on([]):
        assert os.sched_getaffinity(0) == ours


@pytest.mark.slow
def test_a_line_of_the_job_list_executes_its_run(lra: Lra, here: Path, cache: Path) -> None:
    told = lra("plan", "-m", "linear,fnet", "-t", "short", "-c", "tiny", "--out", "jobs.sh")
    assert told.returncode == 0, told.stderr
    first, second = (here / "jobs.sh").read_text().splitlines()
    assert "linear-short-tiny-s0-" in first
    assert "fnet-short-tiny-s0-" in second
    subprocess.run(["bash", "-c", first], cwd="/", env={**os.environ, "LRA_CACHE": str(cache)}, check=True)
    states = json.loads(lra("run", "-m", "linear,fnet", "-t", "short", "-c", "tiny", "--dry-run", "--json").stdout)
    assert [state["state"] for state in states] == ["done", "new"]
    lra("plan", "-m", "linear,fnet", "-t", "short", "-c", "tiny", "--out", "jobs.sh")
    assert (here / "jobs.sh").read_text() == second + "\n"


@pytest.mark.parametrize("arguments", [(), ("--match", "params")])
def test_ctrl_c_is_one_line(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    def stopped(*_: Any) -> None:
        raise Stopped

    monkeypatch.chdir(here)
    monkeypatch.setattr(local, "machine", lambda *_: HERE)
    monkeypatch.setattr(local, "answers", stopped)
    monkeypatch.setattr(sys, "argv", ["lra", "plan", "-m", "linear", "-t", "short", "-c", "tiny", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().err.splitlines()[-1]) == (130, "lra: stopped")


def test_what_would_run_names_variants_and_techniques(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    every = sweeps.runs(Request("linear", "needle@near,needle@far", "laptop", techniques="none,int8"))
    console = Console(width=200, record=True, quiet=False)
    console.print(screen.states_table(sweeps.states(every, Path("results"))))
    lines = [line.split() for line in console.export_text().splitlines() if "linear" in line]
    told = [line[1:3] for line in lines]
    assert told == [[f"needle@{at}", said] for at in ("near", "far") for said in ("laptop", "W8A32")]
