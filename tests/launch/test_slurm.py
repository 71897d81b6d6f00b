"""Runs as jobs of submitit: preempted on its own processes, and sent to a Slurm that is no more than its words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samples import FOUR, LONG, TWO, Lra, started

from lra_bench import sweeps
from lra_bench.launch.engine import Engine, Order, Stopped, Tell
from lra_bench.launch.remote_task import RemoteTask, received
from lra_bench.records.schema import SCORED, Result

MINE = """\
engine: slurm
jobs: 3
partition: night
account: lab
time: 90
requeues: 5
signal: 60
cpus: 2
gpus: 1
memory: 8
setup: [module load cuda]
extra: {reservation: mine}
poll: 0.2
"""
SAID = {
    "sbatch": 'cp "$1" "$SAID/script.$(date +%N)"; echo Submitted batch job 7$(ls "$SAID"/script.* | wc -l)',
    "sacct": 'cat "$SAID/states"',
    "scancel": 'echo "$@" >> "$SAID/canceled"',
    "srun": """\
named() { echo "$1" | sed "s/%A/71/; s/%a/$SLURM_ARRAY_TASK_ID/; s/%t/0/"; }
exec "${@:6}" > "$(named "$3")" 2> "$(named "$5")"  # after --unbuffered --output OUT --error ERR
""",
}


@pytest.fixture
def said(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what Slurm's commands are told, once they are on the path; `mine.yaml` and `four.yaml`."""
    pytest.importorskip("submitit")
    folder = here / "said"
    folder.mkdir()
    for name, body in SAID.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    states(folder, *["PENDING"] * 4)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SAID", str(folder))
    (here / "mine.yaml").write_text(MINE)
    (here / "four.yaml").write_text(FOUR.replace("jobs: 2\n", ""))
    return folder


def states(said: Path, *every: str) -> None:
    lines = [f"71_{index}|{state}|" for index, state in enumerate(every)]
    (said / "states").write_text("\n".join(["JobID|State|NodeList", *lines, ""]))


def start(here: Path, cache: Path) -> subprocess.Popen[str]:
    return started(here, cache, "sweep", "four.yaml", "--launcher", "mine.yaml", "--json")


def heard(process: subprocess.Popen[str], reached: Callable[[str], bool]) -> str:
    """What the command says, until it has said so much."""
    text = ""
    assert process.stderr is not None
    for line in process.stderr:
        text += line
        if reached(text):
            return text
    raise AssertionError(text)


def left(process: subprocess.Popen[str]) -> str:
    """What the command says to Ctrl-C."""
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    return err


@pytest.mark.slow
def test_jobs_stay_in_the_queue_and_are_sent_once(said: Path, here: Path, cache: Path) -> None:
    process = start(here, cache)
    heard(process, lambda text: text.count("job 71_") == 4)
    assert "jobs 71 stay: `squeue --me` shows them, `scancel 71` ends them; the same command waits" in left(process)
    assert not (said / "canceled").exists()
    (script,) = said.glob("script.*")
    lines = script.read_text().splitlines()
    for line in (
        "array=0-3%3", "time=90", "cpus-per-task=2", "gpus-per-node=1", "mem=8GB", "partition=night", "account=lab",
        "reservation=mine", "signal=USR2@60", "open-mode=append", "job-name=lra",
    ):  # fmt: skip
        assert f"#SBATCH --{line}" in lines
    assert lines.index("module load cuda") < lines.index("export SUBMITIT_EXECUTOR=slurm")
    assert f" -u -m submitit.core._submit {here}/results/jobs" in script.read_text()

    process = start(here, cache)
    heard(process, lambda text: text.count("job 71_") == 4)
    assert len(list(said.glob("script.*"))) == 1, "what is queued is not sent again"
    one = {**os.environ, "LRA_CACHE": str(cache), "SLURM_JOB_ID": "78", "SLURM_ARRAY_JOB_ID": "71"}
    subprocess.run(["bash", str(script)], env={**one, "SLURM_ARRAY_TASK_ID": "0"}, cwd=here, check=True)
    text = heard(process, lambda text: "(1/4)" in text)
    assert "linear on short: step 12/12" in text, "what a job says is shown"
    left(process)

    states(said, "COMPLETED", "RUNNING", "FAILED", "CANCELLED by 0")
    process = start(here, cache)
    text = heard(process, lambda text: text.count("job 7") == 3)
    assert "jobs 71 72 stay" in left(process)
    assert "done before" in text
    again = [path for path in said.glob("script.*") if path != script]
    assert ["#SBATCH --array=0-1%2" in path.read_text() for path in again] == [True], "two have no job any more"


