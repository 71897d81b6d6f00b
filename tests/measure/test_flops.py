"""Operations counted from the jaxpr, against numbers worked out by hand."""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.extend import core

from lra_bench.errors import LraError
from lra_bench.kernels.block_attention import block_attention
from lra_bench.kernels.block_states_mosaic import Weights, walk
from lra_bench.kernels.patterns import Blocks
from lra_bench.measure.flops import ARITHMETIC, EATING, PRODUCTS, SCATTERING, WINDOWED, flops

a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
PRODUCT = 2 * 3 * 5 * 7


def count(f, *arguments) -> float:
    return flops(jax.make_jaxpr(f)(*arguments))


def test_products() -> None:
    assert count(jnp.matmul, a, b) == PRODUCT
    assert count(jax.jit(jnp.matmul), a, b) == PRODUCT
    assert count(lambda x, y: jnp.einsum("nij,njk->nik", x, y), jnp.ones((4, 3, 5)), jnp.ones((4, 5, 7))) == 4 * PRODUCT
    wide = lambda x, k: lax.conv_general_dilated(x, k, (1,), "SAME")  # noqa: E731
    assert count(wide, jnp.ones((1, 3, 8)), jnp.ones((5, 3, 3))) == 2 * 8 * 5 * 3 * 3
    depthwise = lambda x, k: lax.conv_general_dilated(x, k, (1,), "SAME", feature_group_count=3)  # noqa: E731
    assert count(depthwise, jnp.ones((1, 3, 8)), jnp.ones((3, 1, 5))) == 2 * 8 * 3 * 5


def test_elements() -> None:
    assert count(lambda x: jnp.exp(x) * 2 + x, a) == 3 * 15
    assert count(lambda x: x.sum(), a) == 15
    assert count(lambda x: x.reshape(5, 3).T[:, :2], a) == 0
    assert count(lambda x: x + 1, jnp.arange(9)) == 0
    assert count(lambda x: x + 1, jnp.ones(9, jnp.bfloat16)) == 9
    assert count(jnp.fft.fft, jnp.ones(8)) == 5 * 8 * 3
    assert count(jnp.sort, jnp.ones(8)) == 8 * 3


ROWS, NEW = jnp.array([1, 1]), jnp.ones((2, 5))  # updates of a scatter into [3, 5]
z = a.astype(jnp.complex64)
windows = {"window_dimensions": (2, 2), "window_strides": (1, 1), "padding": "VALID"}  # of [3, 5]: [2, 4] of four each
either = lambda p, q: jnp.exp(p) * q  # noqa: E731 - two operations


@pytest.mark.parametrize(
    ("primitive", "function", "work"),
    [
        ("scatter-add", lambda: a.at[ROWS].add(NEW), 10),
        ("scatter-sub", lambda: a.at[ROWS].subtract(NEW), 10),
        ("scatter-mul", lambda: a.at[ROWS].multiply(NEW), 10),
        ("scatter-min", lambda: a.at[ROWS].min(NEW), 10),
        ("scatter-max", lambda: a.at[ROWS].max(NEW), 10),
        ("scatter-add", lambda: z.at[ROWS].add(NEW), 2 * 10),
        ("scatter", lambda: a.at[ROWS].set(NEW), 0),
        ("top_k", lambda: lax.top_k(a, 4), 15 * 2),
        ("reduce_window_sum", lambda: lax.reduce_window(a, 0.0, lax.add, **windows), 8 * 4),
        ("reduce_window_max", lambda: lax.reduce_window(a, -jnp.inf, lax.max, **windows), 8 * 4),
        ("reduce_window_min", lambda: lax.reduce_window(a, jnp.inf, lax.min, **windows), 8 * 4),
        ("reduce_window", lambda: lax.reduce_window(a, 1.0, either, **windows), 2 * 8 * 4),
        ("reduce", lambda: lax.reduce(a, 1.0, either, (0,)), 2 * 15),
        ("reduce_sum", lambda: lax.reduce_sum_p.bind(a, axes=(0,), out_sharding=None), 15),
        ("reduce_sum", lambda: lax.reduce_sum_p.bind(z, axes=(0,), out_sharding=None), 2 * 15),
        ("reduce_prod", lambda: lax.reduce(z, 1.0 + 0j, lax.mul, (0,)), 6 * 15),
        ("argmax", lambda: lax.argmax(a, 0, jnp.int32), 15),
        ("argmax", lambda: lax.argmax(a.astype(int), 0, jnp.int32), 0),
        ("cumsum", lambda: lax.cumsum(a), 15),
        ("cumprod", lambda: lax.cumprod(z), 6 * 15),
        ("mul", lambda: lax.mul(z, z), 6 * 15),
        ("add", lambda: lax.add(z, z), 2 * 15),
        ("exp", lambda: lax.exp(z), 2 * 15),
        ("abs", lambda: lax.abs(z), 2 * 15),
        ("real", lambda: lax.real(z), 0),
        ("dot_general", lambda: lax.dot(z, b.astype(z.dtype)), 4 * PRODUCT),
        ("dot_general", lambda: lax.dot(a, b), PRODUCT),
        (
            "conv_general_dilated",
            lambda: lax.conv_general_dilated(z[None], jnp.ones((4, 3, 3), z.dtype), (1,), "SAME"),
            8 * 4 * 5 * 3 * 3,
        ),
    ],
)
def test_each_kind_of_operation_by_the_name_that_jax_has_for_it(primitive: str, function, work: float) -> None:
    assert primitive in {e.primitive.name for e in jax.make_jaxpr(function)().eqns}
    assert count(function) == work


