"""Reformer: the equations by loops, who sees whom, and what the hash is drawn from."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.reformer import Config, Mixer, factors

L, TOKENS = 21, 17
MASK = jnp.stack([jnp.arange(L) < TOKENS, jnp.arange(L) % 3 > 0])


def make(length: int = L, **knobs: int | bool) -> Mixer:
    return Mixer(Config(**knobs), Dims(8, 2, 4, length), rngs=nnx.Rngs(0))  # type: ignore[arg-type]


def texts(length: int = L) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (2, length, 8))


def run(mixer: Mixer, x: jax.Array, mask: jax.Array = MASK, key: jax.Array | None = None) -> jax.Array:
    return jax.jit(lambda x: mixer(x, mask, key=key))(x)


def sums(q: np.ndarray, bucket: np.ndarray, tokens: list[int], config: Config) -> np.ndarray:
    """exp(q_i . k_j) of the keys that each token meets in one round, and is not itself unless alone."""
    order = sorted(tokens, key=lambda token: (bucket[token], token))
    chunk = {token: rank // config.chunk for rank, token in enumerate(order)}
    weights = np.zeros((len(q), len(q)))
    for i in tokens:
        near = [j for j in tokens if -config.before <= chunk[j] - chunk[i] <= config.after]
        near = [j for j in near if config.across or bucket[j] == bucket[i]]
        for j in [j for j in near if j != i] or [i]:
            weights[i, j] = np.exp(q[i] @ q[j] / np.linalg.norm(q[j])) * (1e-40 if j == i else 1)
    return weights


def by_hand(mixer: Mixer, config: Config, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """One text, head by head and round by round."""
    heads = []
    Q, V = np.split(np.float64(x) @ np.float64(mixer.qv[...]), 2, axis=-1)
    for h in range(2):
        q, v = (part[:, 4 * h : 4 * h + 4] for part in (Q, V))
        total = 0
        for turn in np.moveaxis(np.float64(mixer.rotations[...][h]), 1, 0):
            bucket = np.argmax(np.concatenate([q @ turn, -q @ turn], axis=1), axis=1)
            total = total + sums(q, bucket, list(np.flatnonzero(mask)), config)
        heads.append(total @ v / np.maximum(total.sum(1, keepdims=True), 1e-300))
    return np.concatenate(heads, axis=1) @ np.float64(mixer.out[...])


@pytest.mark.parametrize(
    "knobs", [{"buckets": 4}, {"buckets": 6, "rounds": 1, "after": 0}, {"rounds": 3, "across": True, "before": 0}]
)
def test_the_equations(knobs: dict) -> None:
    config = Config(chunk=5, **knobs)
    mixer, x = Mixer(config, Dims(8, 2, 4, L), rngs=nnx.Rngs(0)), texts()
    g = jax.random.normal(jax.random.key(2), x.shape) * MASK[..., None]
    y, pull = jax.vjp(lambda x: run(mixer, x), x)
    back = pull(g)[0]
    step = 1e-5 * np.asarray(jax.random.normal(jax.random.key(3), x.shape), np.float64)
    for row in range(2):
        mask = np.asarray(MASK[row])
        exact, more, less = (by_hand(mixer, config, np.float64(x[row]) + s * step[row], mask) for s in (0, 1, -1))
        np.testing.assert_allclose(y[row][mask], exact[mask], atol=1e-5)
        slope = ((more - less) * np.float64(g[row])).sum() / 2
        np.testing.assert_allclose((np.float64(back[row]) * step[row]).sum(), slope, rtol=1e-3, atol=1e-9)


def test_one_chunk_of_all_buckets_is_attention_with_one_vector_for_query_and_key() -> None:
    mixer, x = make(chunk=L, rounds=1, across=True), texts()
    y = run(mixer, x)[0]
    Q, V = np.split(np.float64(x[0, :TOKENS]) @ np.float64(mixer.qv[...]), 2, axis=-1)
    heads = []
    for q, v in zip(np.split(Q, 2, axis=1), np.split(V, 2, axis=1), strict=True):
        weights = np.exp(q @ (q / np.linalg.norm(q, axis=1, keepdims=True)).T) * (1 - np.eye(TOKENS))
        heads.append(weights / weights.sum(1, keepdims=True) @ v)
    np.testing.assert_allclose(y[:TOKENS], np.concatenate(heads, axis=1) @ np.float64(mixer.out[...]), atol=1e-5)


def test_a_round_ends_where_it_ends() -> None:
    """Rounds laid one behind the other would let the first chunk of one look into the last of another."""
    one, two = (make(chunk=5, rounds=rounds, buckets=4) for rounds in (1, 2))
    two.rotations[...] = jnp.repeat(one.rotations[...], 2, axis=2)
    two.qv[...], two.out[...] = one.qv[...], one.out[...]
    y, z = (jnp.where(MASK[..., None], run(mixer, texts()), 0) for mixer in (one, two))
    np.testing.assert_allclose(y, z, atol=1e-5)


def test_a_token_without_others_sees_itself() -> None:
    mixer, x = make(), texts()
    y = run(mixer, x, (jnp.arange(L) == 4)[None].repeat(2, 0))[:, 4]
    np.testing.assert_allclose(y, x[:, 4] @ mixer.qv[...][:, 8:] @ mixer.out[...], atol=1e-5)


def test_appending_padding_changes_nothing() -> None:
    mixer, x = make(chunk=4), texts()
    short = run(mixer, x[:, :TOKENS], jnp.ones((2, TOKENS), bool))
    long = run(mixer, x, (jnp.arange(L) < TOKENS)[None].repeat(2, 0))
    np.testing.assert_allclose(long[:, :TOKENS], short, atol=1e-5)


def test_rotations_are_drawn_anew_in_training_only() -> None:
    x, keys = texts(), jax.random.split(jax.random.key(1))
    mixers = make(chunk=4), make(chunk=4, redraw=False)
    drawn, kept = (jax.jit(lambda key, mixer=mixer: mixer(x, MASK, key=key)) for mixer in mixers)
    assert abs(drawn(keys[0]) - drawn(keys[1])).max() > 1e-3
    np.testing.assert_array_equal(drawn(keys[0]), drawn(keys[0]))
    np.testing.assert_allclose(kept(keys[0]), run(make(chunk=4), x), atol=1e-6)


def test_hashing_does_not_grow_with_the_square_of_the_length() -> None:
    """128 buckets are 12 times 12, a few more: 12 directions, not 64."""
    assert factors(64) == (64,)
    assert factors(128) == (12, 12)
    assert all(n <= a * b <= 1.25 * n and a + b < 2.5 * n**0.5 for n in (66, 128, 256, 512) for a, b in [factors(n)])


@pytest.mark.parametrize("knobs", [{"chunk": 0}, {"rounds": 0}, {"buckets": 3}, {"before": -1}, {"after": -1}])
def test_wrong_knobs(knobs: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(knobs))):
        Config(**knobs)