def pids(command: str) -> list[int]:
    return [int(pid) for pid in subprocess.run(["pgrep", "-f", command], capture_output=True, text=True).stdout.split()]


@pytest.mark.slow
def test_a_preempted_job_is_queued_again_and_goes_on(here: Path, cache: Path) -> None:
    pytest.importorskip("submitit")
    (here / "mine.yaml").write_text("engine: slurm\ncluster: local\npoll: 0.2\n")
    (here / "four.yaml").write_text(TWO.replace("linear,linformer", "linear") + LONG)
    process = start(here, cache)
    while not list(here.glob("results/runs/*/checkpoints/*0")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    job, run = pids(f"submitit.core._submit {here}"), pids(f"lra_bench.runs.execute {here}")
    for pid in [*job, *run]:  # as Slurm does it: a first signal to all processes of the job
        os.kill(pid, signal.SIGTERM)
    while pids(f"lra_bench.runs.execute {here}"):
        time.sleep(0.05)
    time.sleep(0.5)
    for pid in job:
        os.kill(pid, signal.SIGUSR2)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    (row,) = json.loads(out)
    assert row["status"] in SCORED
    assert (row["resumed"], row["steps"]) == (1, 100)
    assert "resuming from step" in err
    assert "Requeued job" in next(here.glob("results/jobs/*_log.out")).read_text()


def test_without_slurm_it_is_one_line(installed: Lra, here: Path) -> None:
    pytest.importorskip("submitit")
    done = installed("run", "-m", "linear", "-t", "short", "-c", "tiny", "--launcher", "slurm")
    assert done.returncode == 2
    assert done.stderr.startswith('lra: --launcher slurm: Could not detect "srun"')
    assert len(done.stderr.splitlines()) == 1


class Noted(Engine):
    """An engine that notes its orders, and whose run starts, and is cut short."""

    def __init__(self, orders: list[Order]) -> None:
        super().__init__(1)
        self.orders = orders

    def run(self, run: Any, tell: Tell) -> Result:
        tell({"event": "start", "step": 0})
        raise Stopped

    def end(self) -> None: ...

    def kill(self) -> None: ...


def test_to_begin_anew_is_done_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is queued again must not forget what it has saved itself."""
    monkeypatch.chdir(here)
    (run,) = sweeps.runs(sweeps.Request("linear", "short", "tiny"))
    orders: list[Order] = []

    def make_executor(order: Order) -> Noted:
        orders.append(order)
        return Noted(orders)

    remote = RemoteTask(run, Order(Path("results"), fresh=True)).written()
    for sent in (remote, remote, RemoteTask(run, remote.order).written()):
        with pytest.raises(Stopped):
            received(sent.do(make_executor, lambda event: None), "stopped")
    assert [order.fresh for order in orders] == [True, False, True]
    assert all(order.results.is_absolute() for order in orders)


def test_a_folder_that_is_not_shared_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    (run,) = sweeps.runs(sweeps.Request("linear", "short", "tiny"))
    outcome = RemoteTask(run, Order(here / "elsewhere")).do(lambda order: Noted([]), lambda event: None)
    assert "not there; all machines must share the results folder" in outcome["refused"]
