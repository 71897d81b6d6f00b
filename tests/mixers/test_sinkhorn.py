"""Sparse Sinkhorn attention: the equations by loops, who sees whom, and noise in training only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Equation, Values, apply, compare, cut, draw, join, pulled, seen, unmoved_by_padding
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.sinkhorn import Config, Mixer

L, SIZE, N = 21, 5, 5
X = 0.3 * normal(2, L, 8, seed=1)
PLACES = np.arange(L)
MASK = jnp.asarray(np.stack([PLACES < 17, (PLACES > 5) & (PLACES % 3 > 0)]))  # the second begins with padding


def make(*, causal: bool = False, **options: float) -> Mixer:
    return draw(Mixer, Config(block=SIZE, **options), Dims(8, 2, 4, L, causal=causal))  # type: ignore[arg-type]


def permutation(p: Values, config: Config, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """P of each head, of the blocks that are there."""
    total = np.stack([(x * mask[:, None])[SIZE * b : SIZE * (b + 1)].sum(0) for b in range(N)])
    for layer in ("pooled", "places"):
        total = np.maximum(total @ p[f"{layer}.kernel"] + p[f"{layer}.bias"], 0)
    there = np.array([mask[SIZE * b : SIZE * (b + 1)].any() for b in range(N)])
    P = np.exp(cut(total) / config.temperature) * there * there[:, None]
    for _ in range(config.iterations):
        for axis in (2, 1):
            P = P / np.maximum(P.sum(axis, keepdims=True), 1e-300)
    return P


def looking_back(p: Values, config: Config, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """P of each head, row by row: of the blocks before each, from the tokens up to its first."""
    x = x * mask[:, None]
    total = np.stack([x[: SIZE * b + 1].sum(0) for b in range(N)])
    for layer in ("pooled", "places"):
        total = np.maximum(total @ p[f"{layer}.kernel"] + p[f"{layer}.bias"], 0)
    there = np.array([mask[SIZE * b : SIZE * (b + 1)].any() for b in range(N)])
    P = np.exp(cut(total) / config.temperature) * there * there[:, None] * np.tri(N, k=-1)
    for _ in range(config.iterations):
        P = P / np.maximum(P.sum(2, keepdims=True), 1e-300)
        P = np.stack([P[:, b] / np.maximum(P[:, : b + 1].sum(1), 1e-300) for b in range(N)], axis=1)
    return P


def written_out(config: Config, *, causal: bool = False) -> Equation:
    """Head by head and token by token."""

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        P = (looking_back if causal else permutation)(p, config, x, mask)
        parts = (*map(cut, np.split(x @ p["qkv"], 3, axis=-1)), P)
        return join([head(config, causal, mask, *part) for part in zip(*parts, strict=True)]) @ p["out"]

    return equation


def head(
    config: Config, causal: bool, mask: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, P: np.ndarray
) -> np.ndarray:
    y, first = np.zeros_like(v), [b for b in range(N) if P[b].any()][: config.cut]
    moved = [sorted_block(mask, k, v, P[b]) for b in range(N)]
    for i in range(len(q)):
        own = [j for j in range(len(q)) if mask[j] and j // SIZE == i // SIZE and (j <= i or not causal)]
        seen = [] if config.cut else [(k[j], v[j], 1.0) for j in own]
        for block in first if config.cut else [i // SIZE]:
            seen.extend(moved[block])
        weights = np.array([share * np.exp(q[i] @ key / 2) for key, _, share in seen])
        if len(weights):
            y[i] = weights @ np.stack([value for _, value, _ in seen]) / weights.sum()
    return y


def sorted_block(mask: np.ndarray, k: np.ndarray, v: np.ndarray, shares: np.ndarray) -> list[tuple]:
    """Key, value and mass of each place, mixed from that place in all blocks."""
    found = []
    for t in range(SIZE):
        parts = [(shares[b], SIZE * b + t) for b in range(N) if SIZE * b + t < len(k)]
        parts = [(share, j) for share, j in parts if mask[j] and share > 0]
        total = sum(share for share, _ in parts)
        if total > 1e-6:
            found.append((*(sum(share * part[j] for share, j in parts) / total for part in (k, v)), total))
    return found


@pytest.mark.parametrize("sort_cut", [0, 2])
def test_the_equations(sort_cut: int) -> None:
    config = Config(block=SIZE, cut=sort_cut)
    compare(make(cut=sort_cut), written_out(config), X, MASK)


def test_the_causal_equations() -> None:
    compare(make(causal=True), written_out(Config(block=SIZE), causal=True), X, MASK)


def test_the_permutation_decides_who_sees_whom() -> None:
    """Block b is sorted to the place of b - 1: its tokens see their own block, and the one behind it."""
    mixer = make()
    mixer.permutation = lambda *_: jnp.roll(jnp.eye(N), -1, axis=0)[None, None].repeat(2, 1)  # type: ignore[method-assign]
    i, j = np.indices((L, L)) // SIZE
    np.testing.assert_array_equal(seen(mixer, np.ones(L, bool)), (j == i) | (j == (i + 1) % N))


def test_the_network_learns_to_sort() -> None:
    """In LRA its gradient was a millionth of the others'."""
    mixer = Mixer(Config(block=SIZE), Dims(8, 2, 4, L), rngs=nnx.Rngs(0))
    _, slopes = pulled(mixer, X, MASK, np.asarray(normal(2, L, 8)))
    size = [np.linalg.norm(slopes[name]) for name in ("pooled.kernel", "places.kernel")]
    assert min(size) > 0.01 * np.linalg.norm(slopes["qkv"])


def test_appending_padding_changes_nothing() -> None:
    unmoved_by_padding(make(), X[:, :12])


def test_noise_in_training_only() -> None:
    mixer = make()
    noisy = jax.jit(lambda key: mixer(X, MASK, key=key))
    a, b, c = noisy(jax.random.key(1)), noisy(jax.random.key(2)), apply(mixer, X, MASK)
    assert min(float(abs(a - b).max()), float(abs(a - c).max())) > 1e-3
    np.testing.assert_array_equal(noisy(jax.random.key(1)), a)


@pytest.mark.parametrize("options", [{"iterations": 0}, {"temperature": 0.0}, {"cut": -1}])
def test_wrong_options(options: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        make(**options)


def test_what_is_cut_may_stand_anywhere() -> None:
    with pytest.raises(ConfigError, match="cut"):
        make(causal=True, cut=2)
