"""What the mixers' tests compare with: a mixer against its paper's equation, values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lra_bench.mixers.base import MixerBase

QUICK = {"xla_backend_optimization_level": "1"}  # half the time to compile


def ragged(length: int, width: int = 8) -> tuple[jax.Array, jax.Array]:
    """Four texts: full, ending early, with holes, and without any token."""
    x = jax.random.normal(jax.random.key(1), (4, length, width))
    full = jnp.ones(length, bool)
    holes = jax.random.bernoulli(jax.random.key(2), 0.6, (length,))
    return x, jnp.stack([full, jnp.arange(length) < length // 2, holes, ~full])


def compare(mixer: MixerBase, equation: Callable[[Any, jax.Array, jax.Array], jax.Array], length: int) -> None:
    """`mixer` against `equation(mixer, x, mask)` of one text: outputs of true tokens, gradients of x and parameters."""
    x, mask = ragged(length)
    g = jax.random.normal(jax.random.key(3), x.shape) * mask[..., None]
    graph, params, rest = nnx.split(mixer, nnx.Param, ...)

    def both(run: Callable[[Any, jax.Array], jax.Array]) -> Any:
        def loss(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            y = jnp.where(mask[..., None], run(nnx.merge(graph, params, rest, copy=True), x), 0)
            return (y * g).sum(), y

        pull = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        return jax.jit(pull, compiler_options=QUICK)(params, x)

    ours = both(lambda mixer, x: mixer(x, mask, key=None))
    plain = both(lambda mixer, x: jax.vmap(lambda x, mask: equation(mixer, x, mask))(x, mask))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4)


def match(by_hand: Callable[[Any, jax.Array, np.ndarray], jax.Array], mixer: MixerBase, mask: jax.Array) -> None:
    """Output and gradients, of x and of every parameter, against the form written by hand."""
    x, g = jax.random.normal(jax.random.key(1), (2, *mask.shape, 8))
    graph, params = nnx.split(mixer)

    def pulled(form: Callable[[Any, jax.Array], jax.Array]) -> tuple:
        def loss(params: nnx.State, x: jax.Array) -> tuple[jax.Array, jax.Array]:
            y = form(nnx.merge(graph, params, copy=True), x) * mask[..., None]
            return (y * g).sum(), y

        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True), compiler_options=QUICK)(params, x)

    fast = pulled(lambda m, x: m(x, mask, key=None))
    plain = pulled(lambda m, x: jnp.stack([by_hand(m, *row) for row in zip(x, np.asarray(mask), strict=True)]))
    for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def attention(q: jax.Array, k: jax.Array, v: jax.Array, seen: jax.Array, bias: Any = 0.0) -> jax.Array:
    """softmax(q k^T / sqrt K + bias) v for one head, over the keys that are seen; 0 where none is."""
    weights = jnp.where(seen, jnp.exp(q @ k.T * q.shape[-1] ** -0.5 + bias), 0)
    total = weights.sum(1, keepdims=True)
    return weights / jnp.where(total > 0, total, 1) @ v


def heads(x: jax.Array, w: jax.Array, count: int = 2) -> list[jax.Array]:
    """x W, head by head."""
    return jnp.split(x @ w, count, axis=1)


def norm(x: jax.Array, layer: Any) -> jax.Array:
    """LayerNorm, as it is defined."""
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6) * layer.scale[...] + layer.bias[...]
