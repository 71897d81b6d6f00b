"""Sparse Sinkhorn attention: the equations by loops, who sees whom, and noise in training only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.sinkhorn import Config, Mixer

L, SIZE, N = 21, 5, 5
MASK = jnp.stack([jnp.arange(L) < 17, (jnp.arange(L) > 5) & (jnp.arange(L) % 3 > 0)])  # the second begins with padding


def make(**knobs: float) -> Mixer:
    return Mixer(Config(block=SIZE, **knobs), Dims(8, 2, 4, L), rngs=nnx.Rngs(0))  # type: ignore[arg-type]


def texts() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (2, L, 8))


def run(mixer: Mixer, x: jax.Array, mask: jax.Array = MASK, key: jax.Array | None = None) -> jax.Array:
    return jax.jit(lambda x: mixer(x, mask, key=key))(x)


def permutation(mixer: Mixer, x: np.ndarray, mask: np.ndarray, head: int) -> np.ndarray:
    """P of one head, of the blocks that are there."""
    relu = lambda x: np.maximum(x, 0)  # noqa: E731
    total = np.stack([(x * mask[:, None])[SIZE * b : SIZE * (b + 1)].sum(0) for b in range(N)])
    for layer in (mixer.pooled, mixer.places):
        total = relu(total @ np.float64(layer.kernel[...]) + np.float64(layer.bias[...]))
    there = np.array([mask[SIZE * b : SIZE * (b + 1)].any() for b in range(N)])
    P = np.exp(total[:, N * head : N * (head + 1)] / mixer.config.temperature) * there * there[:, None]
    for _ in range(mixer.config.iterations):
        for axis in (1, 0):
            P = P / np.maximum(P.sum(axis, keepdims=True), 1e-300)
    return P


def by_hand(mixer: Mixer, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """One text, head by head and token by token."""
    heads, cut = [], mixer.config.cut
    Q, K, V = np.split(np.float64(x) @ np.float64(mixer.qkv[...]), 3, axis=-1)
    for h in range(2):
        q, k, v = (part[:, 4 * h : 4 * h + 4] for part in (Q, K, V))
        P, y = permutation(mixer, np.float64(x), mask, h), np.zeros_like(v)
        first = [b for b in range(N) if P[b].any()][:cut]
        for i in range(len(x)):
            seen = [] if cut else [(k[j], v[j], 1.0) for j in range(len(x)) if mask[j] and j // SIZE == i // SIZE]
            for block in first if cut else [i // SIZE]:
                for t in range(SIZE):
                    parts = [(P[block, b], SIZE * b + t) for b in range(N) if SIZE * b + t < len(x)]
                    parts = [(share, j) for share, j in parts if mask[j] and share > 0]
                    total = sum(share for share, _ in parts)
                    if total > 1e-6:
                        mean = (sum(share * part[j] for share, j in parts) / total for part in (k, v))
                        seen.append((*mean, total))
            weights = np.array([share * np.exp(q[i] @ key / 2) for key, _, share in seen])
            if len(weights):
                y[i] = weights @ np.stack([value for _, value, _ in seen]) / weights.sum()
        heads.append(y)
    return np.concatenate(heads, axis=1) @ np.float64(mixer.out[...])


@pytest.mark.parametrize("cut", [0, 2])
def test_the_equations(cut: int) -> None:
    mixer, x = make(cut=cut), 0.3 * texts()
    g = jax.random.normal(jax.random.key(2), x.shape) * MASK[..., None]
    y, pull = jax.vjp(lambda x: run(mixer, x), x)
    step, back = 1e-5 * np.asarray(jax.random.normal(jax.random.key(3), x.shape), np.float64), pull(g)[0]
    for row, mask in enumerate(np.asarray(MASK)):
        exact, more, less = (by_hand(mixer, np.float64(x[row]) + s * step[row], mask) for s in (0, 1, -1))
        np.testing.assert_allclose(y[row][mask], exact[mask], atol=1e-5)
        slope = ((more - less) * np.float64(g[row])).sum() / 2
        np.testing.assert_allclose((np.float64(back[row]) * step[row]).sum(), slope, rtol=1e-3, atol=1e-9)


def test_the_permutation_decides_who_sees_whom() -> None:
    """Block b is sorted to the place of b - 1: its tokens see their own block, and the one behind it."""
    mixer, mask = make(), jnp.ones((1, L), bool)
    mixer.permutation = lambda *_: jnp.roll(jnp.eye(N), -1, axis=0)[None, None].repeat(2, 1)  # type: ignore[method-assign]
    depends = jax.jit(jax.jacrev(lambda x: mixer(x[None], mask, key=None)[0].sum(-1)))(texts()[0])
    i, j = np.indices((L, L)) // SIZE
    np.testing.assert_array_equal(abs(depends).max(-1) > 0, (j == i) | (j == (i + 1) % N))


def test_the_network_learns_to_sort() -> None:
    """In LRA its gradient was a millionth of the others'."""
    mixer = make()
    graph, params, rest = nnx.split(mixer, nnx.Param, ...)
    g = jax.random.normal(jax.random.key(2), (2, L, 8))
    loss = lambda params: (nnx.merge(graph, params, rest)(0.3 * texts(), MASK, key=None) * g).sum()  # noqa: E731
    slopes = jax.jit(jax.grad(loss))(params)
    size = {name: float(jnp.linalg.norm(slopes[name]["kernel"][...])) for name in ("pooled", "places")}
    assert min(size.values()) > 0.01 * float(jnp.linalg.norm(slopes["qkv"][...]))


def test_appending_padding_changes_nothing() -> None:
    mixer, x = make(), texts()
    short = run(mixer, x[:, :12], jnp.ones((2, 12), bool))
    np.testing.assert_allclose(run(mixer, x, (jnp.arange(L) < 12)[None].repeat(2, 0))[:, :12], short, atol=1e-5)


def test_noise_in_training_only() -> None:
    mixer, x = make(), texts()
    noisy = jax.jit(lambda key: mixer(x, MASK, key=key))
    a, b, c = noisy(jax.random.key(1)), noisy(jax.random.key(2)), run(mixer, x)
    assert min(float(abs(a - b).max()), float(abs(a - c).max())) > 1e-3
    np.testing.assert_array_equal(noisy(jax.random.key(1)), a)


@pytest.mark.parametrize("knobs", [{"iterations": 0}, {"temperature": 0.0}, {"cut": -1}])
def test_wrong_knobs(knobs: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(knobs))):
        make(**knobs)
