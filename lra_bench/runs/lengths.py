"""Trained at one length, tested at others: a trained model on its task at lengths that are not its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from lra_bench import config, data, distributed, statistics
from lra_bench.config import Run, TaskSpec
from lra_bench.data import texts
from lra_bench.data.generated import Drawn
from lra_bench.errors import ConfigError, RunFailed, TaskError
from lra_bench.measure.memory import short_of_memory
from lra_bench.metrics import METRICS
from lra_bench.mixers.base import Memory
from lra_bench.runs.build import built, examples, lacking, model_spec
from lra_bench.runs.loaded import Trained
from lra_bench.shapes import TEST, TRAIN, Split
from lra_bench.training.optimizer import Params
from lra_bench.training.program import Program, abstract
from lra_bench.training.trainer import Tell, evaluate


class Reading(NamedTuple):
    """A model's score on test at one length, with what another test set might say; or why it has none."""

    length: int
    score: float | None
    low: float | None
    high: float | None
    chance: float | None
    n: int | None
    why: str | None


def over(trained: Trained, lengths: Sequence[int], settings: Sequence[str], count: data.Progress) -> Iterator[Reading]:
    """The run tested at each length, in order; `settings` are `task.a.b=c`, as `--set` has them.

    Nothing is chosen, so test may be read for each. The model is as it would be built for that length: what it computes
    from it, as a stride of sqrt(L) or the places of a filter, is that length's. One whose parameters' shapes, or
    what its mixers learned beside them, hold the length it was trained at has no score at another. What else it
    keeps and is of another size there (sinusoids, a hash's directions) is made anew. A length that the task's texts do
    not have, or that does not fit in memory, has none either.

    Raises:
        ConfigError: a setting or a length is none of the task's.
    """
    for length in lengths:
        try:
            run = trained.run.model_copy(update={"task": _at(trained.run.task, length, settings)})
            why = _bound(run, trained)
            yield _none(length, why) if why else _read(run, trained, count)
        except Exception as error:
            yield _none(length, _why(error))


def scores(trained: Trained, count: data.Progress, tell: Tell) -> str | None:
    """The run's scores at its task's `test_lengths`, as JSON, or None if there are no such lengths. A length without a
    score has null, and `tell` is told why.

    A model with techniques, or of several tasks, is tested at its own length alone.
    """
    task = trained.run.task
    if not task.test_lengths or trained.run.techniques.words:
        return None
    found = list(over(trained, task.test_lengths, (), count))
    for one in found:
        if one.why is not None:
            tell("note", said=f"no score at L = {one.length:,}: {one.why}")
    return json.dumps({str(one.length): one.score for one in found})


def by_place(trained: Trained, count: data.Progress, tell: Tell) -> str | None:
    """The run's scores over parts of test's texts, by the part's first place, as JSON; at the longest length that it is
    tested at and has a score at. `tell` is told why it has none at a longer one. None: the next symbol is not asked
    for.

    Parts double: they begin at 0, an eighth of the trained length, a quarter, a half, it, twice it, and so on.
    """
    task = trained.run.task
    if not data.looks_ahead(task) or trained.run.metric.written or trained.run.techniques.words or trained.run.beside:
        return None
    for run in _from_the_longest(trained):
        try:
            return json.dumps(_of_parts(run, trained, count))
        except Exception as error:
            tell("note", said=f"no scores by place at L = {run.task.length:,}: {_why(error)}")
    return None


def _of_parts(run: Run, trained: Trained, count: data.Progress) -> dict[str, float]:
    program, test, rest = _opened(run, trained, count)
    scores = {}
    for first, last in pairwise(parts(trained.run.task.length, run.task.length)):
        there = np.arange(run.task.length)
        part = replace(test, label=np.where((there >= first) & (there < last), test.label, 0))
        told = lambda _, done, total, first=first: count(f"test from place {first}", done, total)  # noqa: E731
        scores[str(first)] = float(evaluate(program, trained.params, rest, part, told, TEST).mean(dtype=np.float64))
    return scores


def _from_the_longest(trained: Trained) -> Iterator[Run]:
    """The run at each length that it is tested at and can be, the longest first, down to its own."""
    task = trained.run.task
    for length in sorted(task.test_lengths, reverse=True):
        with suppress(TaskError):
            run = trained.run.model_copy(update={"task": _at(task, length, ())})
            if length > task.length and not _bound(run, trained):
                yield run
    yield trained.run


