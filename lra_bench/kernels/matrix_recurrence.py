"""S_{n+1} = M_n S_n + a_n from S_0 = 0, all states, in few launches: for accelerators.

Groups of steps are walked side by side, each from nothing, and the product P of a group's matrices is carried beside;
then one group after another: S = A + P T, where T is the state before the group (a scan of a linear recurrence, arXiv
1709.04057, in two levels). The gradient is the same recurrence from the end, with M transposed.
"""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lra_bench.kernels.product import product

GROUP = 16  # steps


def matrix_recurrence_reference(
    M: Float[Array, "B H N K K"], a: Float[Array, "B H N K V"]
) -> Float[Array, "B H N K V"]:
    """Step by step."""

    def step(S: Array, piece: tuple[Array, Array]) -> tuple[Array, Array]:
        M, a = piece
        return jnp.einsum("bhij,bhjk->bhik", M, S) + a, S

    pieces = (jnp.moveaxis(M, 2, 0), jnp.moveaxis(a, 2, 0))
    return jnp.moveaxis(lax.scan(step, jnp.zeros_like(a[:, :, 0]), pieces)[1], 0, 2)


def matrix_recurrence(
    M: Float[Array, "B H N K K"], a: Float[Array, "B H N K V"], *, transposed: bool = False
) -> Float[Array, "B H N K V"]:
    """The same: the state before each step. With each M transposed, the recurrence begins at the end: of the states'
    gradient it gives that by `a`, which is that of the state after each step."""
    (B, H, N, K, V), size = a.shape, min(GROUP, a.shape[2])
    M, a = lax.optimization_barrier((M, a))
    M_, a_ = _groups(M, size), _groups(a, size)
    by = partial(product, "bhgji,bhgjk->bhgik" if transposed else "bhgij,bhgjk->bhgik")
    AP = jnp.broadcast_to(jnp.eye(K, V + K, V), (*M_.shape[:3], K, V + K))
    before = []
    for step in reversed(range(size)) if transposed else range(size):
        before.append(AP)
        AP = by(M_[:, :, :, step], AP) + jnp.pad(a_[:, :, :, step], ((0, 0),) * 4 + ((0, K),))

    def onward(T: Array, group: Array) -> tuple[Array, Array]:
        return product("bhij,bhjk->bhik", group[..., V:], T) + group[..., :V], T

    T = lax.scan(onward, jnp.zeros_like(a[:, :, 0]), jnp.moveaxis(AP, 2, 0), reverse=transposed)[1]
    AP = jnp.stack(before[::-1] if transposed else before, axis=3)
    S = AP[..., :V] + product("bhgsij,gbhjk->bhgsik", AP[..., V:], T)
    return S.reshape(B, H, -1, K, V)[:, :, :N]


def _groups(x: Float[Array, "B H N K V"], size: int) -> Float[Array, "B H G size K V"]:
    """The steps in groups, the last one filled up with zeros, whose states nobody reads."""
    x = jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % size), (0, 0), (0, 0)))
    return x.reshape(*x.shape[:2], -1, size, *x.shape[3:])
