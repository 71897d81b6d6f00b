"""One run on several processes: the losses and scores of one, one result, and no step lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from lra_bench import distributed, sweeps
from lra_bench.data import batches
from lra_bench.errors import ConfigError
from lra_bench.launch import local, process_group
from lra_bench.records import store
from lra_bench.shapes import Split
from lra_bench.sweeps import Request

LONG = ("training.steps=80", "training.eval_every=40", "training.checkpoint_every=5")
LATE = 240  # seconds after which a test gives up


@pytest.mark.parametrize(
    ("processes", "process", "coordinator", "said"),
    [
        ("two", 0, "here:1", r"--processes two: must be an integer from 1 up, or auto"),
        ("0", 0, "here:1", r"--processes 0: must be"),
        ("2", None, "here:1", r"--process: which of the 2 this is, from 0 to 1"),
        ("2", 2, "here:1", r"--process 2: which of the 2"),
        ("2", 0, None, r"--coordinator : must be HOST:PORT"),
        ("2", 0, "here", r"--coordinator here: must be HOST:PORT"),
        ("2", 1, "no-such-host.invalid:1", r"no-such-host\.invalid:1: no such host"),
        ("auto", 1, None, r"leave them out"),
    ],
)
def test_a_place_that_is_none_is_named(processes: str, process: int | None, coordinator: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        distributed.join(processes, process, coordinator)


def test_a_first_process_that_is_not_there_is_waited_for_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "PATIENCE", 1)
    with pytest.raises(ConfigError, match=r"nobody listens there; is process 0 started\?"):
        distributed.join("2", 1, f"127.0.0.1:{process_group.free_port()}")


def test_what_jax_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise ValueError("coordinator_address\nshould be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    with pytest.raises(ConfigError, match="--processes auto: no Slurm, MPI or TPU is in the environment"):
        distributed.join("auto", None, None)
    with pytest.raises(ConfigError, match="--processes 2: coordinator_address should be defined"):
        distributed.join("2", 0, "127.0.0.1:1")


def test_who_is_alone_waits_for_nobody() -> None:
    distributed.join("1", None, None)
    distributed.barrier()
    assert distributed.is_first()
    assert not distributed.several()
    assert distributed.numbers(2**53 - 1).tolist() == [2**53 - 1]
    assert [distributed.all_agree(asked, 1) for asked in (True, False)] == [True, False]
    assert distributed.abort(3) == 3


def test_a_process_gathers_its_own_rows_alone() -> None:
    tokens = np.arange(1, 23, dtype=np.int32).reshape(22, 1, 1)
    split, rows = Split(tokens, np.ones((22, 1), np.int32), np.arange(22, dtype=np.int32)), np.array([1, 2, 5])
    whole, part = batches.batch_at(split, 8, 0, 3), batches.batch_at(split, 8, 0, 3, rows)
    assert part.label.tolist() == whole.label[rows].tolist()
    assert part.tokens.tolist() == whole.tokens[rows].tolist()
    last = list(batches.in_order(split, 8, rows))[-1]
    assert (last.label.tolist(), last.weight.tolist()) == ([17, 18, 21], [1, 1, 1])


def sh(*scripts: str) -> process_group.ProcessGroup:
    """A group of shells."""
    members = [subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) for script in scripts]
    return process_group.ProcessGroup(members, [Path(f"log-{member}.txt") for member in range(len(scripts))])


@pytest.mark.parametrize(
    ("scripts", "code", "blamed"),
    [
        (("exit 0", "exit 0"), 0, 0),
        (("exec sleep 30", "kill -9 $$"), -9, 1),
        (("sleep 0.1; exit 3", "kill -9 $$"), -9, 1),
        (("exit 3", "sleep 0.1; kill -6 $$"), 0, 0),
        (("exec sleep 30", "exit 2"), 2, 1),
    ],
)
def test_when_one_dies_the_others_end_and_it_is_blamed(
    monkeypatch: pytest.MonkeyPatch, scripts: tuple[str, ...], code: int, blamed: int
) -> None:
    monkeypatch.setattr(process_group, "GRACE", 0.5)
    began, child = time.monotonic(), sh(*scripts)
    assert child.wait() == code
    assert time.monotonic() - began < 10
    assert process_group.blamed(child, Path()) == (f"process {blamed} of 2 ", Path(f"log-{blamed}.txt"))


def test_all_that_stop_are_stopped() -> None:
    assert sh("exit 130", "exit 130").wait() == 130


def test_of_two_that_have_ended_the_killed_one_is_blamed() -> None:
    for scripts, code, blamed in ((("exit 3", "kill -9 $$"), -9, 1), (("kill -9 $$", "exit 3"), -9, 0)):
        members = [subprocess.Popen(["sh", "-c", script], text=True) for script in scripts]
        for member in members:
            member.wait()
        child = process_group.ProcessGroup(members, [Path(), Path()])
        assert (child.wait(), child.blamed[0]) == (code, f"process {blamed} of 2 ")


def test_a_signal_is_for_all() -> None:
    child = sh(*["trap 'exit 130' TERM; echo ready; while :; do sleep 0.02; done"] * 2)
    for member in child._members:
        assert member.stdout is not None
        member.stdout.readline()
    child.send_signal(signal.SIGTERM)  # a SIGINT is ignored by what is started in the background
    assert child.wait() == 130


def test_cores_and_gpus_are_dealt_to_the_processes(tmp_path: Path) -> None:
    child = process_group.start(["echo"], tmp_path, os.environ, 2, [0, 1, 2], [4, 5, 6])
    assert child.wait() == 0
    assert child.stdout is not None
    said = child.stdout.read().split()
    assert said[:2] + said[4:] == ["--processes", "2", "--process", "0", "--cores", "0,2", "--devices", "4,6"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log-1.txt", "log.txt"]


def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    for place, processes, expected in (
        ({"platform": "cpu", "devices": 1, "device": "one"}, 7, []),
        ({"platform": "gpu", "devices": 3, "device": "one"}, 2, [0, 1]),  # as many for each
    ):
        monkeypatch.setattr(local, "machine", lambda place=place: place)
        local.gpus.cache_clear()
        assert local.gpus(processes) == expected
    local.gpus.cache_clear()
    with pytest.raises(ConfigError, match="--processes 4: of this machine's 3 one, one each"):
        local.gpus(4)
    local.gpus.cache_clear()


def start(here: Path, cache: Path, results: str, *more: str) -> subprocess.Popen[str]:
    settings = [word for setting in LONG for word in ("--set", setting)]
    command = [str(Path(sys.executable).parent / "lra"), "run", "-m", "linear", "-t", "short", "-c", "tiny"]
    return subprocess.Popen(
        [*command, *settings, "-o", results, "--json", *more],
        cwd=here, env=environment(cache), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "LRA_CACHE": str(cache), "JAX_PLATFORMS": "cpu"}


def row(process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    """The only one that a command gives."""
    out, err = process.communicate(timeout=LATE)
    assert process.returncode == code, err
    (found,) = json.loads(out)
    return dict(found)


def second(here: Path, results: str, beyond: int = 0) -> int:
    """The process id of the second process, once a checkpoint beyond a step is there."""
    deadline = time.monotonic() + LATE
    while saved(here, results) <= beyond:
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.02)
    (found,) = members(results, "--process 1")
    return found


def saved(here: Path, results: str) -> int:
    """The step of the latest checkpoint."""
    steps = [int(path.name) for path in (here / results).glob("runs/*/checkpoints/*") if path.name.isdigit()]
    return max(steps, default=0)


def members(results: str, which: str = "") -> list[int]:
    """The process ids of a run's processes."""
    found = subprocess.run(
        ["pgrep", "-f", f"lra_bench.runs.execute {results}/.*{which}"], capture_output=True, text=True
    )
    return [int(word) for word in found.stdout.split()]