def _why(error: Exception) -> str:
    """Why a length has no score, if that is what it says; what was trained is not lost by it."""
    if isinstance(error, RunFailed | TaskError):
        return str(error)
    if short_of_memory(error) and not distributed.several():  # others wait for a process that is short of it alone
        return "it does not fit in memory"
    raise error


def parts(trained: int, length: int) -> list[int]:
    """Where the parts of a text of `length` begin, and its end, for a model that was trained at another length."""
    begin, bounds = max(1, trained // 8), [0]
    while begin < length:
        bounds.append(begin)
        begin *= 2
    return [*bounds, length]


def _none(length: int, why: str) -> Reading:
    return Reading(length, None, None, None, None, None, why)


def _at(task: TaskSpec, length: int, settings: Sequence[str]) -> TaskSpec:
    """The task at another length. Where test's examples are drawn before the others, those are left out. Windows of a
    text are of the bytes that are test at its own length, for those before them may have been trained on. Texts that
    can be shorter than the length are longer than those of a smaller one that was trained on.

    Raises:
        ConfigError: a setting or the length is none of the task's.
        TaskError: that part of the text is shorter than one window.
    """
    values: dict[str, Any] = task.model_dump()
    overlays = [config.Overlay("the run's task", values), config.Overlay(f"-n {length}", {"length": length})]
    counts = {name: 1 for name in task.splits if name != TEST}
    if data.windows(task):
        counts[TEST] = task.splits[TEST] * task.length // length
        if not counts[TEST]:
            raise TaskError(f"test has {task.splits[TEST] * task.length:,} symbols, no window of {length:,}")
    if data.windows(task) or data.looks_ahead(task) or (task.folder is None and isinstance(data.of(task), Drawn)):
        overlays.append(config.Overlay(f"-n {length}", {"splits": counts}))
    if (beyond := getattr(data.of(task), "beyond", None)) and length > task.length:
        longer = beyond(data.arguments(task), task.length)
        overlays.append(config.Overlay(f"-n {length}", {"args": longer.model_dump()}))
    for text in settings:
        (head, *path), value = config.setting(text)
        if head != "task" or not path:
            raise ConfigError(f"--set {text}: only task.* can be set for a model that is trained")
        overlays.append(config.Overlay(f"--set {text}", config.nested(path, value)))
    return config.validated(TaskSpec, config.fold(overlays), overlays)


def _bound(run: Run, trained: Trained) -> str | None:
    """Why what the run has learned cannot be that at another length, if it cannot: the first whose shape is another, of
    its parameters and of what its mixers changed themselves."""
    model = abstract(model_spec(run))
    for kind, kept in ((nnx.Param, trained.params), (Memory, nnx.filter_state(trained.rest, Memory))):
        ours = jax.tree.leaves_with_path(nnx.state(model, kind))
        for (path, a), b in zip(ours, jax.tree.leaves(kept), strict=True):
            if a.shape != b.shape:
                where = jax.tree_util.keystr(path, simple=True, separator=".")
                return f"bound to L = {trained.run.task.length}: {where}"
    return None


def _read(run: Run, trained: Trained, count: data.Progress) -> Reading:
    length, metric = run.task.length, METRICS[run.task.metric]
    program, test, rest = _opened(run, trained, count)
    told = lambda _, done, total: count(f"L = {length}, test", done, total)  # noqa: E731
    found = evaluate(program, trained.params, rest, test, told, TEST).astype(float)
    over = statistics.over_examples(metric, float(found.mean()), len(test), float(found.std()))
    return Reading(length, over.value, over.low, over.high, texts.chance(run.task, test.label), len(test), None)


def _opened(run: Run, trained: Trained, count: data.Progress) -> tuple[Program, Split, Params]:
    """The trained model's program for a run at another length, test there, and what it keeps beside its parameters.

    Raises:
        RunFailed: it does not fit.
    """
    program = built(run, trained.splits[TRAIN])
    if short := lacking(program.scoring.compiled_bytes):
        raise RunFailed(str(short), "oom")
    splits, _ = examples(run, lambda _, what, done, total: count(f"L = {run.task.length}, {what}", done, total))
    rest = jax.tree.map(lambda new, kept: kept if kept.shape == new.shape else new, program.init.rest, trained.rest)
    return program, _beyond(run.task, splits[TEST], trained.run.task.length), rest


def _beyond(task: TaskSpec, test: Split, trained: int) -> Split:
    """Of longer texts that are answered at each place: those places alone are asked that no text of `trained` has."""
    if getattr(data.of(task), "beyond", None) is None or test.label.ndim == 1 or task.length <= trained:
        return test
    return replace(test, label=np.where(np.arange(task.length) >= trained, test.label, 0))
