"""Load everything that can be found, and really instantiate each: what is broken is found before a night is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from lra_bench import config, data, mixers
from lra_bench.config import Run, calibration, tasks
from lra_bench.data import cache, made, verification
from lra_bench.errors import LraError
from lra_bench.runs.build import model_spec
from lra_bench.shapes import Split
from lra_bench.sweeps import Part, Request, entrants, fields, models, runs
from lra_bench.training.program import runs_once

LENGTH = 40  # of the texts that models are tried on: short, and no multiple of a block
ONE_LAYER = config.Overlay("check", {"backbone": {"layers": 1}})
FEW = {"train": 4, "val": 2, "test": 2}
LOOKED_AT = 1000  # examples of a split, at most


class Finding(NamedTuple):
    """One thing that was tried."""

    kind: str  # recipe, technique, search, calibration, task, sweep or model
    name: str
    ok: bool
    detail: str
    warnings: tuple[str, ...] = ()  # of what is right, and strange


def everything(include: Sequence[Path] = (), *, fast: bool = False) -> Iterator[Finding]:
    """Every recipe is resolved for every task, every technique read, every task's variants built small, every model
    run.

    `fast`: no examples are made, and models are traced, not compiled.
    """
    for name in config.found("configs", include):
        yield _tried_recipe(name, include)
    for name in config.technique_files(include):
        yield _tried("technique", name, partial(_technique, name, include))
    for name in config.spaces(include):
        yield _tried("search", name, partial(_space, name, include))
    for name in calibration.checks(include):
        yield _tried("calibration", name, partial(_calibration, name, include))
    for name in tasks.names(include):
        yield from _with_variants(name, include, fast=fast)
    for name in mixers.names():
        yield _tried("model", name, partial(_model, name, include, fast=fast))


def those(files: Sequence[Path], include: Sequence[Path] = ()) -> Iterator[Finding]:
    """Single YAML files: what names a source is a task, what names models a sweep, what has expectations a check of the
    calibration, what has techniques alone a technique, what has dotted keys a search space, all else a recipe."""
    for path in files:
        try:
            said = config.read(config.file_of("tasks", str(path))).values
        except LraError as error:
            yield Finding("file", str(path), False, str(error))
            continue
        kind = config.kind_of(said)
        if kind == "task":
            yield from _with_variants(str(path), include)
        elif kind == "sweep":
            yield _tried("sweep", str(path), partial(_sweep, path))
        elif kind == "calibration check":
            yield _tried("calibration", str(path), partial(_calibration, str(path), include))
        elif kind == "search space":
            yield _tried("search", str(path), partial(_space, str(path), include))
        elif kind == "technique":
            yield _tried("technique", str(path), partial(_technique, str(path), include))
        else:
            yield _tried_recipe(str(path), include)


def _with_variants(task: str, include: Sequence[Path], *, fast: bool = False) -> Iterator[Finding]:
    try:
        variants = tasks.variants(task, include)
    except LraError as error:
        yield Finding("task", task, False, str(error))
        return
    for variant in (None, *variants):
        found = _tried(
            "task", f"{task}@{variant}" if variant else task, partial(_task, task, variant, include, fast=fast)
        )
        remarks = _remarks(task, variant, include) if found.ok and not fast else ()
        yield found._replace(warnings=tuple(remarks))


def _tried(kind: str, name: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(kind, name, True, attempt())
    except LraError as error:
        return Finding(kind, name, False, str(error))
    except Exception as error:
        return Finding(kind, name, False, f"{type(error).__name__}: {error}")


def _tried_recipe(name: str, include: Sequence[Path]) -> Finding:
    found = _tried("config", name, partial(_recipe, name, include))
    return found._replace(warnings=tuple(_strange(name, include))) if found.ok else found


def _strange(name: str, include: Sequence[Path]) -> Iterator[str]:
    recipe = config.recipe(name, include)
    of: dict[str, list[str]] = {}
    for task in tasks.names(include):
        if said := recipe.resolve(task)[0].warning:
            of.setdefault(said, []).append(task)
    for said, names in of.items():
        yield f"{names[0]} {f'and {len(names) - 1} more tasks ' if names[1:] else ''}under {recipe.name}: {said}"


def _recipe(name: str, include: Sequence[Path]) -> str:
    recipe = config.recipe(name, include)
    for task in tasks.names(include):
        _, options = recipe.resolve(task)
        for model, turned in options.items():
            mixers.turned(mixers.model_card(model), turned)
    return config.first_comment(recipe.path) or "a first comment that says what to expect would stand here"


def _technique(name: str, include: Sequence[Path]) -> str:
    applied = config.techniques([name], (), include)
    if applied.distill:
        models(str(applied.distill.teacher))
    others = (applied.adapt.start if applied.adapt else [], applied.multitask.tasks if applied.multitask else [])
    for task in chain(*others):
        tasks.load(tasks.parted(task)[0], include)
    return applied.words or "changes nothing"


def _space(name: str, include: Sequence[Path]) -> str:
    space, task = config.space(name, include), next(iter(tasks.names(include)))
    for key, what in space.items():
        if key == "model":
            models(",".join(map(str, what)))
            continue
        head = key.partition(".")[0]
        model = head if head in mixers.names() else str(mixers.reference())
        runs(
            Request(model, task, "base", settings=(f"{key}={json.dumps(config.first(what))}",), include=tuple(include))
        )
    return f"chooses {', '.join(space)}"


def _sweep(path: Path) -> str:
    asked = config.sweep(path)
    config.launcher(asked.launcher)
    return f"{asked.models} on {asked.tasks}, seeds {asked.seeds}; `lra sweep {path} --dry-run` lists its runs"


def _calibration(name: str, include: Sequence[Path]) -> str:
    forms = [calibration.check(name, include, quick=quick) for quick in (False, True)]
    each = [len(entrants(name, form, include)) for form in forms if form is not None]
    return f"{len(each)} forms; models in arms: {', '.join(map(str, each))}"


def _task(name: str, variant: str | None, include: Sequence[Path], *, fast: bool) -> str:
    spec = tasks.load(name, include, variant)
    source, args = data.load(spec.source), data.arguments(spec, tasks.written(name, include, variant))
    said = f"{spec.title}; {len(source.vocabulary(args))} symbols, L = {spec.length}"
    if spec.folder is None and source.PUBLISHED:
        return f"{said}; its examples are fetched, or read from a folder that is named"
    if fast:
        return f"{said}; no examples made"
    splits = _examples(spec, source)
    checked = 0
    for split in splits.values():
        for tokens, label in zip(split.tokens[:LOOKED_AT], split.label[:LOOKED_AT], strict=True):
            source.check(args, tokens, label)
            checked += 1
    return f"{said}; {sum(map(len, splits.values())):,} examples made, {checked:,} of them checked"


def _examples(spec: config.TaskSpec, source: data.Source) -> dict[str, Split]:
    """All that are asked for, where they are in files of the user's own; a few, where they are made."""
    if spec.folder is not None:
        return data.prepare(spec).splits
    splits = source.build(data.arguments(spec), spec.length, FEW, spec.seed, None, data.silent)
    cache.hold(spec, splits, made.about(splits))
    return splits


