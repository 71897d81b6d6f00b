"""One training step and one forward pass, of what a training setup says.

Dropout's key is `fold_in(key(seed), step)`, so a resumed run draws what an uninterrupted one does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from flax.training.dynamic_scale import DynamicScale

from lra_bench import config
from lra_bench.mixers.base import Auxiliary, Dynamics
from lra_bench.training.optimizer import Params, optimizer
from lra_bench.training.setup import TRAINED, InitialState, LossInputs, TrainingSetup


class State(NamedTuple):
    """All that a step changes."""

    params: Params  # those that are trained
    rest: Params  # what a mixer keeps beside its parameters
    opt: optax.OptState
    step: jax.Array  # int32: steps done
    scale: DynamicScale | None = None  # of the loss, where gradients are in fp16


def initial(setup: TrainingSetup, recipe: config.Recipe, seed: int) -> tuple[State, dict[str, Any]]:
    """The state before the first step, and what a step is given."""
    _, params, rest = nnx.split(setup.model(rngs=nnx.Rngs(seed)), nnx.Param, ...)  # type: ignore[misc]
    begun = setup.begin(InitialState(params, rest, {}))
    kept = cast(begun.params, setup.params)
    opt = setup.rule(optimizer(recipe)).init(cast(kept, jnp.float32))  # in 16 bits, b2 = 0.999 is 1: v would not fall
    return State(kept, begun.rest, opt, jnp.int32(0), _loss_scale(setup.loss_scale)), begun.given


def _loss_scale(first: float | None) -> DynamicScale | None:
    if first is None:
        return None
    counters: dict[str, Any] = {"scale": jnp.float32(first), "fin_steps": jnp.int32(0)}
    return DynamicScale(**counters)


def cast(params: Params, dtype: Any) -> Params:
    """The parameters in other numbers, but for a state space's dynamics, which enter through an exponential."""

    def one(leaf: nnx.Variable[jax.Array]) -> nnx.Variable[jax.Array]:
        kept = isinstance(leaf, Dynamics) or not jnp.issubdtype(leaf.dtype, jnp.floating) or leaf.dtype == dtype
        return leaf if kept else leaf.replace(leaf[...].astype(dtype))

    return jax.tree.map(one, params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


class Totals(NamedTuple):
    """What micro-batches add up to."""

    rest: Params  # what a mixer keeps beside its parameters, as the last one left it
    loss: jax.Array
    grads: Params


Gradient = Callable[..., tuple[tuple[jax.Array, Params], Params]]


def gradient(graph: nnx.GraphDef[Any], setup: TrainingSetup) -> Gradient:
    """(params, given, rest, the loss's scale, a micro-batch) -> (its loss, rest), its gradient."""

    def loss(params: Params, given: Any, rest: Params, scale: Any, asked: LossInputs) -> tuple[Any, Any]:
        weights = cast(setup.weights(params, given), jnp.float32)
        model = nnx.merge(graph, weights, rest, copy=True)
        with setup.learning(given):
            value = setup.loss(model, asked, setup.objective, {**given, TRAINED: params})
        own = sum(leaf.sum() for leaf in jax.tree.leaves(nnx.state(model, Auxiliary)))
        return value + own if scale is None else (value + own) * scale, nnx.state(model, nnx.Not(nnx.Param))

    return jax.value_and_grad(loss, has_aux=True)


def nothing_yet(setup: TrainingSetup, state: State) -> Totals:
    """The totals before the first micro-batch."""
    zeros = jax.tree.map(lambda p: jnp.zeros_like(p, setup.accumulate), state.params)
    return Totals(state.rest, jnp.float32(0), zeros)


def adding(graph: nnx.GraphDef[Any], setup: TrainingSetup) -> Callable[..., Totals]:
    """(params, given, the loss's scale, totals, a micro-batch) -> totals with it."""
    value_and_grad = gradient(graph, setup)

    def add(params: Params, given: Any, scale: Any, totals: Totals, asked: LossInputs) -> Totals:
        (value, rest), new = value_and_grad(params, given, totals.rest, scale, asked)
        grads = jax.tree.map(lambda g, n: g + n.astype(g.dtype), totals.grads, new)
        return Totals(rest, totals.loss + value, grads)

    return add


def mean(totals: Totals, micro_batches: int) -> Totals:
    """The mean over so many micro-batches."""
    grads = jax.tree.map(lambda g: g / micro_batches, totals.grads)
    return totals._replace(loss=totals.loss / micro_batches, grads=grads)


def updating(recipe: config.Recipe, setup: TrainingSetup) -> Callable[[State, Totals], tuple[State, jax.Array]]:
    """(state, means over a batch) -> state, loss. A gradient that overflows in fp16 updates nothing but the loss's
    scale."""
    rule = setup.rule(optimizer(recipe))

    def update(state: State, means: Totals) -> tuple[State, jax.Array]:
        scale, (rest, value, grads) = loss_scale(state), means
        if scale is not None:
            value, grads = value / scale, jax.tree.map(lambda g: g.astype(jnp.float32) / scale, grads)
        grads = jax.tree.map(lambda g: g.astype(setup.accumulate), grads)
        change, opt = rule.update(grads, state.opt, state.params)
        finite = jnp.isfinite(optax.tree.norm(grads))
        new = State(optax.apply_updates(state.params, change), rest, opt, state.step + 1, state.scale)
        if scale is None:
            return new, jnp.where(finite, value, jnp.nan)
        return _scaled(state, new, finite), jnp.where(finite | (scale > 1), value, jnp.nan)

    return update


def loss_scale(state: State) -> Any:
    """By which the loss is multiplied; None: it is not."""
    return None if state.scale is None else state.scale.scale


def dropout_keys(state: State, seed: int, micro_batches: int) -> jax.Array:
    """Of a step; of several micro-batches, one each [A]."""
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    return key if micro_batches == 1 else jax.random.split(key, micro_batches)


def training_step(
    graph: nnx.GraphDef[Any], recipe: config.Recipe, setup: TrainingSetup, seed: int
) -> Callable[..., Any]:
    """The step, (given, state, tokens, mask, label) -> state, loss: gradients averaged over the micro-batches one after
    another, one update."""
    value_and_grad, add, update = gradient(graph, setup), adding(graph, setup), updating(recipe, setup)

    def one_micro_batch(carry: Any, asked: LossInputs) -> tuple[Any, None]:
        params, given, scale, totals = carry
        return (params, given, scale, add(params, given, scale, totals, asked)), None

    def step(given: Any, state: State, tokens: jax.Array, mask: jax.Array, label: jax.Array) -> tuple[State, jax.Array]:
        asked = LossInputs(tokens, mask, label, None)
        micro_batches = jax.tree.leaves(tokens)[0].shape[0]
        keys, scale = dropout_keys(state, seed, micro_batches), loss_scale(state)
        if micro_batches == 1:
            only = jax.tree.map(lambda a: a[0], asked)._replace(key=keys)
            (value, rest), grads = value_and_grad(state.params, given, state.rest, scale, only)
            return update(state, Totals(rest, value, grads))
        carry = (state.params, given, scale, nothing_yet(setup, state))
        (*_, totals), _ = jax.lax.scan(one_micro_batch, carry, asked._replace(key=keys))
        return update(state, mean(totals, micro_batches))

    return step


def _scaled(old: State, new: State, finite: jax.Array) -> State:
    """The new state, its loss's scale set anew; the old one where the gradient was not finite (Micikevicius et al.,
    arXiv 1710.03740, section 3.2, with the scale found as `DynamicScale` finds it)."""
    scale = old.scale
    assert scale is not None
    grows = finite & (scale.fin_steps == scale.growth_interval)
    factor = jnp.where(finite, jnp.where(grows, scale.growth_factor, 1.0), scale.backoff_factor)
    steps = jnp.where(grows | ~finite, 0, scale.fin_steps + 1)
    kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new._replace(scale=None), old._replace(scale=None))
    return kept._replace(step=new.step, scale=scale.replace(scale=scale.scale * factor, fin_steps=steps))


