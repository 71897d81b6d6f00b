"""How much of its cores' time a process did not get while it was timed: other programs had it, or the host did.

By Linux's own count, /proc/stat, of the cores that the process may use: what they were busy with, steal (other virtual
machines) included, less what the process took itself. The load average is no such number: it counts our own threads,
those that wait for a disk, and a minute that is over.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

STAT = Path("/proc/stat")
FIELDS = 8  # of a core's line: user, nice, system, idle, iowait, irq, softirq, steal; guests are in the first two
IDLE = (3, 4)  # of them, that no program has


class Ticks(NamedTuple):
    """Hundredths of a second, as the system counts, of all cores that a process may use."""

    others: float = 0.0  # that others had
    whole: float = 0.0  # that went by


class Load:
    """What others have of this process's cores, from where it was made, and had before, in other sessions."""

    def __init__(self, before: Iterable[float] = Ticks(), stat: Path = STAT) -> None:
        self._before, self._stat = Ticks(*before), stat
        self._ours, self._cores = _ours(), _cores(stat)

    @property
    def ticks(self) -> Ticks:
        """What was counted until now."""
        now, busy, whole = _cores(self._stat), 0.0, 0.0
        for core, then in self._cores.items():
            passed = [after - before for after, before in zip(now.get(core, then), then, strict=True)]
            whole += sum(passed)
            busy += sum(passed) - sum(passed[field] for field in IDLE)
        others = max(0.0, busy - (_ours() - self._ours))
        return Ticks(self._before.others + others, self._before.whole + whole)

    @property
    def share(self) -> float | None:
        """What others had, from 0 to 1; None where the system does not say."""
        ticks = self.ticks
        return min(1.0, ticks.others / ticks.whole) if ticks.whole else None


def _ours() -> float:
    """Ticks of all threads of this process."""
    times = os.times()
    return (times.user + times.system) * os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.0


def _cores(stat: Path) -> Mapping[str, list[int]]:
    """The counts of each core that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return {}
    ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    try:
        lines = [line.split() for line in stat.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError):
        return {}
    return {name: [int(n) for n in counts[:FIELDS]] for name, *counts in filter(None, lines) if name in ours}
