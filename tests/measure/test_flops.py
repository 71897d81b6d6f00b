"""Operations counted from the jaxpr, against numbers worked out by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from lra_bench.errors import LraError
from lra_bench.kernels.block_attention import block_attention
from lra_bench.kernels.patterns import Blocks
from lra_bench.measure.flops import flops

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


def test_a_pallas_kernel_says_what_it_does() -> None:
    """Two products of 128 queries with the 64 keys of their block, and the softmax between them."""
    q, mask = jnp.ones((1, 1, 128, 16)), jnp.ones((1, 128), bool)
    work = count(lambda q: block_attention(q, q, q, mask, Blocks(64), impl="pallas")[0], q)
    assert 2 * 2 * 128 * 64 * 16 < work < 1.5 * 2 * 2 * 128 * 64 * 16
