"""S_{n+1} = M_n S_n + a_n from S_0 = 0, all states, in few launches: for accelerators.

Groups of steps are walked side by side, each from nothing, and the product P of a group's matrices is carried beside,
transposed, as XLA would make one product of two with the same left side; then one group after another: S = A + P T,
where T is the state before the group (a scan of a linear recurrence, arXiv 1709.04057, in two levels). The gradient is
the same recurrence from the end, with M transposed.
"""

from __future__ import annotations

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


def steps(M: Float[Array, "B H N K K"]) -> list[Float[Array, "B H G K K"]]:
    """The first matrix of each group, the second, and so on."""
    M = _groups(M, min(GROUP, M.shape[2]))
    return lax.optimization_barrier([M[:, :, :, step] for step in range(M.shape[3])])


def matrix_recurrence(
    M: list[Float[Array, "B H G K K"]], a: Float[Array, "B H N K V"], *, transposed: bool = False
) -> Float[Array, "B H N K V"]:
    """The same of `steps(M)`: the state before each step. With each M transposed, the recurrence begins at the end: of
    the states' gradient it gives that by `a`, which is that of the state after each step."""
    (B, H, N, K, V), size, order = a.shape, len(M), -1 if transposed else 1
    groups = _groups(lax.optimization_barrier(a), size)
    matrix = "bhgji" if transposed else "bhgij"
    A, P = jnp.zeros((*M[0].shape[:4], V)), jnp.broadcast_to(jnp.eye(K), M[0].shape)
    before = []
    for step in range(size)[::order]:
        before.append((A, P))
        A = product(f"{matrix},bhgjk->bhgik", M[step], A) + groups[:, :, :, step]
        P = product(f"bhgkj,{matrix}->bhgki", P, M[step])

    def onward(T: Array, group: tuple[Array, ...]) -> tuple[Array, Array]:
        A, P = group
        return product("bhji,bhjk->bhik", P, T) + A, T

    whole = tuple(jnp.moveaxis(x, 2, 0) for x in (A, P))
    T = lax.scan(onward, jnp.zeros_like(a[:, :, 0]), whole, reverse=transposed)[1]
    of, by = (jnp.stack(some, axis) for some, axis in zip(zip(*before[::order], strict=True), (3, 4), strict=True))
    S = of + product("bhgjsi,gbhjk->bhgsik", by, T)
    return S.reshape(B, H, -1, K, V)[:, :, :N]


def _groups(x: Float[Array, "B H N K V"], size: int) -> Float[Array, "B H G size K V"]:
    """The steps in groups, the last one filled up with zeros, whose states nobody reads."""
    x = jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % size), (0, 0), (0, 0)))
    return x.reshape(*x.shape[:2], -1, size, *x.shape[3:])
