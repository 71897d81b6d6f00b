"""A share of this machine for each of several jobs: of its cores, its GPUs and its memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lra_bench.errors import ConfigError
from lra_bench.launch import gpus, variables
from lra_bench.launch.gpus import Gpus
from lra_bench.measure.memory_limit import JOBS

# glibc gives large arrays back to the system and maps them again at every step; told to keep them, steps on CPU are
# 1.2 to 1.8 times faster. It is read when a process starts, so it is set here, and stands in the result.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_ARENA_MAX": "1"}
FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"
OF_A_GPU = 0.9  # of its memory, what the jobs on it are given together


@dataclass(frozen=True)
class Place:
    """What one of several jobs has of the machine."""

    cores: tuple[int, ...] = ()  # none: all that we may use
    gpus: Gpus | None = None  # None: all that are seen, if there are any
    jobs: int = 1  # on the machine at once
    on_a_gpu: int = 1  # of them, on each of these GPUs

    def environment(self) -> dict[str, str]:
        """The environment of a job's process: the user's own, which wins over ours, but for which GPUs it sees, and
        for what would change numbers."""
        sharing = self.on_a_gpu if self.gpus else self.jobs
        ours = KEEP_MEMORY | ({JOBS: str(self.jobs)} if self.jobs > 1 else {})
        ours |= {FRACTION: f"{OF_A_GPU / sharing:.2f}"} if sharing > 1 else {}
        seen = {self.gpus.variable: ",".join(self.gpus.names)} if self.gpus else {}
        return {**ours, **variables.within(os.environ), **seen}


WHOLE = Place()


def places(jobs: int, processes: int = 1) -> list[Place]:
    """This machine dealt to so many jobs, of so many processes; as many GPUs to each, of its own if there are enough.

    Raises:
        ConfigError: not every process has a GPU of its own.
    """
    cores, there = shares(jobs), gpus.seen() if jobs > 1 else None
    if there is None:
        return [Place(tuple(own), None, jobs) for own in cores]
    if processes > 1 and jobs * processes > len(there.names):
        raise ConfigError(
            f"--jobs {jobs} --processes {processes}: each process needs a GPU of its own, and there are "
            f"{len(there.names)}"
        )
    each, crowd = max(1, len(there.names) // jobs), -(-jobs // len(there.names))
    each_has = [
        [there.names[(job * each + n) % len(there.names)] for n in range(each // processes * processes)]
        for job in range(jobs)
    ]
    return [
        Place(tuple(own), Gpus(there.variable, tuple(names)), jobs, crowd)
        for own, names in zip(cores, each_has, strict=True)
    ]


def dealt(every: Sequence[Place]) -> str | None:
    """In words, how GPUs were dealt, if they were."""
    first = every[0]
    if first.gpus is None:
        return None
    if first.on_a_gpu > 1:
        return f"{len(every)} jobs, up to {first.on_a_gpu} on a GPU, each with its part of the memory"
    return f"{len(every)} jobs, GPUs of each: {len(first.gpus.names)}"


def shares(jobs: int) -> list[list[int]]:
    """The cores that we may use, dealt to so many jobs; no list where a job may use all."""
    if jobs == 1 or not hasattr(os, "sched_getaffinity"):
        return [[] for _ in range(jobs)]
    cores = sorted(os.sched_getaffinity(0))
    return [cores[job::jobs] or cores for job in range(jobs)]


@contextmanager
def on(cores: Sequence[int]) -> Iterator[None]:
    """What is started meanwhile has these cores for itself; all that we have, if none are named."""
    if not cores:
        yield
        return
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)
