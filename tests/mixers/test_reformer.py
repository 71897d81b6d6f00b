"""Reformer: the equations by loops, who sees whom, and what the hash is drawn from."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Equation, Values, apply, attention, compare, cut, draw, join, unmoved_by_padding, values

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.reformer import Config, Mixer, factors

L, TOKENS = 21, 17
X = normal(2, L, 8, seed=1)
MASK = jnp.asarray(np.stack([np.arange(L) < TOKENS, np.arange(L) % 3 > 0]))


def make(length: int = L, **options: int | bool) -> Mixer:
    return draw(Mixer, Config(**options), Dims(8, 2, 4, length))  # type: ignore[arg-type]


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


def written_out(config: Config) -> Equation:
    """Head by head and round by round."""

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        heads, tokens = [], list(np.flatnonzero(mask))
        for q, v, rotations in zip(*map(cut, np.split(x @ p["qv"], 2, axis=-1)), p["rotations"], strict=True):
            total = 0
            for turn in np.moveaxis(rotations, 1, 0):
                bucket = np.argmax(np.concatenate([q @ turn, -q @ turn], axis=1), axis=1)
                total = total + sums(q, bucket, tokens, config)
            heads.append(total @ v / np.maximum(total.sum(1, keepdims=True), 1e-300))
        return join(heads) @ p["out"]

    return equation


@pytest.mark.parametrize("before", [0, 1])
def test_the_causal_equations(before: int) -> None:
    """A token's bucket up to itself, and of that the latest (before + 1) chunks."""
    config = Config(chunk=3, buckets=4, before=before)

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        heads = []
        for q, v, rotations in zip(*map(cut, np.split(x @ p["qv"], 2, axis=-1)), p["rotations"], strict=True):
            total = np.zeros((len(x), len(x)))
            for turn in np.moveaxis(rotations, 1, 0):
                bucket = np.argmax(np.concatenate([q @ turn, -q @ turn], axis=1), axis=1)
                for i in np.flatnonzero(mask):
                    near = [j for j in range(i + 1) if mask[j] and bucket[j] == bucket[i]][-3 * (before + 1) :]
                    for j in near:
                        total[i, j] += np.exp(q[i] @ q[j] / np.linalg.norm(q[j])) * (1e-40 if j == i else 1)
            heads.append(total @ v / np.maximum(total.sum(1, keepdims=True), 1e-300))
        return join(heads) @ p["out"]

    compare(draw(Mixer, config, Dims(8, 2, 4, L, causal=True)), equation, X, MASK)


@pytest.mark.parametrize(
    "options",
    [
        {"buckets": 4, "across": False},
        {"buckets": 6, "rounds": 1, "after": 0, "across": False},
        {"rounds": 3, "before": 0},
    ],
)
def test_the_equations(options: dict) -> None:
    config = Config(chunk=5, **options)
    compare(draw(Mixer, config, Dims(8, 2, 4, L)), written_out(config), X, MASK)


def test_one_chunk_of_all_buckets_is_attention_with_one_vector_for_query_and_key() -> None:
    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        q, v = map(cut, np.split(x @ p["qv"], 2, axis=-1))
        k = q / np.linalg.norm(q, axis=-1, keepdims=True)
        return join(attention(2 * q, k, v, mask & ~np.eye(len(x), dtype=bool))) @ p["out"]

    compare(make(chunk=L, rounds=1), equation, X, MASK)


def test_a_round_ends_where_it_ends() -> None:
    """Rounds laid one behind the other would let the first chunk of one look into the last of another."""
    one, two = (make(chunk=5, rounds=rounds, buckets=4) for rounds in (1, 2))
    two.rotations[...] = jnp.asarray(np.asarray(one.rotations[...]).repeat(2, axis=2))
    two.qv[...], two.out[...] = one.qv[...], one.out[...]
    y, z = (np.where(MASK[..., None], apply(mixer, X, MASK), 0) for mixer in (one, two))
    np.testing.assert_allclose(y, z, atol=1e-5)


def test_a_token_without_others_sees_itself() -> None:
    mixer = make()
    y, p = apply(mixer, X, np.tile(np.arange(L) == 4, (2, 1)))[:, 4], values(mixer)
    np.testing.assert_allclose(y, X[:, 4] @ p["qv"][:, 8:] @ p["out"], atol=1e-5)


def test_appending_padding_changes_nothing() -> None:
    unmoved_by_padding(make(chunk=4), X[:, :12])


def test_rotations_are_drawn_anew_in_training_only() -> None:
    keys = jax.random.split(jax.random.key(1))
    mixers = make(chunk=4), make(chunk=4, redraw=False)
    drawn, kept = (jax.jit(lambda key, mixer=mixer: mixer(X, MASK, key=key)) for mixer in mixers)
    assert abs(drawn(keys[0]) - drawn(keys[1])).max() > 1e-3
    np.testing.assert_array_equal(drawn(keys[0]), drawn(keys[0]))
    np.testing.assert_allclose(kept(keys[0]), apply(make(chunk=4), X, MASK), atol=1e-6)


def test_hashing_does_not_grow_with_the_square_of_the_length() -> None:
    """128 buckets are 12 times 12, a few more: 12 directions, not 64."""
    assert factors(64) == (64,)
    assert factors(128) == (12, 12)
    assert all(n <= a * b <= 1.25 * n and a + b < 2.5 * n**0.5 for n in (66, 128, 256, 512) for a, b in [factors(n)])


@pytest.mark.parametrize("options", [{"chunk": 0}, {"rounds": 0}, {"buckets": 3}, {"before": -1}, {"after": -1}])
def test_wrong_options(options: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Config(**options)
