"""The inverse by iteration against the one by singular values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from lra_bench.kernels.pseudo_inverse import pseudo_inverse, pseudo_inverse_reference


def matrices() -> jax.Array:
    """Softmax matrices as landmarks make them, one with a row and a column of zeros, one of another size of numbers."""
    a = jax.nn.softmax(3 * jax.random.normal(jax.random.key(0), (3, 2, 7, 7)) + 4 * jnp.eye(7), axis=-1)
    a = a.at[1, 0, 3].set(0).at[1, 0, :, 3].set(0)
    return a.at[2].multiply(100)


def test_many_steps_reach_it() -> None:
    a = matrices()
    z, exact = jax.jit(pseudo_inverse, static_argnums=1)(a, 20), pseudo_inverse_reference(a, 20)
    np.testing.assert_allclose(z, exact, atol=2e-3 * float(abs(exact).max()))


def test_gradients() -> None:
    a = matrices()[:, :, :3, :3]
    g = jax.random.normal(jax.random.key(1), a.shape)[:1]
    slope = [
        jax.jit(jax.grad(lambda a, f=f: (f(a, 20) * g).sum()))(a[:1])
        for f in (pseudo_inverse, pseudo_inverse_reference)
    ]
    np.testing.assert_allclose(*slope, rtol=2e-2, atol=1e-3 * float(abs(slope[1]).max()))


def test_matrices_do_not_see_each_other() -> None:
    """The released code starts from the largest norm of the batch."""
    a = matrices()
    run = jax.jit(pseudo_inverse, static_argnums=1)
    np.testing.assert_array_equal(run(a, 3)[0], run(a.at[1:].multiply(50), 3)[0])


def test_of_nothing_it_is_nothing_and_so_is_the_slope() -> None:
    z, pull = jax.vjp(lambda a: pseudo_inverse(a, 6), jnp.zeros((2, 5, 5), jnp.bfloat16))
    assert z.dtype == jnp.float32
    assert not z.any()
    assert bool(jnp.isfinite(pull(jnp.zeros_like(z))[0]).all())
