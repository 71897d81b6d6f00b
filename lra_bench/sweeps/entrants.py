"""The runs of a check: each model of an arm at each learning rate, and further seeds of the rate that was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lra_bench import data
from lra_bench.config import Run, TaskSpec
from lra_bench.config.calibration import Check
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.sweeps.models import parts
from lra_bench.sweeps.plan import plan
from lra_bench.sweeps.rate_grid import RateGrid, rate_grids
from lra_bench.sweeps.request import Request, parse_seeds, runs


@dataclass(frozen=True, eq=False)
class Entrant(RateGrid):
    """One model of an arm."""

    check: str
    arm: str
    model: str

    @property
    def task(self) -> TaskSpec:
        """What all of its runs are asked."""
        return self.grid[0].task


def entrants(name: str, check: Check, include: Sequence[Path] = ()) -> list[Entrant]:
    """The models of a check's arms, in the order of the arms.

    Raises:
        ConfigError, TaskError: what an arm names is not found, a setting is wrong, or a task's score is no share.
    """
    found = []
    for arm, asked in check.arms.items():
        settings, seeds = (*check.settings, *asked.settings), parse_seeds(asked.seeds)
        for models in parts(asked.models, f"{name}: {arm}: models"):
            rates = tuple(asked.rates)
            request = Request(
                models, asked.task, check.config, seeds, settings=settings, include=tuple(include), rates=rates
            )
            for each in rate_grids(runs(request)):
                label = models if models.endswith("]") else each.grid[0].model
                found.append(Entrant(each.by_rate, name, arm, label))
    strange = next((entrant for entrant in found if not entrant.grid[0].metric.share), None)
    if strange:
        raise ConfigError(f"{name}: {strange.arm}: its task has {strange.grid[0].metric.title}, which is no share")
    return found


def missing(asked: Sequence[Entrant], results: Path | None) -> list[str]:
    """The tasks, with their variants, whose published examples are neither in a folder they name nor in the cache.

    Args:
        asked: those whose runs are all done in `results` need no examples.
        results: None: all are to be run.
    """
    tasks = {_named(entrant.task): entrant.task for entrant in asked if results is None or not entrant.done(results)}
    return [name for name, task in tasks.items() if not _is_here(task)]


def _named(task: TaskSpec) -> str:
    return f"{task.name}@{task.variant}" if task.variant else task.name


def _is_here(task: TaskSpec) -> bool:
    from lra_bench.data import cache

    made_here = task.folder is not None or not data.of(task).PUBLISHED
    return made_here or cache.folder_of(task, cache.key_of(task)).is_dir()


def cost(
    asked: Sequence[Entrant], results: Path, tell: Callable[[Run, dict[str, Any]], None], jobs: int
) -> list[dict[str, Any]]:
    """What each entrant would take, a line each: its runs, how many are left, hours of one of them and of all.

    A step is probed once for an entrant, as `plan` has it: learning rates and seeds cost the same.
    """
    left = [[run for run in entrant.expected(results) if store.done(results, run) is None] for entrant in asked]
    planned = iter(plan([several[0] for several in left if several], results, tell, jobs))
    return [
        _cost(entrant, len(entrant.expected(results)), len(several), next(planned) if several else {"hours": 0.0})
        for entrant, several in zip(asked, left, strict=True)
    ]


def _cost(entrant: Entrant, count: int, left: int, planned: Mapping[str, Any]) -> dict[str, Any]:
    each = planned["hours"]
    said = {"check": entrant.check, "arm": entrant.arm, "model": entrant.model, "runs": count, "left": left}
    return said | {"hours_each": each, "hours": None if each is None else each * left, "error": planned.get("error")}
