"""A mixer beside its paper's equation, written out in numpy with float64: values, and slopes of every parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lra_bench.mixers.base import MixerBase

QUICK = {"xla_backend_optimization_level": "1"}  # half the time to compile
Plain = Callable[[Mapping[str, np.ndarray], np.ndarray, np.ndarray], np.ndarray]  # parameters, x [L, D], mask [L] -> y

silu = lambda x: x / (1 + np.exp(-x))  # noqa: E731
sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
gelu = lambda x: x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))  # noqa: E731


def texts(length: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Two texts, one of them with holes, one padded."""
    x = jax.random.normal(jax.random.key(7), (2, length, width))
    holes = np.arange(length) % 4 != 2
    return x, jnp.stack([jnp.asarray(holes), jnp.arange(length) < 2 * length // 3])


def agree(mixer: MixerBase, plain: Plain, x: jax.Array, mask: jax.Array) -> None:
    """Hold the mixer's output at real tokens, and its gradient, to `plain`'s; the latter by central differences."""
    graph, params, rest = nnx.split(mixer, nnx.Param, ...)
    draw = np.random.default_rng(0)
    g = draw.normal(size=x.shape) * np.asarray(mask)[..., None]

    def loss(params: nnx.State, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = nnx.merge(graph, params, rest)(x, mask, key=None)
        return (y * g).sum(), y

    slope = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (_, y), (slopes, dx) = jax.jit(slope, compiler_options=QUICK)(params, x)
    values, slopes = named(params) | {"x": np.float64(x)}, named(slopes) | {"x": np.float64(dx)}

    def exact(values: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.stack([plain(values, text, there) for text, there in zip(values["x"], np.asarray(mask), strict=True)])

    real = np.asarray(mask)
    np.testing.assert_allclose(np.asarray(y)[real], exact(values)[real], atol=1e-5)
    for name, value in values.items():
        step = 1e-5 * draw.normal(size=value.shape)
        ahead, behind = ((g * exact(values | {name: value + sign * step})).sum() for sign in (1, -1))
        found, scale = (slopes[name] * step).sum(), np.linalg.norm(slopes[name]) * 1e-5
        assert scale > 0, f"{name} has no gradient"
        assert abs(found - (ahead - behind) / 2) < 2e-3 * scale, f"gradient of {name}"


def named(state: nnx.State) -> dict[str, np.ndarray]:
    """The parameters in float64, by their names."""
    return {".".join(map(str, path)): np.float64(leaf[...]) for path, leaf in nnx.to_flat_state(state)}


def unmoved_by_padding(mixer: MixerBase, x: jax.Array, before: int = 0) -> None:
    """Hold the outputs of a text to what they are with padding after it, or before it too."""
    B, L, D = x.shape
    wide = jnp.full((B, L + before + 9, D), 5.0).at[:, before : before + L].set(x)
    mask = jnp.zeros(wide.shape[:2], bool).at[:, before : before + L].set(True)
    mix = jax.jit(partial(mixer, key=None), compiler_options=QUICK)
    np.testing.assert_allclose(mix(wide, mask)[:, before : before + L], mix(x, jnp.ones((B, L), bool)), atol=2e-5)
