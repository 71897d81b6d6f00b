"""ETC: a memory that looks first, labels for the pairs of all four pieces, one softmax for each side."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Equation, Values, apply, compare, cut, draw, join, layer_norm, seen, softmax

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.etc import Config, Mixer

L = 14


def make(radius: int, tokens: int, distance: int, length: int = L) -> Mixer:
    return draw(Mixer, Config(radius=radius, tokens=tokens, distance=distance), Dims(8, 2, 4, length))


def written_out(mixer: Mixer) -> Equation:
    """With all weights in memory: every key with the vector of its label."""

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        text = by_heads(p, x)
        if mixer.tokens == 0:
            return look(p, text[0], [(*text[1:], mask)], p["near"], mixer.radius, None)
        z = p["memory"]
        memory, there = by_heads(p, z), np.ones(len(z), bool)
        pieces = [(*memory[1:], there), (*text[1:], mask)]
        read = look(p, memory[0], pieces, p["among"], len(z), p["across"][0])
        _, k, v = by_heads(p, layer_norm(z + read, p["norm.scale"], p["norm.bias"]))
        return look(p, text[0], [(*text[1:], mask), (k, v, there)], p["near"], mixer.radius, p["across"][1])

    return equation


def by_heads(p: Values, x: np.ndarray) -> list[np.ndarray]:
    return [cut(part) for part in np.split(x @ p["qkv"], 3, axis=-1)]


def look(p, q, pieces, vectors, radius, across):  # type: ignore[no-untyped-def]
    """One side: its own piece by distance, the other by one vector, in one softmax."""
    (k, v, there), *other = pieces
    i, j = np.indices((q.shape[1], k.shape[1]))
    far = vectors.shape[1] // 2
    scores = np.einsum("hik,hijk->hij", q, k[:, None] + vectors[:, np.clip(j - i, -far, far) + far])
    seen = there & (abs(i - j) <= radius)
    for k_other, v_other, there_other in other:
        scores = np.concatenate([scores, q @ (k_other + across[:, None]).swapaxes(1, 2)], axis=2)
        seen = np.concatenate([seen, np.tile(there_other, (len(i), 1))], axis=1)
        v = np.concatenate([v, v_other], axis=1)
    return join(softmax(scores / 2, seen) @ v) @ p["out"]


@pytest.mark.parametrize(("radius", "tokens", "distance"), [(3, 2, 2), (5, 0, 5), (2, 4, 0), (30, 1, 3)])
def test_the_equation(radius: int, tokens: int, distance: int) -> None:
    mixer = make(radius, tokens, distance)
    compare(mixer, written_out(mixer), normal(2, L, 8), jnp.asarray(np.arange(L) < np.array([[L], [8]])))


def test_who_sees_whom() -> None:
    """Without memory a token sees to its radius; with it everything that is there, in one layer."""
    i, j = np.indices((140, 150))
    for tokens, expected in ((0, (abs(i - j) <= 5) & (j < 140)), (1, j < 140)):
        found = seen(make(5, tokens, 2, 150), np.arange(150) < 140)
        np.testing.assert_array_equal(found[:140], expected)


def test_order_is_seen() -> None:
    """Without positions in x: turned round, a text gives other vectors, turned round, only because of the labels."""
    mixer, mask = make(5, 2, 2), jnp.ones((2, L), bool)
    x = np.asarray(normal(L, 8))
    both = jnp.asarray(np.stack([x, x[::-1]]))
    y, turned = np.asarray(apply(mixer, both, mask))
    assert abs(y - turned[::-1]).max() > 0.01
    mixer.near[...] = jnp.zeros(mixer.near.shape)
    y, turned = np.asarray(apply(mixer, both, mask))
    np.testing.assert_allclose(y, turned[::-1], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"radius": 0}, "radius"),
        ({"tokens": -1}, "tokens"),
        ({"distance": -1}, "distance"),
        ({"radius": 9}, "distance"),
    ],
)
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)
