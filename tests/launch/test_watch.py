"""A process that answers is held to its terms: to its time, and to saying something now and then."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from lra_bench.errors import RunFailed
from lra_bench.launch import local
from lra_bench.launch.watch import Terms

HANGS = """\
import sys, time
print('{"event": "compile"}', flush=True)
print("of what it was about", file=sys.stderr)
time.sleep(60)
"""
SPEAKS = """\
import time
for _ in range(6):
    print('{"event": "round"}', flush=True)
    time.sleep(0.3)
print('{"event": "facts", "facts": []}', flush=True)
"""


def answers(module: str, folder: Path, monkeypatch: pytest.MonkeyPatch, terms: Terms) -> list[dict[str, Any]]:
    (folder / "mine.py").write_text(module, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return local.answers("mine", [], {}, lambda _: None, terms=terms)


@pytest.mark.parametrize(
    ("seconds", "silence", "why"),
    [(1.0, math.inf, "mine ended, as its time was over: "), (60.0, 1.0, "mine ended, as it had said nothing for 1 s")],
)
def test_what_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, silence: float, why: str
) -> None:
    log, begun = tmp_path / "out" / "log.txt", time.monotonic()
    with pytest.raises(RunFailed, match=why):
        answers(HANGS, tmp_path, monkeypatch, Terms(seconds, silence, log))
    assert time.monotonic() - begun < 20
    assert log.read_text(encoding="utf-8").splitlines()[1] == "of what it was about"


def test_what_speaks_may_take_longer_than_its_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers(SPEAKS, tmp_path, monkeypatch, Terms(60.0, 1.2, tmp_path / "log.txt")) == []
    assert not (tmp_path / "log.txt").exists()


def test_a_machine_that_opens_no_device_in_time_is_told_so() -> None:
    with pytest.raises(RunFailed, match=r"lra_bench\.measure\.machine opened no device in 0 s"):
        local.machine(seconds=0.01)