def check_same(here: Path, one: str, other: str) -> None:
    """The losses to float accumulation, the scores exactly."""
    (left,), (right,) = ((here / results / "runs").iterdir() for results in (one, other))
    curves = [json.loads((folder / "curve.json").read_text()) for folder in (left, right)]
    assert len(curves[0]) == 2
    for here_, there in zip(*curves, strict=True):
        assert there["train_loss"] == pytest.approx(here_["train_loss"], rel=1e-5)
        assert there["val_score"] == here_["val_score"]
    assert (left / "per_example.json").read_text() == (right / "per_example.json").read_text()


@pytest.mark.slow
def test_killed_then_stopped_then_run_on_they_have_the_losses_of_one(here: Path, cache: Path) -> None:
    alone = row(start(here, cache, "one"))
    assert (alone["processes"], alone["devices"]) == (1, 1)
    pair = start(here, cache, "two", "--processes", "2")
    os.kill(second(here, "two"), signal.SIGKILL)
    killed = row(pair, code=1)
    assert (killed["status"], killed["error"]) == (
        "oom", "process 1 of 2 killed by the system (signal 9): most likely out of memory"
    )  # fmt: skip
    assert not members("two"), "the other one ends"
    pair = start(here, cache, "two", "--processes", "2")
    os.kill(second(here, "two", saved(here, "two")), signal.SIGINT)
    _, err = pair.communicate(timeout=LATE)
    assert pair.returncode == 130
    assert "resuming from step" in err
    assert "stopped and saved; the same command resumes" in err
    together = row(start(here, cache, "two", "--processes", "2"))
    assert (together["processes"], together["devices"], together["resumed"]) == (2, 2, 2)
    assert together["run"] == alone["run"]
    check_same(here, "one", "two")


@pytest.mark.sweep
def test_processes_that_slurm_starts_find_each_other(here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    (run,) = sweeps.runs(Request("linear", "short", "tiny"))
    folder = store.folder(Path("results"), run)
    store.write_json(folder / "run.json", run.model_dump())
    slurm = {"JOB_ID": str(free_job()), "STEP_NODELIST": "localhost", "NTASKS": "2", "STEP_NUM_NODES": "1"}
    command = [sys.executable, "-m", "lra_bench.runs.execute", str(folder), "--processes", "auto"]
    pair = []
    for task in ("0", "1"):
        said = {f"SLURM_{name}": value for name, value in (slurm | {"PROCID": task, "LOCALID": task}).items()}
        pair.append(subprocess.Popen(command, env=environment(cache) | said, stdout=subprocess.PIPE, text=True))
    out = [process.communicate(timeout=LATE)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert '{"event": "row"' in out[0]
    assert '{"event"' not in out[1], "only the first speaks"
    found = store.get(Path("results"), run)
    assert found is not None
    assert found.processes == 2


def free_job() -> int:
    """A job whose port, as JAX reckons it, nobody listens at."""
    for job in range(os.getpid() % 4096, 8192):
        with socket.socket() as port:
            if port.connect_ex(("127.0.0.1", 61440 + job % 4096)):
                return job
    raise AssertionError("no port is free")
