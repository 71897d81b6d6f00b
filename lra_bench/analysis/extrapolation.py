"""Trained short, tested long: a finished run's model on its task at other lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lra_bench import config, data, statistics
from lra_bench.config import Run, TaskSpec
from lra_bench.errors import ConfigError, RunFailed
from lra_bench.metrics import METRICS
from lra_bench.runs.build import built, examples
from lra_bench.runs.loaded import Trained
from lra_bench.training.program import Program
from lra_bench.training.trainer import evaluate


class Reading(NamedTuple):
    """A model's score on test at one length, with what another test set might say; or why it has none."""

    length: int
    score: float | None
    low: float | None
    high: float | None
    chance: float | None
    n: int | None
    why: str | None


def over(folder: Path, lengths: Sequence[int], settings: Sequence[str], count: data.Progress) -> Iterator[Reading]:
    """The run in `folder`, tested at each length, in order; `settings` are `task.a.b=c`, as `--set` has them.

    Nothing is chosen, so test may be read for each. A model whose parameters' shapes hold the length it was trained at
    has no score at another. What it keeps beside them and is of another size there (sinusoids, a hash's directions)
    is initialized again.

    Raises:
        ConfigError: the run cannot be opened, or the task cannot be had at a length.
    """
    trained = Trained.open(folder, count)
    if words := trained.run.techniques.words:
        raise ConfigError(
            f"{folder}: was trained with techniques ({words}); its model is tested at its own length alone"
        )
    for length in lengths:
        run = trained.run.model_copy(update={"task": _at(trained.run.task, length, settings)})
        program = built(run, trained.splits["train"])
        why = _bound(program, trained)
        try:
            yield Reading(length, None, None, None, None, None, why) if why else _read(run, program, trained, count)
        except RunFailed as error:
            yield Reading(length, None, None, None, None, None, str(error))


def _at(task: TaskSpec, length: int, settings: Sequence[str]) -> TaskSpec:
    values: dict[str, Any] = task.model_dump()
    overlays = [config.Overlay("the run's task", values), config.Overlay(f"-n {length}", {"length": length})]
    for text in settings:
        (head, *path), value = config.setting(text)
        if head != "task" or not path:
            raise ConfigError(f"--set {text}: only task.* can be set for a model that is trained")
        overlays.append(config.Overlay(f"--set {text}", config.nested(path, value)))
    return config.validated(TaskSpec, config.fold(overlays), overlays)


def _bound(program: Program, trained: Trained) -> str | None:
    """Why the run's parameters cannot be those of the program, if they cannot: the first whose shape is another."""
    ours, theirs = jax.tree.leaves_with_path(program.init.params), jax.tree.leaves(trained.params)
    for (path, a), b in zip(ours, theirs, strict=True):
        if np.shape(a) != np.shape(b):
            return f"bound to L = {trained.run.task.length}: {jax.tree_util.keystr(path, simple=True, separator='.')}"
    return None


def _read(run: Run, program: Program, trained: Trained, count: data.Progress) -> Reading:
    length, metric = run.task.length, METRICS[run.task.metric]
    splits, _ = examples(run, lambda _, what, done, total: count(f"L = {length}, {what}", done, total))
    test = splits["test"]
    told = lambda _, done, total: count(f"L = {length}, test", done, total)  # noqa: E731
    rest = jax.tree.map(lambda new, kept: kept if kept.shape == new.shape else new, program.init.rest, trained.rest)
    scores = evaluate(program, trained.params, rest, test, told, "test").astype(float)
    found = statistics.over_examples(metric, float(scores.mean()), len(test), float(scores.std()))
    return Reading(length, found.value, found.low, found.high, metric.chance(test.label), len(test), None)
