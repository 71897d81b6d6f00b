"""Weights made zero, and heads and neurons taken out.

Zhu and Gupta (arXiv 1710.01878): of each matrix the smallest weights are made zero, their share rising with step t as
    s_t = s (1 - (1 - t / n)^3)                                                           (equation 1)
Movement pruning (Sanh et al., arXiv 2005.07683, section 4): the model has W' = W * M in W's place, M one where a score
S is among the highest, and in place of |W|, S = - sum of W dL/dW' over the steps, so that what moves away from zero is
kept. M is taken as the identity for S (straight-through), and as it is for W, whose gradient is dL/dW' * M: a weight
that is out stays where it was, its score goes on to change, and it may come back. As there, the matrices of the layers
alone are thinned out; embeddings, positions and the head are whole. Theirs trains S by Adam, here it is the plain sum.
Michel et al. (arXiv 1905.10650, section 4): a head's importance is E |dL/dxi| of a gate xi on what it puts out. As the
gate stands before W_o, that is the product of the head's rows of W_o with their own gradient; an MLP's neuron likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench import config
from lra_bench.techniques.parameters import STACKED, Flat, Path, flat, is_matrix, nested

OUT = (STACKED, "mixer", "out")  # W_o: [layers, H K, D]
QKV = (STACKED, "mixer", "qkv")  # W_q, W_k, W_v: [layers, D, 3 H K]
UP, UP_BIAS, DOWN = (STACKED, "up", "kernel"), (STACKED, "up", "bias"), (STACKED, "down", "kernel")


class Pruning(NamedTuple):
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

    def init(params: Any) -> Pruning:
        dense = {named(path): W[...] for path, W in flat(params).items() if moves and thinned(path, W)}
        return Pruning(rule.init(params), jnp.int32(0), dense, jax.tree.map(jnp.zeros_like, dense))

    def update(grads: Any, state: Pruning, params: Any = None) -> tuple[Any, Pruning]:
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
        return nested(change), Pruning(inner, step, dense, scores)

    return optax.GradientTransformation(init, update)


def _of_the_dense(grads: Any, state: Pruning, params: Any) -> tuple[Any, Any, Any]:
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
