"""What a run's techniques make of its model's shape and of its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lra_bench import config
from lra_bench.config import Backbone, Run, Techniques
from lra_bench.errors import ConfigError
from lra_bench.model import Shape, sizes
from lra_bench.shapes import Batch
from lra_bench.techniques import adapt, distill, prune, quantize
from lra_bench.techniques.parameters import HEAD, TABLE, Flat, Path, fits, flat, inherited, nested
from lra_bench.training.multitask import part
from lra_bench.training.objective import Objective
from lra_bench.training.optimizer import Params
from lra_bench.training.step import Begun, Make, Question, Regime, of_the_task, plain, within_nothing

RANGES = "ranges"  # the one thing given that an answer depends on
OFF = 1e-3  # of the largest logit: how far a model without some heads may be from one that only does not hear them


Weights = Callable[[Params, Any], Params]  # (trained, given) -> the model's


class Learned(NamedTuple):
    """A model and what it has learned."""

    graph: nnx.GraphDef[Any]
    params: Params  # all of them, as they answer
    rest: Params


@dataclass(frozen=True)
class Stock:
    """What a run stands on, where that is trained, and examples of train to judge by."""

    start: Learned | None = None
    teacher: Learned | None = None
    same_symbols: bool = True  # the start's task is written in the symbols of this one
    examples: Callable[[int], Sequence[Batch]] = field(default=lambda count: ())


def backbone(recipe: config.Recipe, techniques: Techniques) -> Backbone:
    """The recipe's, computed in other numbers or with fewer heads."""
    own, changed = recipe.backbone, dict[str, Any]()
    if techniques.precision and techniques.precision.compute:
        changed["dtype"] = config.FLOATS[techniques.precision.compute]
    if techniques.prune and techniques.prune.heads:
        heads = techniques.prune.left(own.heads, techniques.prune.heads)
        changed |= {"heads": heads, "qkv": heads * ((own.qkv or own.width) // own.heads)}
    return own.model_copy(update=changed)


def shape(cell: Run, techniques: Techniques) -> Shape:
    """What is changed of it besides, and by the tasks that it is for beside the run's own."""
    recipe = cell.recipe
    return Shape(
        room=_room(cell),
        shared=techniques.share.groups if techniques.share else None,
        bottleneck=techniques.adapt.bottleneck if techniques.adapt else 0,
        mlp=techniques.prune.left(recipe.backbone.mlp, techniques.prune.neurons) if techniques.prune else None,
    )


def _room(cell: Run) -> int | None:
    """The vectors of the longest task, where tasks with others share the backbone; None: all alike."""
    asked = [(t.length, (t.grid[0], t.grid[1]) if t.grid else None) for t in cell.tasks]
    every = {(dims.length, dims.grid) for one in asked for dims in [sizes(cell.recipe.backbone, *one)]}
    return None if len(every) == 1 else max(length for length, _ in every)


def regime(cell: Run, stock: Stock, objective: Objective, make: Make) -> Regime:
    """How the run is trained, beginning from what it stands on; `make` draws its model.

    Raises:
        ConfigError: a technique cannot be pulled on such a model.
    """
    techniques, steps, stock = cell.techniques, cell.recipe.training.steps, _own_part(cell, stock)
    precision, bits = techniques.precision, techniques.quantize
    teacher = stock.teacher if techniques.distill else None
    beside: dict[str, Any] = {"teacher": (teacher.params, teacher.rest)} if teacher else {}
    if bits and bits.activations < quantize.FLOAT:
        beside[RANGES] = _ranges(bits, stock, make)
    whole = partial(_merged, techniques.adapt) if techniques.adapt and techniques.adapt.frozen else plain
    whole = partial(_untranslated, whole) if _translation(cell) else whole
    return Regime(
        begin=partial(begun, cell, _shrunk(cell, stock, objective, make), beside),
        weights=partial(_rounded, whole, bits) if bits else whole,
        serve=partial(_quantized, whole, bits) if bits else whole,
        served=_restored if bits else plain,
        learning=_simulated if RANGES in beside else within_nothing,
        answering=partial(_whole, bits) if bits and RANGES in beside else within_nothing,
        loss=distill.Lesson(techniques.distill, teacher.graph) if techniques.distill and teacher else of_the_task,
        rule=_rule(cell, steps),
        params=jnp.dtype(config.FLOATS[precision.params]) if precision else jnp.float32,
        accumulate=jnp.dtype(config.FLOATS[precision.accumulate]) if precision else jnp.float32,
        loss_scale=precision.loss_scale if precision and precision.compute == "fp16" else None,
    )


def _own_part(cell: Run, stock: Stock) -> Stock:
    """The stock, with the run's task's part of a start that was trained on several."""
    if cell.start is None or stock.start is None or not cell.start.pulls("joint"):
        return stock
    start = Learned(*part(*stock.start, cell.start.tasks.index(cell.task)))
    return replace(stock, start=start, same_symbols=True)


def _rule(cell: Run, steps: int) -> Callable[[optax.GradientTransformation], optax.GradientTransformation]:
    technique = cell.techniques.prune
    if technique is None or not technique.sparsity:
        return lambda rule: rule
    return partial(prune.pruned, technique=technique, steps=steps) if cell.pulls("prune") else prune.holding


def begun(cell: Run, stock: Stock, beside: dict[str, Any], params: Params, rest: Params) -> Begun:
    """What there is before the first step, of what was drawn."""
    techniques, anew = cell.techniques, set[Path]()
    if stock.start is not None:
        anew = drawn_anew(cell, stock, params)
        params = inherited(params, stock.start.params, anew)
        rest = inherited(rest, stock.start.rest, set())
    if techniques.prune and cell.pulls("prune") and not techniques.prune.steps:
        params = prune.sparse(params, techniques.prune.sparsity)
    if not techniques.adapt or not techniques.adapt.frozen:
        return Begun(_with(params, _translation(cell)), rest, beside)
    ours, held = adapt.frozen(params, anew)
    ours |= adapt.low_rank(held, techniques.adapt.rank, cell.seed) | _translation(cell)
    return Begun(nested(ours), rest, {**beside, "frozen": nested(held)})


def _translation(cell: Run) -> Flat:
    technique, teacher = cell.techniques.distill, cell.teacher
    if not technique or not technique.hidden or teacher is None:
        return {}
    return distill.translation(cell.recipe.backbone.width, teacher.recipe.backbone.width, cell.seed)


def _with(params: Params, more: Flat) -> Params:
    return nested({**flat(params), **more}) if more else params


def drawn_anew(cell: Run, stock: Stock, params: Params) -> set[Path]:
    """What is not taken from the start: the head of another task, its symbols if they are others, what does not fit."""
    assert stock.start is not None
    learned = flat(stock.start.params)
    other = cell.start is not None and cell.task not in cell.start.tasks
    anew = {path for path, new in flat(params).items() if not fits(path, new, learned.get(path))}
    anew |= {path for path in flat(params) if other and path[0] == HEAD}
    return anew if stock.same_symbols else anew | {path for path in flat(params) if path == TABLE}


def _merged(technique: config.Adapt, trained: Params, given: Any) -> Params:
    return adapt.merged(trained, flat(given["frozen"]), technique)


def _untranslated(whole: Weights, trained: Params, given: Any) -> Params:
    return distill.untranslated(whole(trained, given))


def _rounded(whole: Weights, technique: config.Quantize, trained: Params, given: Any) -> Params:
    return quantize.rounded(whole(trained, given), technique.weights)


def _quantized(whole: Weights, technique: config.Quantize, trained: Params, given: Any) -> Params:
    return quantize.quantized(whole(trained, given), technique.weights)


def _restored(kept: Any, given: Any) -> Params:
    return quantize.restored(kept)


def _simulated(given: Any) -> AbstractContextManager[None]:
    return quantize.simulated(given[RANGES])


def _whole(technique: config.Quantize, given: Any) -> AbstractContextManager[None]:
    return quantize.whole(given[RANGES], technique.weights)


def _ranges(technique: config.Quantize, stock: Stock, make: Make) -> quantize.Ranges:
    """Of activations in the start's model, its weights rounded; 0 of each where it is not trained yet."""

    def answer(model: Any, asked: tuple[jax.Array, jax.Array]) -> jax.Array:
        return model(*asked, key=None)

    batches = [(jnp.asarray(b.tokens), jnp.asarray(b.mask)) for b in stock.examples(technique.examples)]
    if stock.start is None:
        model = nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))
        graph, state = nnx.split(model)
        return jnp.zeros(quantize.products(lambda b: answer(nnx.merge(graph, state), b), batches[0]))
    graph, params, rest = stock.start
    kept = quantize.rounded(params, technique.weights)
    return quantize.calibrated(lambda b: answer(nnx.merge(graph, kept, rest), b), batches)


