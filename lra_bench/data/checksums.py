"""The hashes that data sets had when they were first made, by what was asked for: `tasks/hashes.csv`.

A question is all that decides the bytes but a user's files: source, version, args, length, splits, seed. Published
examples have the same hash wherever they were read; of generated ones read from a folder none is recorded.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lra_bench import config
from lra_bench.config import TaskSpec, digest
from lra_bench.data import cache, load
from lra_bench.errors import DataError

NAME = "hashes.csv"
COLUMNS = ("task", "variant", "question", "sha256")


def question(task: TaskSpec) -> str | None:
    """Sixteen hexadecimal digits of what is asked for; None if the answer is a user's own."""
    if task.folder is not None and not load(task.source).PUBLISHED:
        return None
    key = {name: value for name, value in cache.key_of(task).items() if name != "files"}
    return digest(key)[:16]


def sha256(task: TaskSpec, include: Sequence[Path] = ()) -> str | None:
    """The recorded hash of the task's examples, from the first folder of tasks that has one."""
    asked = question(task)
    files = (folder / NAME for folder in config.folders("tasks", include))
    return next((row["sha256"] for file in files for row in _rows(file) if row["question"] == asked), None)


def record(task: TaskSpec, sha256: str, file: Path) -> None:
    """Put the hash into the file, in place of an earlier one.

    Raises:
        DataError: the examples are read from files of which no hash can be kept.
    """
    asked = question(task)
    if asked is None:
        raise DataError(f"task '{task.name}': its examples are read from {task.folder}; no hash can stand for them")
    row = dict(zip(COLUMNS, (task.name, task.variant or "", asked, sha256), strict=True))
    rows = sorted(
        [row, *(other for other in _rows(file) if other["question"] != asked)],
        key=lambda row: (row["task"], row["variant"]),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as written:
        table = csv.DictWriter(written, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _rows(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as read:
        return list(csv.DictReader(read))
