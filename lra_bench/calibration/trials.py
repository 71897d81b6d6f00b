"""The runs of a check: each model of an arm at each learning rate, and further seeds of the rate that was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lra_bench import data, sweeps
from lra_bench.config import Run, TaskSpec
from lra_bench.config.calibration import Check
from lra_bench.data import cache
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.records.schema import SCORED, Result
from lra_bench.sweeps import Request
from lra_bench.sweeps.models import parts


@dataclass(frozen=True, eq=False)
class Trial:
    """One model of an arm."""

    check: str
    arm: str
    model: str
    by_rate: Mapping[float, tuple[Run, ...]]  # a run a seed, that with which the rate is chosen first

    @property
    def task(self) -> TaskSpec:
        """What all of its runs are asked."""
        return self.grid[0].task

    @property
    def grid(self) -> tuple[Run, ...]:
        """A run of each learning rate, all with the first seed."""
        return tuple(runs[0] for runs in self.by_rate.values())

    def chosen(self, results: Path) -> float | None:
        """The learning rate whose run is best on validation; None while one is to be run, or where none has a score."""
        found = {rate: store.done(results, runs[0]) for rate, runs in self.by_rate.items()}
        if any(result is None for result in found.values()):
            return None
        scored = {rate: score for rate, result in found.items() if (score := _validated(result)) is not None}
        better = max if self.grid[0].metric.higher else min
        return better(scored, key=lambda rate: scored[rate]) if scored else None

    def seeds(self, results: Path) -> tuple[Run, ...]:
        """The runs of the chosen learning rate; none while it is not chosen."""
        rate = self.chosen(results)
        return () if rate is None else self.by_rate[rate]

    def expected(self, results: Path) -> tuple[Run, ...]:
        """All runs, as far as is known: further seeds have the first of the rates while none is chosen."""
        return (*self.grid, *(self.seeds(results) or next(iter(self.by_rate.values())))[1:])


def _validated(result: Result | None) -> float | None:
    return result.val_score if result is not None and result.status in SCORED else None


def trials(name: str, check: Check, include: Sequence[Path] = ()) -> list[Trial]:
    """The models of a check's arms, in the order of the arms.

    Raises:
        ConfigError, TaskError: what an arm names is not found, a setting is wrong, or a task's score is no share.
    """
    found = []
    for arm, asked in check.arms.items():
        settings, seeds = (*check.settings, *asked.settings), sweeps.parse_seeds(asked.seeds)
        for models in parts(asked.models, f"{name}: {arm}: models"):
            request = Request(models, asked.task, check.config, seeds, settings=settings, include=tuple(include))
            for each in zip(*(_by_model(request, rate) for rate in asked.rates), strict=True):
                label = models if models.endswith("]") else each[0][0].model
                found.append(Trial(name, arm, label, dict(zip(asked.rates, each, strict=True))))
    strange = next((trial for trial in found if not trial.grid[0].metric.share), None)
    if strange:
        raise ConfigError(f"{name}: {strange.arm}: its task has {strange.grid[0].metric.title}, which is no share")
    return found


def _by_model(request: Request, rate: float) -> list[tuple[Run, ...]]:
    """A run a seed of each of the request's models, at a learning rate."""
    settings = (*request.settings, f"optimizer.lr={rate!r}")
    asked = [replace(request, settings=settings, seeds=(seed,)) for seed in request.seeds]
    return list(zip(*map(sweeps.runs, asked), strict=True))


def missing(asked: Sequence[Trial]) -> list[str]:
    """The tasks, with their variants, whose published examples are neither in a folder they name nor in the cache."""
    tasks = {_named(trial.task): trial.task for trial in asked}
    return [name for name, task in tasks.items() if not _is_here(task)]


def _named(task: TaskSpec) -> str:
    return f"{task.name}@{task.variant}" if task.variant else task.name


def _is_here(task: TaskSpec) -> bool:
    made_here = task.folder is not None or not data.of(task).PUBLISHED
    return made_here or cache.folder_of(task, cache.key_of(task)).is_dir()


def cost(
    asked: Sequence[Trial], results: Path, tell: Callable[[Run, dict[str, Any]], None], jobs: int
) -> list[dict[str, Any]]:
    """What each trial would take, a line each: its runs, how many are left, hours of one of them and of all.

    A step is probed once for a trial, as `sweeps.plan` has it: learning rates and seeds cost the same.
    """
    left = [[run for run in trial.expected(results) if store.done(results, run) is None] for trial in asked]
    probed = iter(sweeps.plan([runs[0] for runs in left if runs], results, tell, jobs))
    return [_cost(trial, len(trial.expected(results)), len(runs), next(probed) if runs else {"hours": 0.0})
            for trial, runs in zip(asked, left, strict=True)]  # fmt: skip


def _cost(trial: Trial, runs: int, left: int, plan: Mapping[str, Any]) -> dict[str, Any]:
    each = plan["hours"]
    said = {"check": trial.check, "arm": trial.arm, "model": trial.model, "runs": runs, "left": left}
    return said | {"hours_each": each, "hours": None if each is None else each * left, "error": plan.get("error")}
