"""The results that the repository keeps, as the pages of models show them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.report import scaling, tables, techniques
from lra_bench.report.summary import ranks

ACCURACY = ("quick", "runs")  # folders whose results are shown with their ranks
TECHNIQUES = "techniques"
SPEED = "speed"


@dataclass(frozen=True)
class Kept:
    """Tables of text, indexed by model, and what `lra speed` measured, by file."""

    folders: dict[str, tuple[tables.Comparison, ...]]  # score, time and memory
    techniques: pd.DataFrame
    speed: dict[str, list[dict[str, Any]]]
    devices: dict[str, list[str]]  # by model, what has run it

    @classmethod
    def read(cls, root: Path) -> Kept:
        """Read the kept results.

        Raises:
            ConfigError: a folder of results is missing.
        """
        frames = {name: store.to_dataframe([root / name]) for name in (*ACCURACY, TECHNIQUES)}
        speed = dict(_speeds(root / SPEED))
        applied = techniques.report(frames[TECHNIQUES], frames[ACCURACY[0]]).tables[0].cells
        folders = {name: tuple(_tables(frames[name])) for name in ACCURACY}
        return cls(folders, applied, speed, _devices(frames.values(), speed.values()))


def _tables(frame: pd.DataFrame) -> Iterator[tables.Comparison]:
    summed, notes = ranks.beside(frame, tables.summary(frame), "model")
    measured = tables.measured(frame)
    yield tables.compare(summed, "accuracy", also=notes)
    yield from (tables.compare(measured, what) for what in ("speed", "memory"))


def _speeds(folder: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The files that `lra speed` wrote: those of `lra data bench` name a task, and others are read otherwise."""
    for path in sorted(folder.glob("*.json")):
        try:
            facts = scaling.read(path)
        except ConfigError:
            continue
        if "task" not in facts[0]:
            yield path.name, facts


def _devices(frames: Any, speeds: Any) -> dict[str, list[str]]:
    facts = [fact for facts in speeds for fact in facts]
    facts += [row for frame in frames for row in frame[["model", "device", "platform"]].to_dict("records")]
    known = sorted({(f["model"], f"{f['device']} ({f['platform']})") for f in facts if isinstance(f["device"], str)})
    return {model: [device for name, device in known if name == model] for model, _ in known}
