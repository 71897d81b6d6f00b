"""A grid of learning rates that is tried with one seed: the others are run at the rate that was best on validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lra_bench.config import Run
from lra_bench.records import store
from lra_bench.records.schema import SCORED, Result
from lra_bench.sweeps.request import at_rate


@dataclass(frozen=True, eq=False)
class RateGrid:
    """The runs of one model on one task, alike but for their learning rate and seed."""

    by_rate: Mapping[float, tuple[Run, ...]]  # a run a seed, that with which the rate is chosen first

    @property
    def grid(self) -> tuple[Run, ...]:
        """A run of each learning rate, all with the first seed."""
        return tuple(seeds[0] for seeds in self.by_rate.values())

    def chosen(self, results: Path) -> float | None:
        """The learning rate whose run is best on validation, the least of equals, as in tables; None while one is to be
        run, or where none has a score."""
        if not self.tried(results):
            return None
        found = {rate: _validated(store.done(results, seeds[0])) for rate, seeds in self.by_rate.items()}
        scored = {rate: score for rate, score in found.items() if score is not None}
        sign = 1 if self.grid[0].metric.higher else -1
        return max(sorted(scored), key=lambda rate: sign * scored[rate]) if scored else None

    def tried(self, results: Path) -> bool:
        """Has the run of each learning rate ended?"""
        return all(store.done(results, run) is not None for run in self.grid)

    def begun(self, results: Path) -> bool:
        """Has any run ended?"""
        return any(store.done(results, run) is not None for run in self.expected(results))

    def seeds(self, results: Path) -> tuple[Run, ...]:
        """The runs of the chosen learning rate; none while it is not chosen."""
        rate = self.chosen(results)
        return () if rate is None else self.by_rate[rate]

    def done(self, results: Path) -> bool:
        """Have all runs ended?"""
        return all(store.done(results, run) is not None for run in self.expected(results))

    def known(self, results: Path) -> tuple[Run, ...]:
        """The runs that need not wait until a learning rate is chosen."""
        return (*self.grid, *self.seeds(results)[1:])

    def expected(self, results: Path) -> tuple[Run, ...]:
        """All runs, as far as is known: further seeds have the first of the rates until one is chosen."""
        return self.known(results) if self.tried(results) else (*self.grid, *next(iter(self.by_rate.values()))[1:])


def rate_grids(every: Iterable[Run]) -> list[RateGrid]:
    """The runs by what is alike in them, and in those that they depend on, in the order of the first of each."""
    alike: dict[str, dict[float, list[Run]]] = {}
    for run in every:
        bare = run.throughout(lambda one: {"seed": 0, "recipe": at_rate(one.recipe, 1.0)})
        alike.setdefault(bare.id, {}).setdefault(run.trained_first.recipe.optimizer.lr, []).append(run)
    return [RateGrid({rate: tuple(runs) for rate, runs in one.items()}) for one in alike.values()]


def by_task(grids: Iterable[RateGrid]) -> list[list[RateGrid]]:
    """Those of a task and variant together, in their order."""
    found: dict[tuple[str, str | None], list[RateGrid]] = {}
    for one in grids:
        found.setdefault((one.grid[0].task_name, one.grid[0].task.variant), []).append(one)
    return list(found.values())


def once(grids: Iterable[Sequence[Run]]) -> list[Run]:
    """The runs of several, each once."""
    return list({run.id: run for runs in grids for run in runs}.values())


def _validated(result: Result | None) -> float | None:
    return result.val_score if result is not None and result.status in SCORED else None
