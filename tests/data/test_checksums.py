"""The hashes on record are of the tasks that ship, and verify holds examples against them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from lra_bench import config, data
from lra_bench.config import TaskSpec, tasks
from lra_bench.data import checksums
from lra_bench.errors import DataError

SHIPPED = list(csv.DictReader((config.shipped("tasks") / checksums.NAME).open()))


def verdict(task: TaskSpec) -> data.Check:
    return next(check for check in data.verify(task) if check.name == "recorded hash")


@pytest.mark.parametrize("row", SHIPPED, ids=lambda row: f"{row['task']}@{row['variant']}")
def test_each_is_of_what_a_task_asks_today(row: dict[str, str]) -> None:
    """If this fails, a task or its source's VERSION has changed: `lra data prepare TASK --record`."""
    task = tasks.load(row["task"], variant=row["variant"] or None)
    assert checksums.question(task) == row["question"]


@pytest.mark.parametrize("name", ["parity", "adding", "recall-one"])
def test_what_is_drawn_here_is_what_was_drawn_there(name: str, alone: None) -> None:
    task = tasks.load(name, variant="quick")
    assert verdict(task) == ("recorded hash", True, "the same")


def test_another_hash_is_wrong_and_can_be_recorded(
    small: TaskSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: None
) -> None:
    monkeypatch.chdir(tmp_path)
    assert verdict(small) == ("recorded hash", True, "none for this question")
    file = tmp_path / "tasks" / checksums.NAME
    checksums.record(small, "0" * 64, file)
    assert verdict(small) == ("recorded hash", False, f"another: {'0' * 64}")
    checksums.record(small, data.prepare(small).hash, file)
    assert verdict(small).detail == "the same"
    assert len(file.read_text().splitlines()) == 2


def test_generated_examples_from_a_folder_have_no_record(small: TaskSpec, tmp_path: Path) -> None:
    theirs = small.model_copy(update={"folder": str(tmp_path)})
    assert checksums.question(theirs) is None
    with pytest.raises(DataError, match="no hash can stand for them"):
        checksums.record(theirs, "0" * 64, tmp_path / checksums.NAME)
