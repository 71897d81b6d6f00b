"""Weights & Biases: offline runs in RESULTS/wandb, which `wandb sync` sends; at once if WANDB_MODE=online."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from lra_bench.config import Run
from lra_bench.records.schema import SCORED, Result


class TrackedRun:
    """A run of the project `lra`, or WANDB_PROJECT, with the run's id: what is resumed is the same run."""

    def __init__(self, results: Path, run: Run) -> None:
        results.mkdir(parents=True, exist_ok=True)
        mode: Any = os.environ.get("WANDB_MODE") or "offline"
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "lra",
            id=run.id,
            name=run.folder,
            dir=str(results),
            config=run.model_dump(),
            mode=mode,
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """A point of the history."""
        self._run.log(dict(values), step=step)

    def end(self, result: Result | None) -> None:
        """The result as the run's summary."""
        if result is not None:
            self._run.summary.update({f"row.{name}": value for name, value in result.as_dict().items()})
        self._run.finish(exit_code=0 if result is not None and result.status in SCORED else 1)
