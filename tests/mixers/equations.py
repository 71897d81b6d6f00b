"""A mixer beside its paper's equation, written out in numpy with float64, which compiles nothing: values and slopes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from draws import coins, normal
from flax import nnx

from lra_bench.mixers.base import Auxiliary, Dims, MixerBase

Values = Mapping[str, np.ndarray]  # a mixer's arrays by the names of their attributes
Equation = Callable[[Values, np.ndarray, np.ndarray], np.ndarray]  # arrays, x [L, D], mask [L]: y [L, D]
M = TypeVar("M", bound=MixerBase)

STEP = 1e-5
DIRECTIONS = 2


def draw(make: Callable[..., M], config: Any, dims: Dims) -> M:
    """A mixer without its own start, which compiles: numpy draws every array, what begins as zeros or ones too."""
    mixer = nnx.eval_shape(lambda: make(config, dims, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    for _, leaf in nnx.to_flat_state(nnx.state(mixer)):
        size = 0.4 if isinstance(leaf, nnx.Param) else 1 - isinstance(leaf, Auxiliary)
        leaf.set_value(jnp.asarray(size * rng.normal(size=leaf.shape), leaf.dtype))
    return mixer


def texts(length: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Four, and their masks: full, ending early, with holes, and without any token."""
    full = np.ones(length, bool)
    masks = [full, np.arange(length) < length // 2, coins(length, seed=length, chance=0.6), ~full]
    return normal(len(masks), length, width, seed=1), jnp.asarray(np.stack(masks))


def apply(mixer: MixerBase, x: jax.Array, mask: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """y, compiled."""
    return jax.jit(partial(mixer, key=key))(x, mask)


def values(mixer: MixerBase) -> dict[str, np.ndarray]:
    """Every array of the mixer, in float64."""
    return named(nnx.state(mixer))


def named(state: nnx.State) -> dict[str, np.ndarray]:
    return {".".join(map(str, path)): np.float64(leaf[...]) for path, leaf in nnx.to_flat_state(state)}


def pulled(mixer: MixerBase, x: jax.Array, mask: jax.Array, g: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """y, and the slopes of the sum of g y along x and each parameter."""
    graph, params, rest = nnx.split(mixer, nnx.Param, ...)

    @jax.jit
    def run(params: nnx.State, x: jax.Array, g: jax.Array) -> tuple[Any, ...]:
        y, pull = jax.vjp(lambda params, x: nnx.merge(graph, params, rest, copy=True)(x, mask, key=None), params, x)
        return y, *pull(g)

    y, slopes, of_x = run(params, x, jnp.asarray(g, x.dtype))
    return np.float64(y), named(slopes) | {"x": np.float64(of_x)}


def compare(mixer: MixerBase, equation: Equation, x: jax.Array, mask: jax.Array, untrained: Iterable[str] = ()) -> None:
    """Hold the outputs of true tokens, and the slopes of a weighted sum of them, to those of `equation`, text by text.

    Slopes by central differences along random directions, of each array by itself; those of `untrained` are zero.
    `equation` finds x under "fixed" too, where it is not moved: for what passes no gradient.
    """
    real, rng = np.asarray(mask), np.random.default_rng(0)
    g = rng.normal(size=x.shape) * real[..., None]
    y, slopes = pulled(mixer, x, mask, g)
    arrays = values(mixer) | {"x": np.float64(x)}

    def exact(arrays: Values) -> np.ndarray:
        rows = zip(arrays["x"], np.float64(x), real, strict=True)
        return np.concatenate([equation({**arrays, "fixed": fixed}, x, m)[m] for x, fixed, m in rows if m.any()])

    np.testing.assert_allclose(y[real], exact(arrays), atol=1e-5)
    for name, slope in slopes.items():
        assert slope.any() == (name not in untrained), f"the slope of {name}: {slope}"
        for _ in range(DIRECTIONS if slope.any() else 0):
            step = STEP * rng.normal(size=slope.shape)
            ahead, behind = ((g[real] * exact({**arrays, name: arrays[name] + move})).sum() for move in (step, -step))
            error = abs((slope * step).sum() - (ahead - behind) / 2)
            assert error <= 1e-3 * STEP * np.linalg.norm(slope) + 1e-12, f"the slope of {name}"


def causally(equation: Equation) -> Equation:
    """The same of the tokens up to each, as if the text ended there."""

    def upto(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        rows = [equation(p, x[: t + 1], mask[: t + 1])[t] if mask[t] else np.zeros_like(x[t]) for t in range(len(x))]
        return np.array(rows)

    return upto


def unmoved_by_padding(mixer: MixerBase, x: jax.Array, before: int = 0) -> None:
    """Hold the outputs of a text to what they are with padding after it, or before it too."""
    B, L, D = x.shape
    wide, mask = np.full((B, L + before + 9, D), 5.0, np.float32), np.zeros((B, L + before + 9), bool)
    wide[:, before : before + L], mask[:, before : before + L] = x, True
    y, short = apply(mixer, wide, mask), apply(mixer, x, np.ones((B, L), bool))
    np.testing.assert_allclose(y[:, before : before + L], short, atol=2e-5)


def seen(mixer: MixerBase, mask: np.ndarray, width: int = 8) -> np.ndarray:
    """[i, j]: whether y_i depends on x_j, in a text with this mask."""
    slopes = jax.jacrev(lambda x: mixer(x[None], jnp.asarray(mask)[None], key=None)[0].sum(-1))
    return np.asarray(abs(jax.jit(slopes)(normal(len(mask), width))).max(-1) > 0)


def softmax(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Over the last axis, where the mask is True; zeros where it nowhere is."""
    weights = np.where(mask, np.exp(scores - scores.max(-1, keepdims=True)), 0)
    return weights / np.maximum(weights.sum(-1, keepdims=True), 1e-300)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray, bias: Any = 0.0) -> np.ndarray:
    """softmax(q k^T / sqrt K + bias) v over the keys that the mask shows, head by head."""
    return softmax(q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5 + bias, mask) @ v


def layer_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + bias


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def gelu(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def cut(x: np.ndarray, heads: int = 2) -> np.ndarray:
    """[L, H K] as [H, L, K]."""
    return x.reshape(len(x), heads, -1).swapaxes(0, 1)


def join(x: Iterable[np.ndarray]) -> np.ndarray:
    """[H, L, K] as [L, H K]."""
    return np.concatenate(list(x), axis=-1)
