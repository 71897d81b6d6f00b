"""Attention over blocks against the same with all weights in memory: output, logsumexp, and the gradients of both."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import coins, normal, ragged, widened
from full import Full
from hypothesis import given, settings
from hypothesis import strategies as st

from lra_bench.kernels import block_attention as kernel
from lra_bench.kernels.block_attention import block_attention, block_attention_reference, joined
from lra_bench.kernels.patterns import Blocks, Pairs, Pattern, RandomBlocks, Window
from lra_bench.kernels.softmax_attention import softmax_attention_part, softmax_attention_reference

Parts = tuple[jax.Array, jax.Array]
Attend = Callable[..., Parts]
PATTERNS: tuple[Pattern, ...] = (
    Full(8),
    Blocks(7, before=2, after=1),
    Window(11, size=8),
    Window(400, size=16),
    Window(5, first=10, size=8),
)
patterns = pytest.mark.parametrize("pattern", PATTERNS, ids=str)
some = pytest.mark.parametrize("pattern", PATTERNS[::2], ids=str)


def arrays(mask: jax.Array, queries: int, dtype: type = jnp.float32, width: int = 6) -> tuple[jax.Array, ...]:
    """q, k, v, mask, and the cotangents of the output and of the logsumexp; values as wide as told."""
    (B, L), rng = mask.shape, np.random.default_rng(mask.shape[1])
    shapes = (queries, 4), (L, 4), (L, width), (queries, width)
    q, k, v, g = (normal(B, 2, *shape, seed=rng, dtype=dtype) for shape in shapes)
    return q, k, v, mask, g, normal(B, 2, queries, seed=rng)


@partial(jax.jit, static_argnums=0)
def values_and_gradients(
    attend: Attend, q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, g: jax.Array, g_sum: jax.Array
) -> tuple[jax.Array, ...]:
    parts, pull = jax.vjp(lambda q, k, v: attend(q, k, v, mask), q, k, v)
    return *parts, *pull((g, g_sum))


def compare(fast: Attend, plain: Attend, arguments: tuple[jax.Array, ...]) -> None:
    for a, b in zip(*(values_and_gradients(attend, *arguments) for attend in (fast, plain)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-4)


def pair(pattern: Pattern, **places: jax.Array) -> tuple[Attend, Attend]:
    return tuple(partial(f, pattern=pattern, **places) for f in (block_attention, block_attention_reference))  # type: ignore[return-value]


@patterns
@pytest.mark.parametrize("length", [1, 67])
def test_values_and_gradients(pattern: Pattern, length: int) -> None:
    compare(*pair(pattern), arrays(ragged(length, length, (length + 1) // 2, 0), length))


@pytest.mark.parametrize("some", [None, 2])
@pytest.mark.parametrize("pattern", [Window(11, size=8), Blocks(8), Pairs(8)], ids=str)
def test_rows_are_taken_one_by_one_or_some_together(
    pattern: Pattern, some: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 8 if some else 9  # another length each: what was traced with another room is not run again
    blocks = 2 * rows if isinstance(pattern, Pairs) else rows
    monkeypatch.setattr(kernel, "IN_CACHE", 4 * 8 * 8 * pattern.table(rows, blocks).size * (some or 1) // rows)
    compare(*pair(pattern), arrays(ragged(8 * blocks, 8 * blocks, 5 * blocks), 8 * rows))


@pytest.mark.parametrize(
    ("pattern", "queries", "length"),
    [
        (Full(8), 41, 7),
        (Full(8), 7, 41),
        (Window(3, first=2, size=8), 41, 7),
        (Window(9, nearest=2, size=8), 7, 41),
        (RandomBlocks(8, near=0, random=2, blocks=5, last=2), 33, 7 * 8),
        (Pairs(8), 5 * 8, 2 * 5 * 8),
        (Pairs(8), 12, 24),
    ],
    ids=str,
)
def test_as_many_queries_as_one_likes(pattern: Pattern, queries: int, length: int) -> None:
    compare(*pair(pattern), arrays(ragged(length, length, 1), queries))


@some
@settings(max_examples=20, deadline=None)
@given(mask=st.lists(st.booleans(), min_size=19, max_size=19))
def test_any_mask(pattern: Pattern, mask: list[bool]) -> None:
    compare(*ANY[pattern], arrays(jnp.array([mask]), 19))


ANY = {pattern: pair(pattern) for pattern in PATTERNS}  # made once: what is jitted is told apart by identity


@pytest.mark.parametrize("pattern", [Window(6, size=8), Window(3, first=4, size=8)], ids=str)
def test_places_after_a_sort(pattern: Pattern) -> None:
    """The table goes by where tokens stand, the bias by the places that they came from, other ones in each row."""
    rng = np.random.default_rng(0)
    i, j = (jnp.asarray(np.stack([rng.permutation(37) for _ in range(2)])) for _ in "ij")
    compare(*pair(pattern, i=i, j=j), arrays(ragged(37, 37, 20), 37))


@some
def test_large_scores_stay_finite(pattern: Pattern) -> None:
    q, k, v, mask, *g = arrays(ragged(33, 33, 9, 0), 33)
    for values in values_and_gradients(pair(pattern)[0], 100 * q, k, v, mask, *g):
        assert jnp.isfinite(values).all()


@some
def test_a_row_without_a_key_is_zero(pattern: Pattern) -> None:
    q, k, v, mask, *_ = arrays(ragged(20, 20, 0), 20)
    out, logsumexp = jax.jit(block_attention, static_argnums=4)(q, k, v, mask, pattern)
    assert not out[1].any()
    assert (logsumexp[1] < -1e29).all()


@some
def test_bfloat16(pattern: Pattern) -> None:
    half = arrays(ragged(40, 40, 15), 40, jnp.bfloat16)
    full = widened(half)
    fast, plain = pair(pattern)
    values = zip(values_and_gradients(fast, *half), values_and_gradients(plain, *full), strict=True)
    for n, (a, b) in enumerate(values):
        assert a.dtype == (jnp.float32 if n == 1 else jnp.bfloat16)  # the logsumexp is a statistic
        np.testing.assert_allclose(np.float32(a), b, atol=0.05 * float(abs(b).max()))


def test_a_part_of_softmax_attention() -> None:
    """The online softmax and its logsumexp; lengths beside its blocks of 256 queries and 512 keys."""
    arguments = arrays(ragged(530, 530, 300, 0), 270)
    compare(softmax_attention_part, pair(Full())[1], arguments)


def test_parts_are_joined_into_one_softmax() -> None:
    """Each key in one of two sets, one of them empty for some queries: values and gradients as of one softmax."""
    mask = ragged(50, 50, 30)
    near = jnp.asarray(np.stack([coins(50, chance=0.4), np.zeros(50, bool)]))

    def both(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> Parts:
        parts = block_attention(q, k, v, mask & near, Full(8)), softmax_attention_part(q, k, v, mask & ~near)
        return joined(parts), jnp.zeros(q.shape[:3])

    def one(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> Parts:
        return softmax_attention_reference(q, k, v, mask), jnp.zeros(q.shape[:3])

    compare(both, one, arrays(mask, 50))


def test_joined_without_any_key_is_zero() -> None:
    q, k, v, mask, *_ = arrays(ragged(9, 0), 9)
    parts = lambda *qkvm: [softmax_attention_part(*qkvm), block_attention(*qkvm, Window(2))]  # noqa: E731
    assert not jax.jit(lambda *qkvm: joined(parts(*qkvm)))(q, k, v, mask).any()


def test_what_the_table_leaves_out_is_not_seen() -> None:
    """`table` and `bias` both hide; the reference asks both, so a table that is too short would go unnoticed."""
    i, j = np.indices((100, 100))
    ones = jnp.ones((1, 1, 100, 4))
    for pattern in (Window(20, size=8), Window(3, first=9, size=8)):
        value = jnp.eye(100)[None, None]
        run = jax.jit(block_attention, static_argnums=4)
        seen = np.asarray(run(ones, ones, value, jnp.ones((1, 100), bool), pattern)[0])[0, 0] > 0
        np.testing.assert_array_equal(seen, (abs(i - j) <= pattern.width) | (j < pattern.first))


@pytest.mark.parametrize("pattern", [Full(), Blocks(64, 1, 1), Window(128, first=1)], ids=str)
def test_memory_is_linear(pattern: Pattern) -> None:
    def temporary(length: int) -> int:
        q = jax.ShapeDtypeStruct((1, 1, length, 64), jnp.float32)
        mask = jax.ShapeDtypeStruct((1, length), jnp.bool_)
        gradient = jax.grad(lambda q, k, v, m: block_attention(q, k, v, m, pattern)[0].sum(), argnums=(0, 1, 2))
        return jax.jit(gradient).lower(q, q, q, mask).compile().memory_analysis().temp_size_in_bytes

    assert temporary(4096) < 2.2 * temporary(2048)