def answers(graph: nnx.GraphDef[Any], setup: TrainingSetup) -> Callable[..., jax.Array]:
    """The forward pass without dropout, (given, kept, rest, tokens, mask) -> the logits of each example [B, ...], at
    `places` alone where some are given."""

    def answered(
        given: Any, kept: Any, rest: Params, tokens: jax.Array, mask: jax.Array, places: jax.Array | None = None
    ) -> jax.Array:
        weights = cast(setup.restore(kept, given), jnp.float32)
        with setup.predicting(given):
            return nnx.merge(graph, weights, rest)(tokens, mask, key=None, places=places)

    return answered


def scoring(graph: nnx.GraphDef[Any], setup: TrainingSetup) -> Callable[..., jax.Array]:
    """The forward pass, (given, kept, rest, tokens, mask, label) -> the score of each example [B]; nan, by any metric,
    where a logit is not finite: the largest of several nan is the first, which would be class 0."""
    answered = answers(graph, setup)

    def scored(given: Any, kept: Any, rest: Params, tokens: jax.Array, mask: jax.Array, label: jax.Array) -> jax.Array:
        logits = answered(given, kept, rest, tokens, mask, setup.objective.places(label))
        finite = jnp.isfinite(logits).all(axis=tuple(range(1, logits.ndim)))
        return jnp.where(finite, setup.objective.score(logits, label), jnp.nan)

    return scored