def _remarks(name: str, variant: str | None, include: Sequence[Path]) -> Iterator[str]:
    spec = tasks.load(name, include, variant)
    if spec.folder is not None:
        yield from (f"{name}: {remark}" for remark in verification.remarks(spec, data.prepare(spec)))


def _model(name: str, include: Sequence[Path], *, fast: bool) -> str:
    model_card = mixers.model_card(name)
    task = next(iter(tasks.names(include)))
    spec = tasks.load(task, include).model_copy(update={"length": LENGTH, "grid": None})
    recipe, _ = config.recipe("base", include).resolve(task, [ONE_LAYER])
    run = Run(
        **fields((Part(model_card, {}),), {}, recipe.backbone.layers),
        task=spec,
        config_name="base",
        recipe=recipe,
        seed=0,
        limit=None,
        changed=None,
    )
    make, tokens, ran = model_spec(run), jnp.ones((2, spec.streams, LENGTH), jnp.int32), []

    def once() -> jax.Array:
        model: Any = make(rngs=nnx.Rngs(0))
        ran.append(model.impl)
        return model(tokens, tokens > 0, key=jax.random.key(0))

    said = f"{model_card.card.title} (arXiv:{model_card.card.paper}), {model_card.card.family}"
    if fast:
        jax.eval_shape(once)
        return f"{said}; traced as {ran[0]}"
    logits = runs_once(once)()
    if not bool(jnp.isfinite(logits).all()):
        raise ValueError("the logits are not finite")
    return f"{said}; ran as {ran[0]}"
