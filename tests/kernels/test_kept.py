"""What attention after a sort or a choice keeps for the backward pass: what it gave, which is not computed again."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest
from draws import normal
from jax.ad_checkpoint import print_saved_residuals

from lra_bench.kernels.block_sort import sorted_attention
from lra_bench.kernels.lsh_attention import Chunks, lsh_attention
from lra_bench.kernels.routed_attention import routed_attention

MASK = jnp.ones((2, 12), bool)
PLACES = jnp.arange(12).reshape(3, 4) + jnp.zeros((2, 2, 1, 1), jnp.int32)


def sort(cut: bool) -> Callable[..., jax.Array]:
    P = jnp.full((2, 2, 3, 3), 1 / 3)
    return lambda q, k, v: sorted_attention(q, k, v, MASK.reshape(2, 3, 4), P, cut, "xla")


def bucketed(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    return lsh_attention(q, v, MASK, PLACES.reshape(2, 2, 1, 12) % 3, Chunks(4, length=12), "xla")


@pytest.mark.parametrize(
    "attend",
    [sort(cut=False), sort(cut=True), lambda q, k, v: routed_attention(q, k, v, PLACES, PLACES), bucketed],
    ids=["sorted", "cut", "routed", "bucketed"],
)
def test_what_attention_gave_is_kept(attend: Callable[..., jax.Array], capsys: pytest.CaptureFixture[str]) -> None:
    print_saved_residuals(attend, *(normal(2, 2, 12, 4, seed=seed) for seed in range(3)))
    kept = capsys.readouterr().out.splitlines()
    print(*kept, sep="\n")
    by_round = "output of scan"  # one round of hashing after another
    assert sum("named 'attended'" in line or by_round in line for line in kept) == 2, "the output and the logsumexp"
