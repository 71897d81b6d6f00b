"""A finished run, opened again: its model with the parameters that were chosen, and its examples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from lra_bench import data
from lra_bench.config import Run
from lra_bench.data.batches import batch_at
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.records.provenance import answering, finished
from lra_bench.runs.build import built, examples
from lra_bench.shapes import Batch, Split
from lra_bench.techniques.base import Dependencies, ModelState
from lra_bench.training import checkpoint
from lra_bench.training.objective import Units
from lra_bench.training.optimizer import Params
from lra_bench.training.program import Program
from lra_bench.training.trainer import evaluate

UNITS = "units.json"  # what a model's answers are in, where they are numbers
JUDGED_AT_ONCE = 32  # examples of train by which what is in a model is judged


@dataclass(frozen=True)
class Trained:
    """A model as its run left it."""

    run: Run
    program: Program
    params: Params  # those that were trained, at the step that was chosen
    rest: Params
    splits: dict[str, Split]

    @classmethod
    def open(cls, folder: Path, count: data.Progress) -> Trained:
        """The run in `folder`; `count` is told of examples that are made again.

        Raises:
            ConfigError: there is no finished run, its checkpoint is not here, its mixer's code has changed since, or
                it is of several tasks.
        """
        return cls.as_it_is(answering(folder), folder, count)

    @classmethod
    def as_it_is(cls, run: Run, folder: Path, count: data.Progress) -> Trained:
        """A finished run's; of several tasks, with the examples of the first.

        Raises:
            ConfigError: as `open`.
        """
        splits, data_hash = examples(run, lambda _, what, done, total: count(what, done, total))
        trained = dependencies(run, folder.parent, splits["train"], count)
        program = built(run, splits["train"], trained, _units(run, folder, data_hash))
        with checkpoint.opened(folder / "checkpoints", fresh=False) as checkpoints:
            kept = checkpoints.latest((program.init, (program.init.params, program.init.rest)))
        if kept is None:
            raise ConfigError(f"{folder}/checkpoints: holds no whole checkpoint; lra run with --overwrite makes one")
        (_, (params, rest)), _ = kept
        return cls(run, program, params, rest, splits)

    @property
    def learned(self) -> ModelState:
        """Its model, as it answers."""
        return ModelState(self.program.graph, self.program.weights(self.params), self.rest)

    def hits(self, params: Params, split: str, what: str, count: data.Progress) -> np.ndarray:
        """One bit an example of a split, with `params` in place of its own: bool [N].

        Raises:
            ConfigError: by the task's metric an example is no hit or miss.
        """
        if not self.program.objective.metric.binary:
            raise ConfigError(f"{self.run.task.name}: {self.run.task.metric} counts no hits, which are compared here")
        told = lambda _, done, total: count(what, done, total)  # noqa: E731
        return evaluate(self.program, params, self.rest, self.splits[split], told, split) > 0


def _units(run: Run, folder: Path, data_hash: str) -> Units | None:
    """What its answers are in, where they are numbers and it was kept; None where train says the same.

    Raises:
        ConfigError: an earlier version trained it, kept nothing, and chose train's examples otherwise.
    """
    if not run.metric.real:
        return None
    if (folder / UNITS).exists():
        return Units.kept(store.read_json(folder / UNITS))
    (result,) = store.read_results(folder)
    if run.limit or result.data_hash != data_hash:
        raise ConfigError(
            f"{folder}: an earlier version trained it, on other examples of the same files, and did not keep what its "
            "answers are in; lra run with --overwrite trains it again"
        )
    return None


def dependencies(run: Run, runs: Path, train: Split, count: data.Progress) -> Dependencies:
    """What the run depends on, of the runs in the folder `runs`.

    Raises:
        ConfigError: one of them is not there, or cannot be opened.
    """
    start, teacher = (None if one is None else _learned(one, runs, count) for one in (run.start, run.teacher))
    same = run.start is None or data.vocabulary(run.start.task)[: len(ours := data.vocabulary(run.task))] == ours
    return Dependencies(start, teacher, same, partial(_first, train))


def _learned(run: Run, runs: Path, count: data.Progress) -> ModelState:
    folder = store.folder_in(runs, run)
    if not (folder / "result.json").exists():
        raise ConfigError(f"{folder}: is to be trained first; lra run with the same flags does that")
    return Trained.as_it_is(finished(folder), folder, count).learned


def _first(train: Split, count: int) -> list[Batch]:
    """So many examples of train, in batches, none of them short: those that training sees first with seed 0."""
    size = min(JUDGED_AT_ONCE, len(train))
    return [batch_at(train, size, 0, step) for step in range(-(-min(count, len(train)) // size))]