def _shrunk(cell: Run, stock: Stock, objective: Objective, make: Make) -> Stock:
    """The stock, with what its start has learned cut to the heads and neurons that stay."""
    technique = cell.techniques.prune
    if (
        technique is None
        or not cell.pulls("prune")
        or stock.start is None
        or not (technique.heads or technique.neurons)
    ):
        return stock
    graph, params, rest = stock.start
    heads = cell.recipe.backbone.heads

    def loss(params: Params, asked: Question) -> jax.Array:
        model: Any = nnx.merge(graph, params, rest)
        one = jax.tree.map(lambda a: a[None], (asked.tokens, asked.mask))
        return objective.loss(model(*one, key=None), asked.label[None])[0]

    batches = stock.examples(technique.examples)
    asked = [Question(jnp.asarray(b.tokens), jnp.asarray(b.mask), jnp.asarray(b.label), None) for b in batches]
    felt = prune.importance(loss, params, heads, asked)
    if technique.neurons:
        params = prune.without_neurons(params, prune.left(felt.neurons, technique.neurons))
    if technique.heads:
        params, rest = _without_heads(cell, Learned(graph, params, rest), felt, make, asked[0])
    return Stock(Learned(graph, params, rest), stock.teacher, stock.same_symbols, stock.examples)


def _without_heads(
    cell: Run, whole: Learned, felt: prune.Importance, make: Make, asked: Question
) -> tuple[Params, Params]:
    """What the model has learned, without the heads that matter least.

    Raises:
        ConfigError: its heads do not stand side by side: without some it would not answer as if they were silent.
    """
    technique, heads = cell.techniques.prune, cell.recipe.backbone.heads
    assert technique is not None
    if not felt.heads.size:
        raise ConfigError(f"prune.heads: {cell.model} has no heads that are put through a W_o")
    stay = prune.left(felt.heads, technique.heads)
    small, *shapes = nnx.split(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))), nnx.Param, ...)
    parts = [prune.without_heads(a, b, heads, stay) for a, b in zip((whole.params, whole.rest), shapes, strict=True)]
    silent = prune.silenced(whole.params, heads, stay)
    model: Any = nnx.merge(small, *parts)
    loud: Any = nnx.merge(whole.graph, silent, whole.rest)
    a, b = (np.asarray(one(asked.tokens, asked.mask, key=None)) for one in (model, loud))
    if not np.abs(a - b).max() <= OFF * np.abs(b).max():
        raise ConfigError(f"prune.heads: the heads of {cell.model} are not independent of each other")
    return parts[0], parts[1]
