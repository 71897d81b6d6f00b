"""Several runs at once: the same results as one after another, none twice, none lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from samples import FOUR, LONG, TWO, Lra, first_slow, started

from lra_bench import config, mixers, sweeps
from lra_bench.errors import ConfigError
from lra_bench.launch import grace, local, place
from lra_bench.launch.engine import Order
from lra_bench.records.schema import SCORED
from lra_bench.sweeps import Request

SAME = ("run", "status", "val_score", "test_score", "best_step", "train_loss", "data_hash")


@pytest.fixture
def four(here: Path) -> Path:
    (here / "four.yaml").write_text(FOUR)
    return here


def start(here: Path, cache: Path, *more: str) -> subprocess.Popen[str]:
    return started(here, cache, "sweep", "four.yaml", *more)


def same(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[key] for key in SAME) for row in rows]


def test_the_cores_are_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 4, 7}, raising=False)
    assert place.shares(1) == [[]], "one job has all of them"
    assert place.shares(2) == [[0, 2, 7], [1, 4]]
    assert place.shares(7)[5:] == [[0, 1, 2, 4, 7]] * 2, "more jobs than cores share them"


def test_a_sweep_names_what_is_wrong_in_it(four: Path) -> None:
    for wrong, right, said in (
        ("job: 2", "jobs: 2", r"four\.yaml:5: job: unknown key; did you mean 'jobs'\?"),
        ("jobs: two", "jobs: 2", r"four\.yaml:5: jobs: .*integer"),
        ("", "models: linear,linformer\n", r"four\.yaml: models: missing"),
    ):
        (four / "four.yaml").write_text(FOUR.replace(right, wrong))
        with pytest.raises(ConfigError, match=said):
            config.sweep(four / "four.yaml")


def test_a_dry_run_starts_nothing(lra: Lra, four: Path) -> None:
    done = lra("sweep", "four.yaml", "--dry-run", "--json")
    assert [state["state"] for state in json.loads(done.stdout)] == ["new"] * 4
    assert not (four / "results").exists()
    assert "4 runs, 4 of them to be run" in lra("sweep", "four.yaml", "--dry-run").stdout


@pytest.mark.slow
def test_fail_fast_starts_no_further_run(lra: Lra, here: Path) -> None:
    (here / "mine.py").write_text(mixers.model_card("linear").path.read_text() + "\nimport nowhere\n")
    done = lra("run", "-t", "short", "-c", "tiny", "-m", "mine.py,linear,softmax", "--fail-fast", "--json")
    assert done.returncode == 1
    assert [row["status"] for row in json.loads(done.stdout)] == ["error"]


@pytest.mark.slow
def test_two_commands_of_two_jobs_have_the_results_of_one_after_another(lra: Lra, here: Path, cache: Path) -> None:
    (here / "four.yaml").write_text(TWO)
    alone = lra("sweep", "four.yaml", "--jobs", "1", "-o", "alone", "--json")
    assert alone.returncode == 0
    both = [start(here, cache, "-o", "beside", "--json") for _ in range(2)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    rows, beside, again = (json.loads(out) for out in (alone.stdout, *(out for out, _ in said)))
    assert beside == again, "the second shows the first one's results, to the second that they were started"
    assert same(rows) == same(beside)
    assert [{row["jobs"] for row in found} for found in (rows, beside)] == [{1}, {2}]
    assert [row["resumed"] for row in beside] == [0] * 2
    assert all("(2/2)" in err for _, err in said)
    planned = lra("sweep", "four.yaml", "-o", "beside", "--dry-run", "--json")
    assert {state["state"] for state in json.loads(planned.stdout)} == {"done"}


@pytest.mark.sweep
def test_what_is_killed_in_the_middle_is_taken_up_again(four: Path, cache: Path) -> None:
    (four / "four.yaml").write_text(TWO + LONG)
    process = start(four, cache)
    deadline = time.monotonic() + 240
    while len(list(four.glob("results/runs/*/checkpoints/*0"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    begun = len(list(four.glob("results/runs/*/checkpoints")))
    assert begun >= 1
    process = start(four, cache, "--json")
    rows = json.loads(process.communicate()[0])
    assert {row["status"] for row in rows} <= set(SCORED)
    assert sum(row["resumed"] for row in rows) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("to", first_slow(os.killpg, os.kill), ids=["all, as a terminal does", "the command"])
def test_ctrl_c_is_for_all_that_run(four: Path, cache: Path, to: Callable[[int, int], None]) -> None:
    (four / "four.yaml").write_text(FOUR + LONG)
    process = start(four, cache)
    deadline = time.monotonic() + 240
    while len(list(four.glob("results/runs/*/checkpoints/*0"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    to(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped and saved; the same command resumes" in err
    left = subprocess.run(["pgrep", "-f", f"lra_bench.runs.execute {four}"], capture_output=True, text=True).stdout
    assert not left


DEAF = """
import signal, time
for name in (signal.SIGINT, signal.SIGTERM):
    signal.signal(name, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A process that hears no signal, as one that compiles, where one that is asked to stop has half a second."""
    monkeypatch.setattr(grace, "SECONDS", 0.5)
    child = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    yield child
    child.kill()


def test_what_does_not_stop_in_time_is_killed(
    deaf: subprocess.Popen[str], four: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(four)
    began = time.monotonic()
    with grace.timed(deaf, 0.5 / 60) as late:
        local._listen(deaf, lambda event: None)
    assert (late.is_set(), deaf.returncode) == (True, -signal.SIGKILL)
    assert 1 <= time.monotonic() - began < 30
    run = sweeps.runs(Request("linear", "short", "tiny"))[0]
    row = local._failed(run, deaf.returncode, 0.5 / 60, "", four)
    assert row.status == "timeout", "it was not the system that killed it"
    assert "killed as it did not in 0.5 s; the same command resumes" in str(row.error)


def test_a_crew_that_is_ended_kills_what_does_not_stop(deaf: subprocess.Popen[str], tmp_path: Path) -> None:
    pool = local.ProcessPool(Order(tmp_path), [place.Place()])
    with pool.member(deaf):
        pool.end()
        assert deaf.wait(timeout=30) == -signal.SIGKILL


def test_a_first_ctrl_c_kills_what_does_not_stop(deaf: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines, told = [KeyboardInterrupt], list[dict[str, Any]]()
    wholly = deaf.stdout.readline  # type: ignore[union-attr]

    def readline() -> str:
        if lines:
            raise lines.pop()
        return wholly()

    monkeypatch.setattr(deaf, "stdout", SimpleNamespace(readline=readline))
    local._listen(deaf, told.append)
    assert (told, deaf.returncode) == ([{"event": "stopping"}], -signal.SIGKILL)
