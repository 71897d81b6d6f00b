"""Clustered attention: both forms by loops, on clusters found bit by bit."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Equation, Values, apply, compare, cut, draw, join, unmoved_by_padding

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.clustered import Config, Mixer

L = 41
X = normal(2, L, 8, seed=1)
MASK = jnp.asarray(np.stack([np.arange(L) < 37, np.arange(L) % 3 > 0]))


def make(**options: float | bool) -> Mixer:
    return draw(Mixer, Config(**({"clusters": 4, "bits": 12} | options)), Dims(8, 2, 4, L))  # type: ignore[arg-type]


def clusters(mixer: Mixer, q: np.ndarray) -> np.ndarray:
    """K-means of the signs, of the queries that are there."""
    planes, C = np.float64(mixer.planes[...]), mixer.clusters
    bits = q @ planes[:-1] + planes[-1] > 0
    centroids = bits[np.arange(C) * len(q) // C]
    for left in range(mixer.iterations, 0, -1):
        member = (bits[:, None] != centroids).sum(-1).argmin(1)
        for c in range(C) if left > 1 else ():
            if (member == c).any():
                centroids[c] = bits[member == c].mean(0) > 0.5
    return member


def written_out(mixer: Mixer) -> Equation:
    """Head by head and query by query; clusters and choice of keys are those of the text that is not moved."""
    W = np.float64(mixer.qkv[...])

    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        heads = []
        Q, K, V = np.split(x[mask] @ p["qkv"], 3, axis=-1)
        Q0, K0, _ = np.split(p["fixed"][mask] @ W, 3, axis=-1)
        for q, k, v, q0, k0 in zip(*map(cut, (Q, K, V, Q0, K0)), strict=True):
            member, y = clusters(mixer, q0), np.zeros_like(v)
            for i, c in enumerate(member):
                weights = np.exp(q[member == c].mean(0) @ k.T / 2)
                weights /= weights.sum()
                if mixer.top:
                    chosen = np.argsort(-(q0[member == c].mean(0) @ k0.T))[: mixer.top]
                    anew = np.exp(q[i] @ k[chosen].T / 2)
                    weights[chosen] = weights[chosen].sum() * anew / anew.sum()
                y[i] = weights @ v
            heads.append(y)
        y = np.zeros_like(x)
        y[mask] = join(heads) @ p["out"]
        return y

    return equation


@pytest.mark.parametrize("options", [{"improved": False}, {"top": 5}, {"top": 3, "iterations": 1}])
def test_the_equations(options: dict) -> None:
    mixer = make(**options)
    compare(mixer, written_out(mixer), X, MASK)


@pytest.mark.parametrize(("improved", "different"), [(False, 4), (True, 37)])
def test_only_improved_queries_differ_from_their_cluster(improved: bool, different: int) -> None:
    mixer = make(improved=improved, top=5)
    mixer.out[...] = jnp.eye(8)
    head = np.round(apply(mixer, X, MASK)[0, :37, :4], 5)
    assert len(np.unique(head, axis=0)) == different


def test_appending_padding_changes_nothing() -> None:
    unmoved_by_padding(make(top=5), X[:, :30])


@pytest.mark.parametrize("options", [{"clusters": 0}, {"bits": 0}, {"iterations": 0}, {"top": 0}])
def test_wrong_options(options: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        make(**options)