def test_the_gradient_of_an_embedding_and_of_a_pool_over_windows() -> None:
    looked_up = lambda table: table[jnp.zeros((4, 9), jnp.int32)].sum()  # noqa: E731
    assert count(jax.grad(looked_up), a) == 4 * 9 * 5 * 2  # the sum, and a scatter-add of as many
    pooled = lambda x: lax.reduce_window(x, -jnp.inf, lax.max, **windows).sum()  # noqa: E731
    assert count(jax.grad(pooled), a) == 8 * 4 + 8 + 8


def test_every_name_is_one_that_jax_has() -> None:
    rooms = ("ad_util", "lax.lax", "lax.slicing", "lax.windowed_reductions", "lax.special", "lax.control_flow.loops")
    found = [vars(importlib.import_module(f"jax._src.{room}")).values() for room in rooms]
    known = {value.name for values in found for value in values if isinstance(value, core.Primitive)}
    assert (ARITHMETIC | EATING | SCATTERING | WINDOWED | PRODUCTS) - known == set()


def test_loops_and_branches() -> None:
    body = lambda c, _: (c @ jnp.ones((5, 5)), None)  # noqa: E731
    assert count(lambda x: lax.scan(body, x, length=11)[0], a) == 11 * 2 * 3 * 5 * 5
    assert count(lambda x: lax.cond(x[0, 0] > 0, lambda x: x @ b, lambda x: jnp.zeros((3, 7)), x), a) == PRODUCT
    with pytest.raises(LraError, match="while"):
        count(lambda x: lax.while_loop(lambda x: x.sum() < 9, lambda x: x + 1, x), a)


def test_what_is_recomputed_is_counted() -> None:
    f = lambda x: jnp.sin(jnp.sin(x @ b)).sum()  # noqa: E731
    plain, again = count(jax.grad(f), a), count(jax.grad(jax.checkpoint(f)), a)
    assert again >= plain + PRODUCT


def test_a_custom_gradient_is_entered() -> None:
    @jax.custom_vjp
    def f(x):
        return x @ b

    f.defvjp(lambda x: (x @ b, None), lambda _, g: (g @ b.T,))
    assert count(f, a) == PRODUCT
    assert count(jax.vmap(f), a[None]) == PRODUCT


def test_a_kernel_for_hopper_is_counted_by_its_warpgroups() -> None:
    """All products of a step for each text and block but the last, of bfloat16 in one part, of the update's in two."""
    N, B, H, S, K, D = 4, 3, 2, 128, 32, 64
    weights = Weights(*map(jnp.ones, [(D,), (D,), (S, D), (D, 4 * H * K), (2 * H * K, D), (D,), (D,)]))
    k, there = jnp.ones((N, B, H, S, K), jnp.bfloat16), jnp.ones((N, B, S), bool)
    work = count(lambda start: walk(weights, start, k, k, there), jnp.ones((B, S, D)))
    products = 2 * B * (N - 1) * H * S * K * (4 * D + 4 * S + 2 * 2 * D)
    assert products < work < 1.2 * products


def test_a_pallas_kernel_says_what_it_does() -> None:
    """Two products of 128 queries with the 64 keys of their block, and the softmax between them."""
    q, mask = jnp.ones((1, 1, 128, 16)), jnp.ones((1, 128), bool)
    work = count(lambda q: block_attention(q, q, q, mask, Blocks(64), impl="pallas")[0], q)
    assert 2 * 2 * 128 * 64 * 16 < work < 1.5 * 2 * 2 * 128 * 64 * 16
