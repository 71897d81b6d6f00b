"""How much of this machine's memory a process may use: the machine's own, its container's, its job's.

A limit does not change with what else runs at the moment, for it decides how a batch is cut, and so the bits of a run.
What is free at the moment is told beside it, and decides nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

SHARE = 0.8  # of a limit: the rest is for the interpreter, the compiler, the examples and the system
JOBS = "LRA_JOBS"  # the variable that says how many runs run at once on this machine
MIB = 2**20  # Slurm's unit


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")  # the files, and a line of memory.stat
V2 = ("memory.max", "memory.current", "inactive_file")


class Limit(NamedTuple):
    """So many bytes, who says so, and how many of them are in use at the moment."""

    bytes: int
    by: str
    used: int = 0


def smallest(
    proc: Path = Path("/proc"), sys: Path = Path("/sys"), environ: Mapping[str, str] = os.environ
) -> Limit | None:
    """The smallest of the limits; None where nothing states one."""
    return min(limits(proc, sys, environ), default=None)


def free(proc: Path = Path("/proc"), sys: Path = Path("/sys"), environ: Mapping[str, str] = os.environ) -> int | None:
    """Bytes that nobody uses at the moment, within every limit."""
    return min((max(0, one.bytes - one.used) for one in limits(proc, sys, environ)), default=None)


def limits(proc: Path, sys: Path, environ: Mapping[str, str]) -> Iterator[Limit]:
    """The machine's memory, and what its control groups and Slurm let a process have of it."""
    whole = _machine(proc)
    if whole is not None:
        yield whole
    yield from _groups(proc, sys / "fs/cgroup")
    yield from _slurm(environ)


def jobs(environ: Mapping[str, str] = os.environ) -> int:
    """The runs that share this machine, as whoever started this process says."""
    said = environ.get(JOBS, "")
    return int(said) if said.isdecimal() and int(said) else 1


def _machine(proc: Path) -> Limit | None:
    try:
        pairs = (line.split()[:2] for line in (proc / "meminfo").read_text(encoding="utf-8").splitlines())
        kibibytes = {name: int(said) for name, said in pairs}
        total = kibibytes["MemTotal:"]
        return Limit(total * 1024, "the machine", (total - kibibytes.get("MemAvailable:", total)) * 1024)
    except (OSError, KeyError):
        pass
    try:
        return Limit(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "the machine")
    except (OSError, ValueError):
        return None


def _groups(proc: Path, root: Path) -> Iterator[Limit]:
    """Of the control groups that this process is in, versions 1 and 2, and of those above them.

    A container sees its own group as the root, whatever path the kernel names; what is not there is gone past.
    """
    try:
        lines = (proc / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            for mount in (root, root / "unified"):
                yield from _above(mount, path, "cgroup v2", *V2)
        elif "memory" in controllers.split(","):
            yield from _above(root / "memory", path, "cgroup v1", *V1)


def _above(mount: Path, path: str, by: str, limit: str, usage: str, cache: str) -> Iterator[Limit]:
    """What the groups' files say, from the process's own up to the mount; files that the kernel may forget are free."""
    group = mount / path.strip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(mount):
            return
        said = _read(folder / limit)
        if said.isdecimal():  # else "max", none, or no such file
            stat = dict(line.split()[:2] for line in _read(folder / "memory.stat").splitlines())
            used = _number(_read(folder / usage)) - _number(stat.get(cache, ""))
            yield Limit(int(said), f"{by}, {folder / limit}", max(0, used))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _slurm(environ: Mapping[str, str]) -> Iterator[Limit]:
    """Of the job: Slurm may hold it to them without a control group. 0 stands for all that the node has."""
    each = {
        "SLURM_MEM_PER_NODE": 1,
        "SLURM_MEM_PER_CPU": _number(environ.get("SLURM_CPUS_ON_NODE", "")),
        "SLURM_MEM_PER_GPU": _number(environ.get("SLURM_GPUS_ON_NODE", "")),
    }
    for name, count in each.items():
        mebibytes = _number(environ.get(name, ""))
        if mebibytes and count:
            yield Limit(mebibytes * count * MIB, name if count == 1 else f"{name} x {count}")


def _number(text: str) -> int:
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0
