"""Weights made zero; `structured_pruning` takes out heads and neurons.

Zhu and Gupta (arXiv 1710.01878): of each matrix the smallest weights are made zero, their share rising with step t as
    s_t = s (1 - (1 - t / n)^3)                                                           (equation 1)
Movement pruning (Sanh et al., arXiv 2005.07683, section 4): the model has W' = W * M in W's place, M one where a score
S is among the highest, and in place of |W|, S = - sum of W dL/dW' over the steps, so that what moves away from zero is
kept. M is taken as the identity for S (straight-through), and as it is for W, whose gradient is dL/dW' * M: a weight
that is out stays where it was, its score goes on to change, and it may come back. As there, the matrices of the layers
alone are thinned out; embeddings, positions and the head are whole. Theirs trains S by Adam, here it is the plain sum.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench import config
from lra_bench.model import ModelSpec
from lra_bench.techniques import structured_pruning
from lra_bench.techniques.base import Dependencies, Technique
from lra_bench.techniques.parameters import STACKED, Path, flat, is_matrix, nested
from lra_bench.training.setup import InitialState, TrainingSetup


class Pruning(Technique[config.Prune]):
    """Weights, heads and neurons taken out of what was trained; what is out stays out in what is trained from it."""

    def model(self, spec: ModelSpec) -> ModelSpec:
        """Fewer heads, each as wide as before, and fewer neurons."""
        own, left = spec.backbone, self.options.left
        neurons = left(own.mlp, self.options.neurons)
        spec = replace(spec, shape=replace(spec.shape, mlp=neurons))
        if not self.options.heads:
            return spec
        heads = left(own.heads, self.options.heads)
        fewer = {"heads": heads, "qkv": heads * ((own.qkv or own.width) // own.heads)}
        return replace(spec, backbone=own.model_copy(update=fewer))

    def depending(self, dependencies: Dependencies, setup: TrainingSetup) -> Dependencies:
        """The start is cut to the heads and neurons that matter most.

        Raises:
            ConfigError: as `structured_pruning.shrunk`.
        """
        if not self._now or dependencies.start is None or not (self.options.heads or self.options.neurons):
            return dependencies
        start = structured_pruning.shrunk(self.run, self.options, dependencies.start, setup, dependencies)
        return replace(dependencies, start=start)

    def training(self, setup: TrainingSetup, dependencies: Dependencies) -> TrainingSetup:
        """Weights are made zero step by step; at once, where there is no step."""
        if not self.options.sparsity:
            return setup
        if not self._now:
            return replace(setup, rule=holding)
        steps = self.run.recipe.training.steps
        setup = replace(setup, rule=partial(pruned, technique=self.options, steps=steps))
        return setup if self.options.steps else setup.beginning(self._sparse)

    @property
    def _now(self) -> bool:
        """Is it in this run that it is done, not in one that it starts from?"""
        return self.run.applies("prune")

    def _sparse(self, state: InitialState) -> InitialState:
        return state._replace(params=sparse(state.params, self.options.sparsity))


class PruningState(NamedTuple):
    """What the optimizer keeps besides; of movement pruning, each matrix with what is out of it, and S."""

    rule: Any
    step: jax.Array
    dense: dict[str, jax.Array]
    scores: dict[str, jax.Array]


def target(technique: config.Prune, steps: int, step: jax.typing.ArrayLike) -> jax.Array:
    """The sparsity after so many of the steps."""
    done = jnp.clip(jnp.asarray(step, jnp.float32) / max(technique.ramp * steps, 1.0), 0.0, 1.0)
    return technique.sparsity * (1 - (1 - done) ** 3)


def kept(scores: Float[Array, "*N I O"], sparsity: jax.typing.ArrayLike, stacked: bool) -> Bool[Array, "*N I O"]:
    """All but the share of lowest scores of each layer's matrix."""
    rows = scores.reshape((len(scores), -1) if stacked else (1, -1))
    out = jnp.floor(jnp.asarray(sparsity) * rows.shape[1]).astype(jnp.int32)
    rank = jnp.argsort(jnp.argsort(rows, axis=1), axis=1)
    return (rank >= out).reshape(scores.shape)


def sparse(params: nnx.State[Any, Any], sparsity: float) -> nnx.State[Any, Any]:
    """Each matrix's smallest weights at zero; at sparsity 0 nothing changes."""
    return nested(
        {path: variable.replace(_thinned(path, variable, sparsity)) for path, variable in flat(params).items()}
    )


def _thinned(path: Path, variable: nnx.Variable[jax.Array], sparsity: float) -> jax.Array:
    W = variable[...]
    return jnp.where(kept(jnp.abs(W), sparsity, path[0] == STACKED), W, 0) if is_matrix(path, variable) else W


def pruned(rule: optax.GradientTransformation, technique: config.Prune, steps: int) -> optax.GradientTransformation:
    """The rule, after whose update the weights of each matrix that rank lowest are zero."""
    moves = technique.by == "movement"

    def thinned(path: Path, variable: nnx.Variable[jax.Array]) -> bool:
        return is_matrix(path, variable) and (path[0] == STACKED or not moves)

    def init(params: Any) -> PruningState:
        dense = {named(path): W[...] for path, W in flat(params).items() if moves and thinned(path, W)}
        return PruningState(rule.init(params), jnp.int32(0), dense, jax.tree.map(jnp.zeros_like, dense))

    def update(grads: Any, state: PruningState, params: Any = None) -> tuple[Any, PruningState]:
        step = state.step + 1
        looks, share = (step % technique.every == 0) | (step == steps), target(technique, steps, step)
        asked = _of_the_dense(grads, state, params) if moves else (grads, state.rule, params)
        updates, inner = rule.update(*asked)
        change, slope = flat(updates), flat(grads)
        dense, scores = {}, {}
        for path, variable in flat(params).items():
            if not thinned(path, variable):
                continue
            name, W = named(path), variable[...]
            whole = state.dense.get(name, W)
            new = whole + change[path][...]
            if moves:
                dense[name], scores[name] = new, state.scores[name] - whole * slope[path][...]
            rank = scores.get(name, jnp.abs(new))
            ranked = partial(kept, rank, share, path[0] == STACKED)
            stays = jax.lax.cond(looks, ranked, lambda W=W: (W != 0) | (step < technique.every))
            change[path] = change[path].replace(jnp.where(stays, new, 0) - W)
        return nested(change), PruningState(inner, step, dense, scores)

    return optax.GradientTransformation(init, update)


def _of_the_dense(grads: Any, state: PruningState, params: Any) -> tuple[Any, Any, Any]:
    """What a rule is asked to update W by, not W': dL/dW' * M, its state, and W."""
    slope, every = flat(grads), flat(params)
    for path, variable in every.items():
        whole = state.dense.get(named(path))
        if whole is not None:
            there = (variable[...] != 0) | (whole == 0)
            slope[path] = slope[path].replace(jnp.where(there, slope[path][...], 0))
            every[path] = variable.replace(whole)
    return nested(slope), state.rule, nested(every)


def holding(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """The rule, after whose update what is zero in a matrix stays so."""

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = rule.update(grads, state, params)
        change = flat(updates)
        for path, W in flat(params).items():
            if is_matrix(path, W):
                change[path] = change[path].replace(jnp.where(W[...] != 0, change[path][...], 0))
        return nested(change), state

    return optax.GradientTransformation(rule.init, update)


def named(path: Path) -> str:
    """A parameter's path in one word."""
    return "/".join(map(str, path))
