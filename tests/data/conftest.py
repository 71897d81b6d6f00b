"""A small task on the one source there is, and a cache of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from lra_bench.config import TaskSpec

SMALL = TaskSpec(
    name="small",
    version=1,
    title="Short expressions",
    paper="arXiv:2011.04006",
    source="listops",
    args={"min_length": 5, "max_length": 60, "max_depth": 5, "max_args": 4},
    folder=None,
    length=64,
    grid=None,
    classes=10,
    streams=1,
    interaction="nli",
    splits={"train": 300, "val": 40, "test": 60},
    seed=0,
    metric="accuracy",
    bottleneck=False,
    test_lengths=[],
    variant=None,
)


@pytest.fixture
def small() -> TaskSpec:
    return SMALL


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's root."""
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process does the work: quicker for little of it."""
    monkeypatch.setattr("lra_bench.data.workers.processes", lambda: 1)
