"""What was interrupted, at any moment and by any means, ends as if it had not been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lra_bench.records.schema import Result

COMMAND = [str(Path(sys.executable).parent / "lra"), "run", "-m", "linear", "-t", "short", "-c", "tiny"]
LONG = ["--set", "training.steps=150", "--set", "training.eval_every=10", "--set", "training.checkpoint_every=10"]
LATE = 80  # a step of a kill
TOGETHER = (LATE, True)
SAME = ("status", "val_score", "test_score", "best_step", "train_loss", "steps", "data_hash", "run")

Outcome = tuple[dict[str, Any], Any]  # of the result, what must not change; and the hits and the curve


def start(here: Path, cache: Path, results: str, *more: str) -> subprocess.Popen[str]:
    env = {**os.environ, "LRA_CACHE": str(cache)}
    return subprocess.Popen(
        [*COMMAND, *LONG, "-o", results, *more],
        cwd=here, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def outcome(here: Path, results: str) -> Outcome:
    (folder,) = (here / results / "runs").iterdir()
    row = Result(**json.loads((folder / "result.json").read_text()))
    hits = json.loads((folder / "per_example.json").read_text())
    return {key: getattr(row, key) for key in SAME}, (hits, json.loads((folder / "curve.json").read_text()))


def wait_for(here: Path, results: str, reached: Callable[[int], bool]) -> int:
    """The process id of the run, once a checkpoint of such a step is there."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        steps = [int(p.name) for p in (here / results).glob("runs/*/checkpoints/*") if p.name.isdigit()]
        if steps and reached(max(steps)):
            found = subprocess.run(
                ["pgrep", "-f", f"lra_bench.runs.execute {results}/"], capture_output=True, text=True
            )
            return int(found.stdout.split()[0])
        time.sleep(0.02)
    raise AssertionError("no checkpoint came")


@pytest.fixture(scope="module")
def whole() -> dict[str, Outcome]:
    return {}


def uninterrupted(here: Path, cache: Path, whole: dict[str, Outcome]) -> Outcome:
    if not whole:
        process = start(here, cache, "whole")
        assert process.wait() == 0, process.communicate()
        whole["outcome"] = outcome(here, "whole")
    return whole["outcome"]


@pytest.mark.parametrize("kills", [[TOGETHER], pytest.param([(20, False), TOGETHER], marks=pytest.mark.sweep)])
def test_killed_then_run_again_equals_the_uninterrupted_run(
    kills: list[tuple[int, bool]], here: Path, cache: Path, whole: dict[str, Outcome]
) -> None:
    """SIGKILL to the command and its run together, or to the run's process alone before."""
    expected = uninterrupted(here, cache, whole)
    assert expected[0]["best_step"] < LATE, "the parameters chosen before the second kill must survive it"
    for beyond, everyone in kills:
        process = start(here, cache, "cut")
        run = wait_for(here, "cut", lambda step, beyond=beyond: step > beyond)  # type: ignore[misc]
        if everyone:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(run, signal.SIGKILL)
        process.communicate()
        if not everyone:
            (row,) = (here / "cut").glob("runs/*/result.json")
            assert json.loads(row.read_text())["status"] == "oom"
            assert process.returncode == 1
    process = start(here, cache, "cut")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "resuming from step" in err
    assert outcome(here, "cut") == expected
    (row,) = (here / "cut").glob("runs/*/result.json")
    assert json.loads(row.read_text())["resumed"] == len(kills)


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(here: Path, cache: Path, whole: dict[str, Outcome]) -> None:
    expected = uninterrupted(here, cache, whole)
    process = start(here, cache, "stopped")
    wait_for(here, "stopped", lambda step: step > 10)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped and saved; the same command resumes" in err
    assert "Traceback" not in err
    assert not list((here / "stopped").glob("runs/*/result.json"))
    process = start(here, cache, "stopped")
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert outcome(here, "stopped") == expected


@pytest.mark.slow
def test_a_run_nobody_listens_to_saves_and_ends(here: Path, cache: Path) -> None:
    """The command killed alone: its run must not run on beside the next one."""
    process = start(here, cache, "orphan")
    run = wait_for(here, "orphan", lambda step: step > 10)
    os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{run}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{run}").exists()
    assert not list((here / "orphan").glob("runs/*/result.json"))
