"""S_{n+1} = M_n S_n + a_n from S_0 = 0, all states, in few launches: for accelerators.

Groups of steps are walked side by side, each from nothing, and the product P of a group's matrices is carried beside;
then one group after another: S = A + P T, where T is the state before the group (a scan of a linear recurrence, arXiv
1709.04057, in two levels). The gradient is the same recurrence from the end, with M transposed.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from lra_bench.kernels.product import product

GROUP = 16  # steps
STATES = "states"  # as a policy of `jax.checkpoint` calls them


def matrix_recurrence_reference(
    M: Float[Array, "B H N K K"], a: Float[Array, "B H N K V"]
) -> Float[Array, "B H N K V"]:
    """Step by step."""

    def step(S: Array, piece: tuple[Array, Array]) -> tuple[Array, Array]:
        M, a = piece
        return jnp.einsum("bhij,bhjk->bhik", M, S) + a, S

    pieces = (jnp.moveaxis(M, 2, 0), jnp.moveaxis(a, 2, 0))
    return jnp.moveaxis(lax.scan(step, jnp.zeros_like(a[:, :, 0]), pieces)[1], 0, 2)


@jax.custom_vjp
def matrix_recurrence(M: Float[Array, "B H N K K"], a: Float[Array, "B H N K V"]) -> Float[Array, "B H N K V"]:
    """The same: the state before each step."""
    return _states(M, a, transposed=False)


def _keep(M: Array, a: Array) -> tuple[Array, tuple[Array, Array]]:
    S = checkpoint_name(_states(M, a, transposed=False), STATES)
    return S, (M, S)


def _backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    M, S = kept
    later = _states(M, g, transposed=True)
    return product("bhnik,bhnjk->bhnij", later, S), later


matrix_recurrence.defvjp(_keep, _backward)


def _states(M: Array, a: Array, *, transposed: bool) -> Float[Array, "B H N K V"]:
    """The states; or, with each M transposed, those of the recurrence that begins at the end."""
    (B, H, N, K, V), size = a.shape, min(GROUP, a.shape[2])
    M_, a_ = _groups(M, size), _groups(a, size)
    by = partial(product, "bhgji,bhgjk->bhgik" if transposed else "bhgij,bhgjk->bhgik")

    def step(AP: Array, piece: tuple[Array, Array]) -> tuple[Array, Array]:
        M, a = piece
        return by(M, AP) + jnp.pad(a, ((0, 0), (0, 0), (0, 0), (0, 0), (0, K))), AP

    def onward(T: Array, group: Array) -> tuple[Array, Array]:
        return product("bhij,bhjk->bhik", group[..., V:], T) + group[..., :V], T

    start = jnp.broadcast_to(jnp.eye(K, V + K, V), (*M_.shape[1:4], K, V + K))
    whole, AP = lax.scan(step, start, (M_, a_), reverse=transposed)
    T = lax.scan(onward, jnp.zeros_like(a[:, :, 0]), jnp.moveaxis(whole, 2, 0), reverse=transposed)[1]
    S = AP[..., :V] + product("sbhgij,gbhjk->sbhgik", AP[..., V:], T)
    return jnp.moveaxis(S, 0, 3).reshape(B, H, -1, K, V)[:, :, :N]


def _groups(x: Float[Array, "B H N K V"], size: int) -> Float[Array, "size B H G K V"]:
    """The steps in groups, the last one filled up with zeros, whose states nobody reads."""
    x = jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % size), (0, 0), (0, 0)))
    return jnp.moveaxis(x.reshape(*x.shape[:2], -1, size, *x.shape[3:]), 3, 0)
