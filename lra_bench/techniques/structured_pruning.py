"""Heads and neurons taken out of a trained model: those that matter least.

Michel et al. (arXiv 1905.10650, section 4): a head's importance is E |dL/dxi| of a gate xi on what it puts out. As the
gate stands before W_o, that is the product of the head's rows of W_o with their own gradient; an MLP's neuron likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from lra_bench import config
from lra_bench.config import Run
from lra_bench.errors import ConfigError
from lra_bench.techniques.base import Dependencies, ModelState
from lra_bench.techniques.parameters import STACKED, Flat, Path, flat, nested
from lra_bench.training.optimizer import Params
from lra_bench.training.setup import LossInputs, TrainingSetup

OUT = (STACKED, "mixer", "out")  # W_o: [layers, H K, D]
QKV = (STACKED, "mixer", "qkv")  # W_q, W_k, W_v: [layers, D, 3 H K]
UP, UP_BIAS, DOWN = (STACKED, "up", "kernel"), (STACKED, "up", "bias"), (STACKED, "down", "kernel")
OFF = 1e-3  # of the largest logit: how far a model without some heads may be from one that only does not hear them


def shrunk(
    run: Run, options: config.Prune, start: ModelState, setup: TrainingSetup, dependencies: Dependencies
) -> ModelState:
    """What was learned, cut to the heads and neurons that matter most to the loss on examples of train.

    Raises:
        ConfigError: the mixer has no heads that are put through a W_o, or they do not stand side by side.
    """
    graph, params, rest = start
    heads = run.recipe.backbone.heads

    def loss(params: Params, asked: LossInputs) -> jax.Array:
        model: Any = nnx.merge(graph, params, rest)
        one = jax.tree.map(lambda a: a[None], (asked.tokens, asked.mask))
        label = asked.label[None]
        return setup.objective.loss(model(*one, key=None, places=setup.objective.places(label)), label)[0]

    batches = dependencies.examples(options.examples)
    asked = [LossInputs(jnp.asarray(b.tokens), jnp.asarray(b.mask), jnp.asarray(b.label), None) for b in batches]
    felt = importance(loss, params, heads, asked)
    if options.neurons:
        params = without_neurons(params, left(felt.neurons, options.neurons))
    if options.heads:
        params, rest = _cut(run, options, ModelState(graph, params, rest), felt, setup, asked[0])
    return ModelState(graph, params, rest)


def _cut(
    run: Run, options: config.Prune, full: ModelState, felt: Importance, setup: TrainingSetup, asked: LossInputs
) -> tuple[Params, Params]:
    """What the model has learned, without the heads that matter least.

    Raises:
        ConfigError: its heads do not stand side by side: without some it would not answer as if they were silent.
    """
    heads = run.recipe.backbone.heads
    if not felt.heads.size:
        raise ConfigError(f"prune.heads: {run.model} has no heads that are put through a W_o")
    stay = left(felt.heads, options.heads)
    small, *shapes = nnx.split(nnx.eval_shape(lambda: setup.model(rngs=nnx.Rngs(0))), nnx.Param, ...)
    parts = [without_heads(a, b, heads, stay) for a, b in zip((full.params, full.rest), shapes, strict=True)]
    model: Any = nnx.merge(small, *parts)
    loud: Any = nnx.merge(full.graph, silenced(full.params, heads, stay), full.rest)
    a, b = (np.asarray(one(asked.tokens, asked.mask, key=None)) for one in (model, loud))
    if not np.abs(a - b).max() <= OFF * np.abs(b).max():
        raise ConfigError(f"prune.heads: the heads of {run.model} are not independent of each other")
    return parts[0], parts[1]


class Importance(NamedTuple):
    """How much a loss would change were a head's, or a neuron's, gate moved: the mean of |dL / dxi| over examples."""

    heads: Float[np.ndarray, "N H"]
    neurons: Float[np.ndarray, "N M"]


Loss = Callable[[nnx.State[Any, Any], Any], jax.Array]  # (params, an example) -> its loss


def importance(loss: Loss, params: nnx.State[Any, Any], heads: int, batches: Iterable[Any]) -> Importance:
    """Of a model's heads, none if its mixer has no W_o, and its neurons, over batches of examples."""
    whole = flat(params)
    gated = [path for path in (OUT, DOWN) if path in whole]

    def of(rows: Flat, example: Any) -> jax.Array:
        return loss(nested({**whole, **rows}), example)

    @jax.jit
    def felt(batch: Any) -> list[jax.Array]:
        rows = {path: whole[path] for path in gated}
        slopes = jax.vmap(jax.grad(of), in_axes=(None, 0))(rows, batch)
        each = [(slopes[path][...] * whole[path][...]).sum(-1) for path in gated]  # [B, N, rows]
        if OUT in gated:
            each[0] = each[0].reshape(*each[0].shape[:2], heads, -1).sum(-1)
        return [jnp.abs(one).sum(0) for one in each]

    sums = [np.sum(parts, axis=0) for parts in zip(*(jax.device_get(felt(batch)) for batch in batches), strict=True)]
    found = dict(zip(gated, sums, strict=True))
    return Importance(found.get(OUT, np.zeros((len(found[DOWN]), 0))), found[DOWN])


