"""A finished run, opened again: its model with the parameters that were chosen, and its examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lra_bench import checkpoint, data, origin, stats, store
from lra_bench.assembly import built
from lra_bench.cell import examples
from lra_bench.compress.quantise import quantised
from lra_bench.config import Cell
from lra_bench.errors import ConfigError
from lra_bench.measure.memory import stored_bytes
from lra_bench.rows import SCORED
from lra_bench.shapes import Split
from lra_bench.train.fit import evaluate
from lra_bench.train.optimiser import Params
from lra_bench.train.program import Program


@dataclass(frozen=True)
class Trained:
    """A model as its run left it."""

    cell: Cell
    program: Program
    params: Params  # those that were best on val
    rest: Params
    splits: dict[str, Split]

    @classmethod
    def open(cls, folder: Path, count: data.Progress) -> Trained:
        """The run in `folder`; `count` is told of examples that are made anew.

        Raises:
            ConfigError: there is no finished run, its checkpoint is not here, or its mixer's code has changed since.
        """
        cell = finished(folder)
        splits, _ = examples(cell, lambda _, what, done, total: count(what, done, total))
        program = built(cell, splits["train"])
        with checkpoint.opened(folder / "checkpoints", fresh=False) as checkpoints:
            kept = checkpoints.restore((program.init, (program.init.params, program.init.rest)))
        if kept is None:
            raise ConfigError(f"{folder}/checkpoints: holds no whole checkpoint; lra run with --fresh makes one")
        (_, (params, rest)), _ = kept
        return cls(cell, program, params, rest, splits)

    def hits(self, params: Params, split: str, what: str, count: data.Progress) -> np.ndarray:
        """One bit an example of a split, with `params` in place of its own: bool [N].

        Raises:
            ConfigError: by the task's metric an example is no hit or miss.
        """
        if not self.program.objective.metric.share:
            raise ConfigError(f"{self.cell.task.name}: {self.cell.task.metric} counts no hits, which are compared here")
        told = lambda _, done, total: count(what, done, total)  # noqa: E731
        return evaluate(self.program, params, self.rest, self.splits[split], told) > 0


def finished(folder: Path) -> Cell:
    """What was asked in a run's folder, where all that it takes to run its model again is there.

    Raises:
        ConfigError: it is not.
    """
    cell = store.cell(folder)
    row = next(iter(store.rows(folder)), None)
    if row is None or row.status not in SCORED:
        raise ConfigError(
            f"{folder}: {row.status if row else 'has no row yet'}; only a run that finished can be opened"
        )
    if not (folder / "checkpoints").is_dir():
        raise ConfigError(f"{folder}: has no checkpoints/, they stay where it ran; lra run with --fresh makes them")
    if origin.hash_of(Path(cell.mixer)) != cell.mixer_hash:
        raise ConfigError(f"{folder}: {cell.mixer} has changed since; lra run trains it as it is now")
    return cell


class Reading(NamedTuple):
    """A trained model with its weights in `bits` bits, against itself in float32."""

    bits: int
    stored_bytes: int
    val_score: float
    test_score: float
    lost: int  # examples of test that only float32 gets right
    gained: int  # examples of test that float32 gets wrong
    p: float  # McNemar's exact test of the two


def in_bits(run: Trained, widths: Sequence[int], count: data.Progress) -> Iterator[Reading]:
    """The run's model in each of `widths` bits a weight. Nothing is chosen, so test may be read for each.

    Raises:
        ConfigError: a width is not one that there is.
    """
    models = {bits: quantised(run.params, bits) for bits in widths}
    whole = run.hits(run.params, "test", "as trained, test", count)
    for bits, model in models.items():
        params = model.restored()
        val, test = (run.hits(params, split, f"{bits} bits, {split}", count) for split in ("val", "test"))
        lost, gained = int((whole & ~test).sum()), int((test & ~whole).sum())
        size = stored_bytes(model.arrays)
        yield Reading(bits, size, float(val.mean()), float(test.mean()), lost, gained, stats.mcnemar(lost, gained))
