"""Memory is planned against the container's or the job's limit, and dealt out; what else runs decides nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lra_bench.measure import memory_limit

GIB = 2**30


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Of a machine of 64 GiB, of which 16 are free."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: {64 * 2**20} kB\nMemFree: 5 kB\nMemAvailable: {16 * 2**20} kB\n")
    return tmp_path / "proc"


def put(root: Path, group: str, **files: object) -> None:
    (root / group).mkdir(parents=True, exist_ok=True)
    for name, said in files.items():
        (root / group / name.replace("__", ".")).write_text(f"{said}\n")


def smallest(proc: Path, **environ: str) -> tuple[float, str]:
    found = memory_limit.smallest(proc, proc.parent / "sys", environ)
    assert found is not None
    return found.bytes / GIB, found.by


def free(proc: Path) -> float:
    found = memory_limit.free(proc, proc.parent / "sys", {})
    assert found is not None
    return found / GIB


def test_without_a_group_it_is_the_machine_whatever_is_free(proc: Path) -> None:
    assert smallest(proc) == (64, "the machine")
    assert free(proc) == 16
    (proc / "meminfo").write_text(f"MemTotal: {64 * 2**20} kB\nMemAvailable: 7 kB\n")
    assert smallest(proc) == (64, "the machine")


def test_version_2_is_read_from_the_own_group_up(proc: Path) -> None:
    root = proc.parent / "sys/fs/cgroup"
    (proc / "self/cgroup").write_text("0::/slurm/job_7/step_0\n")
    put(root, "slurm/job_7/step_0", memory__max="max")
    put(root, "slurm/job_7", memory__max=8 * GIB, memory__current=6 * GIB, memory__stat=f"anon 1\ninactive_file {GIB}")
    put(root, "slurm", memory__max=32 * GIB)
    assert smallest(proc) == (8, f"cgroup v2, {root}/slurm/job_7/memory.max")
    assert free(proc) == 3, "5 of 8 GiB are in use, and what the kernel may forget is not"


def test_version_2_in_a_container_that_sees_its_group_as_the_root(proc: Path) -> None:
    root = proc.parent / "sys/fs/cgroup"
    (proc / "self/cgroup").write_text("0::/kubepods/pod1/c1\n")
    put(root, "", memory__max=4 * GIB, memory__current=GIB)
    assert smallest(proc) == (4, f"cgroup v2, {root}/memory.max")
    (proc / "self/cgroup").write_text("0::/\n")
    assert smallest(proc)[0] == 4


def test_version_1_and_both_at_once(proc: Path) -> None:
    root = proc.parent / "sys/fs/cgroup"
    (proc / "self/cgroup").write_text("9:name=systemd:/\n4:cpu,memory:/docker/abc\n3:cpuset:/\n0::/\n")
    put(root, "memory/docker/abc", memory__limit_in_bytes=2**63 - 4096)
    assert smallest(proc) == (64, "the machine"), "no limit"
    put(
        root, "memory/docker", memory__limit_in_bytes=12 * GIB, memory__usage_in_bytes=10 * GIB,
        memory__stat=f"inactive_file 0\ntotal_inactive_file {2 * GIB}",
    )  # fmt: skip
    assert smallest(proc) == (12, f"cgroup v1, {root}/memory/docker/memory.limit_in_bytes")
    assert free(proc) == 4
    put(root, "unified", memory__max=3 * GIB)
    assert smallest(proc)[0] == 3


@pytest.mark.parametrize(
    ("environ", "gib", "by"),
    [
        ({"SLURM_MEM_PER_NODE": "10240"}, 10, "SLURM_MEM_PER_NODE"),
        ({"SLURM_MEM_PER_CPU": "2048", "SLURM_CPUS_ON_NODE": "6"}, 12, "SLURM_MEM_PER_CPU x 6"),
        ({"SLURM_MEM_PER_GPU": "16384", "SLURM_GPUS_ON_NODE": "2"}, 32, "SLURM_MEM_PER_GPU x 2"),
        ({"SLURM_MEM_PER_NODE": "0"}, 64, "the machine"),  # all of the node's
        ({"SLURM_MEM_PER_CPU": "2048"}, 64, "the machine"),  # of how many is not said
    ],
)
def test_a_job_of_slurm_has_what_it_asked_for(proc: Path, environ: dict[str, str], gib: float, by: str) -> None:
    assert smallest(proc, **environ) == (gib, by)


def test_what_is_there_when_nothing_can_be_read(tmp_path: Path) -> None:
    assert smallest(tmp_path / "proc")[0] > 0, "as the C library has it"


def test_how_many_share_it() -> None:
    assert [memory_limit.jobs({memory_limit.JOBS: said}) for said in ("4", "1", "0", "", "many")] == [4, 1, 1, 1, 1]
    assert memory_limit.jobs({}) == 1


DEALT = """
import jax
from lra_bench.measure import memory_limit
from lra_bench.measure.memory import available_bytes, crowded, limited_by
memory_limit.limits = lambda *_: [memory_limit.Limit(100 * 2**30, "a test", 40 * 2**30)]
device = jax.local_devices()[0]
print(available_bytes(device) / 2**30, limited_by(device), sep="; ")
print(crowded(20 * 2**30, device), crowded(21 * 2**30, device), sep="; ")
"""


def test_it_is_dealt_to_jobs_and_to_devices() -> None:
    """A plan is of one device, and devices that are forced upon a CPU have one memory."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3", "JAX_PLATFORMS": "cpu", memory_limit.JOBS: "2"}
    done = subprocess.run([sys.executable, "-c", DEALT], capture_output=True, text=True, env=os.environ | flags)
    dealt, now = done.stdout.splitlines()
    there, said = dealt.split("; ")
    assert float(there) == pytest.approx(memory_limit.SHARE * 100 / 6, abs=1e-6)
    assert said == "80% of 100.0 GiB (a test), dealt to 2 jobs x 3 devices"
    assert now == "None; the step needs 63.0 GiB as planned, and 60.0 GiB are free at the moment"
