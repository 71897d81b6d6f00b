"""The machine dealt to jobs: cores, GPUs and memory; no GPU twice as long as there are enough."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from lra_bench import config, sweeps
from lra_bench.errors import ConfigError
from lra_bench.launch import gpus, local
from lra_bench.launch.engine import Order
from lra_bench.launch.place import FRACTION, WHOLE, dealt, places
from lra_bench.measure.memory_limit import JOBS
from lra_bench.records import store
from lra_bench.sweeps import Request

CUDA = "CUDA_VISIBLE_DEVICES"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No word of the environment on devices."""
    for name in (*gpus.VISIBLE.values(), "JAX_PLATFORMS", FRACTION, JOBS):
        monkeypatch.delenv(name, raising=False)


def machine(monkeypatch: pytest.MonkeyPatch, count: int, kind: str | None = "cuda") -> None:
    """One with so many GPUs."""
    monkeypatch.setattr(gpus, "plugin", lambda: kind)
    monkeypatch.setattr(gpus, "count", lambda kind: count)


def seen(environment: dict[str, str]) -> str | None:
    return environment.get(CUDA)


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, ["0", "1", "2"]),
        ({CUDA: "2,0"}, ["2", "0"]),
        ({CUDA: "GPU-8f3a, MIG-77"}, ["GPU-8f3a", "MIG-77"]),
        ({CUDA: "1,-1,2"}, ["1"]),  # CUDA reads no farther
        ({CUDA: ""}, None),
        ({CUDA: "NoDevFiles"}, None),
        ({"JAX_PLATFORMS": "cpu"}, None),
        ({"JAX_PLATFORMS": "cuda,cpu"}, ["0", "1", "2"]),
    ],
)
def test_what_gpus_a_run_may_use(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], names: list[str] | None
) -> None:
    machine(monkeypatch, 3)
    found = gpus.seen(environ)
    assert (found and list(found.names)) == names
    machine(monkeypatch, 3, kind=None)
    assert gpus.seen(environ) is None, "JAX has no plugin that would use them"


def test_the_driver_tells_how_many_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    smi = tmp_path / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(
        "#!/bin/sh\necho 'GPU 0: A (UUID: GPU-1)'\necho '  MIG 1g.5gb Device 0: (UUID: MIG-1)'\necho 'GPU 1: A'\n"
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    assert gpus.count("cuda") == 2
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "gpus/0000:01:00.0").mkdir(parents=True)
    monkeypatch.setattr(gpus, "NVIDIA", tmp_path / "gpus")
    assert gpus.count("cuda") == 1
    for node, said in (("0", "0"), ("1", "51110"), ("2", "4477")):
        (tmp_path / "nodes" / node).mkdir(parents=True)
        (tmp_path / "nodes" / node / "gpu_id").write_text(f"{said}\n")
    monkeypatch.setattr(gpus, "AMD", tmp_path / "nodes")
    assert gpus.count("rocm") == 2


@pytest.mark.parametrize(
    ("jobs", "there", "expected", "fraction"),
    [
        (8, 8, ["0", "1", "2", "3", "4", "5", "6", "7"], None),
        (2, 8, ["0,1,2,3", "4,5,6,7"], None),
        (3, 8, ["0,1", "2,3", "4,5"], None),  # as many to each: their times are to be compared
        (4, 2, ["0", "1", "0", "1"], "0.45"),
        (3, 1, ["0", "0", "0"], "0.30"),
    ],
)
def test_gpus_are_dealt_out(
    monkeypatch: pytest.MonkeyPatch, jobs: int, there: int, expected: list[str], fraction: str | None
) -> None:
    machine(monkeypatch, there)
    each = [place.environment() for place in places(jobs)]
    assert [seen(environment) for environment in each] == expected
    assert {environment.get(FRACTION) for environment in each} == {fraction}
    assert {environment[JOBS] for environment in each} == {str(jobs)}
    monkeypatch.setenv(CUDA, ",".join(f"GPU-{n}" for n in range(there)))
    assert seen(places(jobs)[0].environment()) == ",".join(f"GPU-{n}" for n in expected[0].split(",")), "of those given"


def test_one_job_has_the_whole_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 8)
    assert places(1) == [WHOLE]
    assert seen(WHOLE.environment()) is None
    assert JOBS not in WHOLE.environment()


def test_without_gpus_jobs_share_what_memory_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 0)
    for place in places(4):
        assert seen(place.environment()) is None
        assert 0.2 < float(place.environment()[FRACTION]) < 0.25
    assert dealt(places(4)) is None


def test_each_process_of_a_job_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 7)
    two = places(2, processes=2)
    assert [seen(place.environment()) for place in two] == ["0,1", "3,4"], "as many for each process"
    assert [local.ordinals(place, 2) for place in two] == [[0, 1], [0, 1]]
    with pytest.raises(
        ConfigError, match="--jobs 4 --processes 2: each process needs a GPU of its own, and there are 7"
    ):
        places(4, processes=2)


CHILD = """
import json, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
running = folder.parent / f"on-{os.environ['CUDA_VISIBLE_DEVICES']}"
running.mkdir()  # fails where another is on it
time.sleep(0.3)
running.rmdir()
run, result = (json.loads((folder / name).read_text()) for name in ("run.json", "blank.json"))
assert run["model"] == "linear"
(folder / "result.json").write_text(json.dumps(result))
print(json.dumps({"event": "note", "said": os.environ["CUDA_VISIBLE_DEVICES"]}), flush=True)
"""


def test_no_two_runs_of_a_sweep_are_on_one_gpu_at_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    machine(monkeypatch, 2)
    (here / "child.py").write_text(CHILD)
    command: Any = lambda folder, jobs, fresh=False: [sys.executable, str(here / "child.py"), str(folder)]  # noqa: E731
    monkeypatch.setattr(local, "command", command)
    runs = sweeps.runs(Request("linear", "short", "tiny", seeds=(0, 1, 2, 3, 4)))
    for run in runs:
        store.write_json(store.folder(Path("r"), run) / "blank.json", store.blank(run, "oom").as_dict())
    told: list[str] = []
    tell: Any = lambda run, event: told.append(event.get("said", ""))  # noqa: E731
    sweeps.run(runs, config.launcher(None), Order(Path("r"), jobs=2), tell)
    assert told.count("2 jobs, GPUs of each: 1") == 1
    assert {said for said in told if said.isdecimal()} == {"0", "1"}
    assert len(store.read_results(Path("r"))) == 5
    assert {row.status for row in store.read_results(Path("r"))} == {"oom"}, "each left its own"


def test_a_job_list_says_how_many_share_the_memory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    (run,) = sweeps.runs(Request("linear", "short", "tiny"))
    assert f"{JOBS}=3" in local.line(run, here, 3)
    assert JOBS not in local.line(run, here, 1)
    assert json.loads((store.folder(here, run) / "run.json").read_text())["model"] == "linear"
