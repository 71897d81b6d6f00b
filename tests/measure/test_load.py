"""What others had of the cores, by a /proc/stat of our own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lra_bench.measure import load
from lra_bench.measure.load import Load, Ticks


@pytest.fixture
def stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cores that are ours, and one that is not; the process itself takes 100 ticks between two looks."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    ours = iter((500.0, 600.0))
    monkeypatch.setattr(load, "_ours", lambda: next(ours))
    path = tmp_path / "stat"
    path.write_text("cpu 9 9 9 9\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\ncpu2 0 0 0 0 0 0 0 0\nintr 5 0\n")
    return path


def after(stat: Path, first: str, second: str) -> None:
    lines = ("cpu 9 9 9 9", f"cpu0 {first} 0 0", f"cpu1 {second} 0 0", "cpu2 900 0 0 0 0 0 0 0 0 0", "intr 5 0")
    stat.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("first", "second", "others"),
    [
        ("100 0 0 100 0 0 0 0", "0 0 0 150 50 0 0 0", 0),  # we alone; waiting for a disk is idle
        ("100 0 0 100 0 0 0 0", "100 0 0 100 0 0 0 0", 100),  # another program on the second core
        ("100 0 0 100 0 0 0 0", "0 100 0 100 0 0 0 0", 100),  # a polite one
        ("100 0 0 40 0 0 0 60", "0 0 0 200 0 0 0 0", 60),  # another machine of the host
        ("50 0 0 150 0 0 0 0", "0 0 0 200 0 0 0 0", 0),  # counted coarsely: never less than none
    ],
)
def test_what_others_had_of_our_cores(stat: Path, first: str, second: str, others: int) -> None:
    measured = Load(stat=stat)
    after(stat, first, second)
    assert measured.ticks == Ticks(others, 400)


def test_sessions_are_joined(stat: Path) -> None:
    measured = Load([300, 400], stat)
    after(stat, "100 0 0 100 0 0 0 0", "0 0 0 200 0 0 0 0")
    assert measured.share == 300 / 800


def test_nothing_is_said_where_the_system_does_not(tmp_path: Path) -> None:
    assert Load(stat=tmp_path / "none").share is None
    (tmp_path / "other").write_text("nothing like it\n\n")
    assert Load(stat=tmp_path / "other").share is None
