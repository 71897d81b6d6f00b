"""Luna's causal attention (arXiv 2106.01540, section 3.3): tokens are packed into rows by weights without a softmax
over the tokens, so that the rows of all tokens up to each are a running sum.

    A_t = phi(P' c_t),   u_t = softmax(1/t sum_{s<=t} (q_t . k_s) A_s),   y_t = 1/t sum_{s<=t} (u_t . A_s) v_s

P' are the rows' queries, [H, l, K], phi(x) = elu(x) + 1 as in the authors' first code, which has a softplus
since; t counts the tokens that are there.
The memory of tokens is the sum of their A_s times [k_s, v_s], or k_s alone where the two are one.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Float32

from lra_bench.kernels.impl import XLA
from lra_bench.kernels.linear_attention import phi
from lra_bench.kernels.prefix import State, begun, by_chunks, onward
from lra_bench.kernels.product import product


def causal_packing(
    rows: Float[Array, "H l K"],
    q: Float[Array, "B H L K"],
    c: Float[Array, "B H L K"],
    kv: Float[Array, "B H L J"],
    mask: Bool[Array, "B L"],
    impl: str = XLA,
) -> Float[Array, "B H L K"]:
    """y of all tokens, by chunks; q and the rows are divided by the root of K before.

    Args:
        c: by which each token is packed.
        kv: keys and values side by side, or the ones that are both.
        impl: as `impl.chosen` says it, but no kernel.
    """
    kv = jnp.where(mask[:, None, :, None], kv, 0)
    start = nothing(kv.shape[0], kv.shape[1], rows.shape[1], kv.shape[-1]).memory
    count = mask.cumsum(1, dtype=jnp.float32)[:, None, :, None]
    return by_chunks(Chunk(rows, q.shape[-1]), start, (q, c, kv, count), impl).astype(q.dtype)


def extended(
    state: State, rows: Float[Array, "H l K"], q: Float[Array, "B H N K"], c: Float[Array, "B H N K"],
    kv: Float[Array, "B H N J"],
) -> tuple[State, Float[Array, "B H N K"]]:  # fmt: skip
    """The memory after N further tokens, and what they read."""
    count = (state.place + jnp.arange(1, q.shape[2] + 1, dtype=jnp.float32))[None, None, :, None]
    state, y = onward(Chunk(rows, q.shape[-1]), state, (q, c, kv, count))
    return state, y.astype(q.dtype)


def nothing(batch: int, heads: int, rows: int, width: int) -> State:
    """The memory before the first token; keys and values together are `width` wide."""
    return begun(jnp.zeros((batch, heads, rows, width), jnp.float32))


class Chunk(NamedTuple):
    """What tokens of a chunk add to the memory, and what they read in it and in each other."""

    rows: Float[Array, "H l K"]
    width: int  # of a key and of a value

    def sums(self, c: Array, kv: Array, count: Array, i: Array) -> Float32[Array, "B H l J"]:
        return product("bhnp,bhnj->bhpj", self._packed(c), kv)

    def joined(self, earlier: Array, later: Array) -> Float32[Array, "... B H l J"]:
        """The sum over both."""
        return earlier + later

    def read(self, memory: Array, q: Array, c: Array, kv: Array, count: Array, i: Array) -> Float32[Array, "B H N K"]:
        """`memory` is of all tokens before the chunk."""
        A, k, v, K = self._packed(c), kv[..., : self.width], kv[..., -self.width :], self.width
        seen, count = i[:, None] >= i, jnp.maximum(count, 1)
        near = jnp.where(seen, product("bhnk,bhmk->bhnm", q, k), 0)
        scores = product("bhnk,bhpk->bhnp", q, memory[..., :K]) + product("bhnm,bhmp->bhnp", near, A)
        lowered = scores - lax.stop_gradient(scores.max(-1, keepdims=True))  # before it is divided, which rounds
        u = jax.nn.softmax(lowered / count, axis=-1)
        near = jnp.where(seen, product("bhnp,bhmp->bhnm", u, A), 0)
        y = product("bhnp,bhpk->bhnk", u, memory[..., -K:]) + product("bhnm,bhmk->bhnk", near, v)
        return y / count

    def _packed(self, c: Array) -> Float32[Array, "B H N l"]:
        """A of each token."""
        return phi(product("hpk,bhnk->bhnp", self.rows, c))
