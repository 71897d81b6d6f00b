"""One run on several processes of this machine, which are to who started them as one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

LOOK = 0.01  # seconds between looks at who has ended
GRACE = 5.0  # seconds in which the others may end by themselves when one has
FAILED = 3  # the exit code of one of several whose result, if it is the first, says how


class ProcessGroup:
    """Several processes: the first speaks for all, a signal is for all, and when one dies the others are ended."""

    def __init__(self, members: Sequence[subprocess.Popen[str]], logs: Sequence[Path]) -> None:
        self._members, self._logs = members, logs
        self._lost: int | None = None  # the member that ended badly before the others
        self._watch = threading.Thread(target=self._until_all_have_ended, daemon=True)
        self._watch.start()

    @property
    def stdout(self) -> IO[str] | None:
        """What the first says."""
        return self._members[0].stdout

    def send_signal(self, what: int) -> None:
        """To all."""
        for member in self._members:
            member.send_signal(what)

    def wait(self) -> int:
        """Until all have ended; the `returncode`."""
        self._watch.join()
        return self.returncode

    @property
    def returncode(self) -> int:
        """Of all, once they have ended: that of whoever ended badly first; 0 where the first has left its result."""
        code = 0 if self._lost is None else self._members[self._lost].returncode
        return 0 if code == FAILED and self._lost == 0 else code

    @property
    def blamed(self) -> tuple[str, Path]:
        """Whose `returncode` it is, as a sentence begins, and its log."""
        lost = self._lost or 0
        return f"process {lost} of {len(self._members)} ", self._logs[lost]

    def _until_all_have_ended(self) -> None:
        while None in (codes := self._codes()) and not any(codes):
            time.sleep(LOOK)
        bad = [(code, -member) for member, code in enumerate(codes) if code]
        self._lost = -min(bad)[1] if bad else None  # of several, the one that a signal killed
        until = time.monotonic() + GRACE
        while None in self._codes() and time.monotonic() < until:
            time.sleep(LOOK)
        self.send_signal(signal.SIGKILL)
        for member in self._members:
            member.wait()

    def _codes(self) -> list[int | None]:
        return [member.poll() for member in self._members]


Child = subprocess.Popen[str] | ProcessGroup


def start(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    processes: int,
    cores: Sequence[int],
    gpus: Sequence[int],
) -> Child:
    """Start the command that runs the run in `folder`, on these cores, all if none are named; as one process or as so
    many, with a share of the cores and of the GPUs each. What they write to stderr is appended to their logs."""
    if processes == 1:
        return _process([*command, *_list("--cores", cores)], environment, folder / "log.txt", subprocess.PIPE)
    cores = cores or sorted(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [])
    together = ["--processes", str(processes), "--coordinator", f"127.0.0.1:{free_port()}"]
    logs = [folder / (f"log-{member}.txt" if member else "log.txt") for member in range(processes)]
    members = []
    for member, log in enumerate(logs):
        share = _list("--cores", cores[member::processes] or cores) + _list("--devices", gpus[member::processes])
        full = [*command, *together, "--process", str(member), *share]
        members.append(_process(full, environment, log, subprocess.DEVNULL if member else subprocess.PIPE))
    return ProcessGroup(members, logs)


def _process(command: Sequence[str], environment: Mapping[str, str], log: Path, out: int) -> subprocess.Popen[str]:
    with log.open("ab") as stderr:
        return subprocess.Popen(command, stdout=out, stderr=stderr, encoding="utf-8", errors="replace", env=environment)


def _list(flag: str, numbers: Sequence[int]) -> list[str]:
    return [flag, ",".join(map(str, numbers))] if numbers else []


def free_port() -> int:
    """A port of this machine at which nobody listens now."""
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return int(any_port.getsockname()[1])


def blamed(child: Child, folder: Path) -> tuple[str, Path]:
    """Which process has the child's exit code, as a sentence begins, where there are several; and its log."""
    return child.blamed if isinstance(child, ProcessGroup) else ("", folder / "log.txt")