def left(importance: Float[np.ndarray, "N M"], share: float) -> np.ndarray:
    """Of each layer, the places of all but the `share` that matters least, in order: [N, m]."""
    stay = config.Prune.left(importance.shape[1], share)
    return np.sort(np.argsort(-importance, axis=1, kind="stable")[:, :stay], axis=1)


def without_neurons(params: nnx.State[Any, Any], stay: np.ndarray) -> nnx.State[Any, Any]:
    """The MLPs with the neurons at `stay` [N, m] alone: their arrays are smaller."""
    every = flat(params)
    for path, axis in ((UP, 2), (UP_BIAS, 1), (DOWN, 1)):
        every[path] = every[path].replace(_picked(every[path][...], stay, axis))
    return nested(every)


def without_heads(
    arrays: nnx.State[Any, Any], small: nnx.State[Any, Any], heads: int, stay: np.ndarray
) -> nnx.State[Any, Any]:
    """The mixers with the heads at `stay` [N, h] alone; `small` has the shapes of a model of so few.

    An axis that is shorter there is one over heads: H, H by what each has, or several times H by K, side by side.
    """
    fewer = flat(small)

    def one(path: Path, full: nnx.Variable[jax.Array]) -> nnx.Variable[jax.Array]:
        value = full[...]
        for axis, (long, short) in enumerate(zip(value.shape, fewer[path].shape, strict=True)):
            if long != short:
                value = _picked(value, _places(stay, heads, long, path), axis)
        return full.replace(value)

    return nested({path: one(path, full) for path, full in flat(arrays).items()})


def silenced(params: nnx.State[Any, Any], heads: int, stay: np.ndarray) -> nnx.State[Any, Any]:
    """The model in which nobody hears the heads that are not at `stay`: their rows of W_o are zero."""
    every = flat(params)
    W = every[OUT][...]
    heard = jnp.zeros((len(W), heads)).at[np.arange(len(stay))[:, None], stay].set(1)
    every[OUT] = every[OUT].replace(W * jnp.repeat(heard, W.shape[1] // heads, axis=1)[..., None])
    return nested(every)


def _places(stay: np.ndarray, heads: int, length: int, path: Path) -> np.ndarray:
    """Of an axis of that length, the places of the heads at `stay`, [N, n]: of queries, of keys and of values."""
    several = 3 if path == QKV else 1
    own = np.arange(length).reshape(several, heads, -1)
    return np.stack([own[:, layer].reshape(-1) for layer in stay])


def _picked(value: jax.Array, places: np.ndarray, axis: int) -> jax.Array:
    """Of each layer, those at `places` [N, m] along an axis."""
    shape = [len(places) if a == 0 else places.shape[1] if a == axis else 1 for a in range(value.ndim)]
    return jnp.take_along_axis(value, jnp.asarray(places).reshape(shape), axis=axis)
