"""A mixer against its paper's equation, written out in numpy: values, and slopes along random directions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lra_bench.mixers.base import MixerBase

Values = dict[str, np.ndarray]  # a mixer's arrays by the names of their attributes, float64
ByHand = Callable[[Values, np.ndarray, np.ndarray], np.ndarray]  # arrays, x [L, D], mask [L]: y [L, D]

STEP = 1e-6
QUICK = {"xla_backend_optimization_level": "1"}  # half the time to compile


def values(mixer: MixerBase) -> Values:
    """Every array of the mixer."""
    return {".".join(map(str, path)): np.float64(leaf[...]) for path, leaf in nnx.to_flat_state(nnx.state(mixer))}


def apply(mixer: MixerBase, x: jax.Array, mask: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """y, compiled."""
    return jax.jit(partial(mixer, key=key), compiler_options=QUICK)(x, mask)


def compare(mixer: MixerBase, by_hand: ByHand, x: jax.Array, mask: jax.Array, key: jax.Array | None = None) -> None:
    """y at real tokens, and how a weighted sum of y changes with x and all parameters, in three random directions."""
    graph, params, rest = nnx.split(mixer, nnx.Param, ...)
    rng = np.random.default_rng(0)
    g = rng.normal(size=x.shape) * np.asarray(mask)[..., None]

    @partial(jax.jit, compiler_options=QUICK)
    def run(params: nnx.State, x: jax.Array) -> tuple:
        y, pull = jax.vjp(lambda p, x: nnx.merge(graph, p, rest, copy=True)(x, mask, key=key), params, x)
        return y, *pull(jnp.asarray(g, x.dtype))

    y, by_params, by_x = run(params, x)
    slopes = {".".join(map(str, path)): np.float64(leaf[...]) for path, leaf in nnx.to_flat_state(by_params)}

    def plain(shift: float, along: Values, along_x: np.ndarray) -> np.ndarray:
        moved = {name: array + shift * along.get(name, 0) for name, array in values(mixer).items()}
        rows = zip(np.float64(x) + shift * along_x, np.asarray(mask), strict=True)
        return np.stack([by_hand(moved, row, there) for row, there in rows])

    there = np.asarray(mask)[..., None]
    np.testing.assert_allclose(np.where(there, y, 0), np.where(there, plain(0, {}, np.zeros(x.shape)), 0), atol=1e-5)
    for _ in range(3):
        along = {name: rng.normal(size=slope.shape) for name, slope in slopes.items()}
        along_x = rng.normal(size=x.shape)
        ends = [(plain(s, along, along_x) * g)[np.asarray(mask)].sum() for s in (STEP, -STEP)]
        slope = (np.float64(by_x) * along_x).sum() + sum((slopes[name] * along[name]).sum() for name in slopes)
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * STEP), rtol=2e-4, atol=2e-4)


def softmax(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Over the last axis, where the mask is True; zeros if it nowhere is."""
    weights = np.zeros_like(scores)
    if mask.any():
        weights[:, mask] = np.exp(scores[:, mask] - scores[:, mask].max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
    return weights


def layer_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + bias


def cut(x: np.ndarray, heads: int) -> np.ndarray:
    """[L, H K] as [H, L, K]."""
    return x.reshape(len(x), heads, -1).swapaxes(0, 1)


def join(x: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(x, axis=-1)
