"""Runs as tasks of Ray: on a real cluster of two nodes, of which one dies; and with no cluster, what is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from samples import LONG, TWO, Lra, started

from lra_bench import config
from lra_bench.errors import ConfigError
from lra_bench.launch import channel, cores, ray
from lra_bench.records.schema import SCORED

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture
def two_nodes(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes with a core each, `two.yaml` that names it, and `both.yaml`."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    try:
        nodes = [cluster.add_node(**NODE) for _ in range(2)]
        (here / "two.yaml").write_text(f"engine: ray\naddress: {cluster.address}\n")
        (here / "pydantic.py").write_text("raise ImportError('a file of the working folder was imported')\n")
        (here / "both.yaml").write_text(TWO + LONG.replace("steps=100", "steps=800"))
        yield nodes
    finally:
        cluster.shutdown()


def start(here: Path, cache: Path) -> subprocess.Popen[str]:
    return started(here, cache, "sweep", "both.yaml", "--launcher", "two.yaml", "--json")


@pytest.mark.sweep  # a cluster takes minutes to start
def test_a_run_is_a_task_of_a_cluster(here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=NODE)
    try:
        (here / "one.yaml").write_text(f"engine: ray\naddress: {cluster.address}\n")
        asked = ("run", "-m", "linear", "-t", "short", "-c", "tiny", "--launcher", "one.yaml", "--json")
        out, err = started(here, cache, *asked).communicate(timeout=300)
    finally:
        cluster.shutdown()
    (row,) = json.loads(out)
    assert row["status"] in SCORED, err
    assert row["jobs"] == 1, "a node has room for one"


def wait_for_checkpoints(here: Path, beyond: int) -> int:
    """Until both runs have saved a step beyond that one; the furthest step."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        steps: dict[Path, int] = {}
        for path in here.glob("results/runs/*/checkpoints/*"):
            if path.name.isdigit():
                steps[path.parent] = max(int(path.name), steps.get(path.parent, 0))
        if len(steps) == 2 and min(steps.values()) > beyond:
            return max(steps.values())
        time.sleep(0.02)
    raise AssertionError("no checkpoint came")


def beneath(pid: int) -> list[int]:
    """A process and all that it started, as they end when a machine does."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return [pid, *(below for child in children for below in beneath(int(child)))]


@pytest.mark.sweep
def test_stopped_then_a_node_killed_and_the_sweep_completes(two_nodes: list[Any], here: Path, cache: Path) -> None:
    stopped = start(here, cache)
    wait_for_checkpoints(here, 0)
    os.killpg(stopped.pid, signal.SIGINT)
    _, err = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, err
    assert "stopped and saved; the same command resumes" in err
    assert not subprocess.run(["pgrep", "-f", f"lra_bench.runs.execute {here}"], capture_output=True, text=True).stdout
    assert not list(here.glob("results/runs/*/result.json"))

    furthest = wait_for_checkpoints(here, 0)
    process = start(here, cache)
    wait_for_checkpoints(here, furthest)
    for pid in beneath(two_nodes[0].all_processes["raylet"][0].process.pid):
        os.kill(pid, signal.SIGKILL)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert err.count("its node was lost; started again") == 1
    rows = json.loads(out)
    assert [row["status"] in SCORED for row in rows] == [True] * 2
    assert sorted(row["resumed"] for row in rows) == [1, 2], "both were stopped, and one of them lost its node"
    assert {row["jobs"] for row in rows} == {1}, "a node has room for one"


def test_a_node_has_room_by_what_is_scarcest() -> None:
    share = {"CPU": 2.0, "GPU": 0.5, "memory": 0.0}
    assert channel.room({"CPU": 16, "GPU": 1}, share) == 2
    assert channel.room({"CPU": 3, "GPU": 8, "memory": 1}, share) == 1
    assert channel.room({"CPU": 64}, share) == 0


def test_cores_are_held_by_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(cores.tempfile, "gettempdir", lambda: str(tmp_path))
    with cores.held(2) as first, cores.held(2) as too_many, cores.held(1) as second, cores.held(1) as third:
        assert (first, too_many, second, third) == ([0, 1], [], [2], [])
    with cores.held(3) as again:
        assert again == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("engine: rya\n", r"mine\.yaml:1: engine: 'rya'; did you mean 'ray'\?"),
        ("jobs: 2\n", r"mine\.yaml: engine: missing; it can be: local, ray, slurm"),
        ("engine: ray\nadress: auto\n", r"mine\.yaml:2: adress: unknown key; did you mean 'address'\?"),
        ("engine: ray\ncpus: 0\n", r"mine\.yaml:2: cpus: Input should be greater than 0"),
        ("engine: slurm\ncluster: slrm\n", r"mine\.yaml:2: cluster: .*slurm\|local"),
        ("engine: local\njobs: null\n", r"mine\.yaml:2: jobs: "),
    ],
)
def test_a_launchers_file_says_what_is_wrong_in_it(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        config.launcher(str(tmp_path / "mine.yaml"))


def test_launchers_by_name() -> None:
    assert [type(config.launcher(name)) for name in (None, "ray", "slurm")] == [config.Local, config.Ray, config.Slurm]
    with pytest.raises(ConfigError, match=r"launcher 'slrm': not found; did you mean 'slurm'\?"):
        config.launcher("slrm")


@pytest.mark.parametrize(("engine", "library"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_extra_is_one_line(installed: Lra, here: Path, engine: str, library: str) -> None:
    (here / "without").mkdir()
    (here / f"without/{library}.py").write_text("raise ImportError\n")
    env = {"PYTHONPATH": os.pathsep.join([str(here / "without"), os.environ.get("PYTHONPATH", "")])}
    done = installed("run", "-m", "linear", "-t", "short", "-c", "tiny", "--launcher", engine, env=env)
    assert done.returncode == 2
    assert done.stderr == f"lra: --launcher {engine}: needs {library}: pip install 'lra-bench[{engine}]'\n"


def test_what_no_node_has_room_for_is_said() -> None:
    settings = config.launcher("ray").model_copy(update={"cpus": 8, "memory": 2.5})
    dead = {"Alive": False, "Resources": {"CPU": 64.0, "memory": 1e12}}
    node = {"Alive": True, "Resources": {"CPU": 4.0, "memory": 1e10}}
    cluster = SimpleNamespace(nodes=lambda: [dead, node])
    assert ray.room_for(cluster, ray.share(settings)) == "no node of the cluster has 8 CPU, 2.5 memory for a run"
    node["Resources"]["CPU"] = 8.0
    assert ray.room_for(cluster, ray.share(settings)) is None


def test_a_cluster_that_does_not_answer_is_one_line(installed: Lra, here: Path) -> None:
    pytest.importorskip("ray")
    (here / "mine.yaml").write_text("engine: ray\naddress: 127.0.0.1:1\n")
    done = installed("run", "-m", "linear", "-t", "short", "-c", "tiny", "--launcher", "mine.yaml")
    assert done.returncode == 2
    assert done.stderr == "lra: --launcher: ray: 127.0.0.1:1 cannot be reached: [Errno 111] Connection refused\n"
