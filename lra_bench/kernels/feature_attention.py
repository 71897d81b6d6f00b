"""phi(Q) (phi(K)^T V) / (phi(Q) sum phi(K)) for any features phi (arXiv 2006.16236, equation 5): linear in L.

phi is applied to a block of tokens at a time, in float32, and again in the backward pass: the features of all tokens,
[B, H, L, m], never exist. Keys that are not there add nothing. The denominator is at least `floor`.

With rotary positions the features are turned, but not in the denominator (arXiv 2104.09864, equation 19). m is even.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.kernels.impl import XLA, at_once
from lra_bench.kernels.prefix import State, begun, by_chunks, onward
from lra_bench.kernels.product import product
from lra_bench.kernels.rotary import rotary, rotary_at, turning
from lra_bench.kernels.softmax_attention import LOWEST

BLOCK = 512  # tokens: their features stay in cache

# Of some tokens' queries or keys, and the tokens' places.
Features = Callable[[Float32[Array, "B H N K"], Int[Array, "N"]], Float32[Array, "B H N m"]]


def feature_attention_reference(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    phi: Features,
    floor: float,
    turned: bool = False,
    causal: bool = False,
) -> Float[Array, "B H M V"]:
    """Attention whose weights are phi(q) . phi(k), all M x L of them; a causal query has none of later keys."""
    q, k = (phi(x.astype(jnp.float32), jnp.arange(x.shape[2])) for x in (q, k))
    seen = mask[:, None, None, :]
    seen = seen & np.tri(q.shape[2], k.shape[2], dtype=bool) if causal else seen
    weights = jnp.where(seen, product("bhmf,bhlf->bhml", q, k), 0)
    total = jnp.maximum(weights.sum(-1, keepdims=True), floor)
    if turned:
        weights = jnp.where(seen, product("bhmf,bhlf->bhml", rotary(q), rotary(k)), 0)
    return (product("bhml,bhlv->bhmv", weights, v) / total).astype(v.dtype)


def feature_attention(
    q: Float[Array, "B H M K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    phi: Features,
    floor: float,
    turned: bool = False,
    impl: str = XLA,
) -> Float[Array, "B H M V"]:
    """The same, the keys summed first. `impl` as `impl.chosen` says it."""
    turn = turning(max(q.shape[2], k.shape[2]))
    M, V = q.shape[2], v.shape[3]
    values = counted(v, mask)

    @jax.checkpoint
    def sums(k: Array, values: Array, i: Array) -> Float32[Array, "B H m V+1"]:
        f = phi(k.astype(jnp.float32), i)
        if not turned:
            return product("bhlf,bhlv->bhfv", f, values)
        return above_and_below("bhlf,bhlv->bhfv", turn(f, i), f, values)

    @jax.checkpoint
    def read(q: Array, i: Array, memory: Array) -> Float[Array, "B H N V"]:
        f = phi(q.astype(jnp.float32), i)
        if turned:
            mixed = above_and_below("bhmf,bhfv->bhmv", turn(f, i), f, memory)
        else:
            mixed = product("bhmf,bhfv->bhmv", f, memory)
        return (mixed[..., :V] / jnp.maximum(mixed[..., V:], floor)).astype(v.dtype)

    of_keys, of_queries = (_tokens(x, phi, impl) for x in (k, q))
    keys = (_blocks(k, of_keys), _blocks(values, of_keys), _places(k, of_keys))
    shape = jax.eval_shape(sums, *(x[0] for x in keys))
    start = jnp.zeros(shape.shape, shape.dtype)
    memory, _ = lax.scan(lambda total, block: (total + sums(*block), None), start, keys)
    mixed = lax.map(lambda block: read(*block, memory), (_blocks(q, of_queries), _places(q, of_queries)))
    return jnp.moveaxis(mixed, 0, 2).reshape(*v.shape[:2], -1, V)[:, :, :M]


def causal_feature_attention(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    phi: Features,
    floor: float,
    turned: bool = False,
    impl: str = XLA,
) -> Float[Array, "B H L V"]:
    """The same where a query sees no later key: chunks of tokens, each with the sum over all chunks before it (arXiv
    2006.16236, equations 18 to 20, by chunks). `impl` as `impl.chosen` says it."""
    mixing = Chunk(phi, floor, rotary_at if turned else None)
    start = jax.eval_shape(mixing.sums, k, counted(v, mask), jnp.arange(k.shape[2]))
    tokens = (q, k, counted(v, mask))
    return by_chunks(mixing, jnp.zeros(start.shape, start.dtype), tokens, impl).astype(v.dtype)


class Chunk(NamedTuple):
    """What tokens of a chunk add to the memory, and what they read in it and in each other."""

    phi: Features
    floor: float
    turn: Callable[[Array, Array], Array] | None  # of features by their places, above the line of the fraction

    def sums(self, k: Array, values: Array, i: Array) -> Float32[Array, "B H m V+1"]:
        """The last column is of the denominator."""
        return self._mixed("bhlf,bhlv->bhfv", self.phi(k.astype(jnp.float32), i), i, values)

    def joined(self, earlier: Array, later: Array) -> Float32[Array, "... B H m V+1"]:
        """The sum over both."""
        return earlier + later

    def read(self, memory: Array, q: Array, k: Array, values: Array, i: Array) -> Float32[Array, "B H N V"]:
        """`memory` is of all tokens before the chunk."""
        fq, fk = (self.phi(x.astype(jnp.float32), i) for x in (q, k))
        mixed = self._mixed("bhmf,bhfv->bhmv", fq, i, memory) + self._among(fq, fk, i, values)
        return divided(mixed, self.floor)

    def _among(self, fq: Array, fk: Array, i: Array, values: Array) -> Float32[Array, "B H N V+1"]:
        """Of the chunk's own tokens up to each."""
        seen = i[:, None] >= i
        weights = jnp.where(seen, product("bhmf,bhlf->bhml", fq, fk), 0)
        mixed = product("bhml,bhlv->bhmv", weights, values)
        if self.turn is None:
            return mixed
        near = jnp.where(seen, product("bhmf,bhlf->bhml", self.turn(fq, i), self.turn(fk, i)), 0)
        return jnp.concatenate([product("bhml,bhlv->bhmv", near, values[..., :-1]), mixed[..., -1:]], axis=-1)

    def _mixed(self, equation: str, f: Array, i: Array, values: Array) -> Array:
        if self.turn is None:
            return product(equation, f, values)
        return above_and_below(equation, self.turn(f, i), f, values)


class Faded(NamedTuple):
    """Sums over tokens that fade, and the logarithm of what is left of anything before these tokens."""

    left: Float32[Array, "B H"]
    sums: Float32[Array, "B H m V+1"]


class FadingChunk(NamedTuple):
    """The same of tokens each of which leaves a share of the memory before it, whose logarithm is g."""

    phi: Features
    floor: float

    def sums(self, k: Array, values: Array, g: Array, i: Array) -> Faded:
        b = g.cumsum(2)
        values = jnp.exp(b[:, :, -1:] - b) * values
        return Faded(b[:, :, -1, 0], product("bhlf,bhlv->bhfv", self.phi(k.astype(jnp.float32), i), values))

    def joined(self, earlier: Faded, later: Faded) -> Faded:
        """The earlier sums fade by what the later tokens leave of them."""
        left = jnp.exp(later.left)[..., None, None]
        return Faded(earlier.left + later.left, left * earlier.sums + later.sums)

    def read(self, memory: Faded, q: Array, k: Array, values: Array, g: Array, i: Array) -> Float32[Array, "B H N V"]:
        """`memory` is of all tokens before the chunk."""
        fq, fk = (self.phi(x.astype(jnp.float32), i) for x in (q, k))
        b = g.cumsum(2)
        left = jnp.exp(jnp.where(i[:, None] >= i, b - b.swapaxes(2, 3), LOWEST))
        among = product("bhml,bhlv->bhmv", left * product("bhmf,bhlf->bhml", fq, fk), values)
        return divided(among + jnp.exp(b) * product("bhmf,bhfv->bhmv", fq, memory.sums), self.floor)


def fading_feature_attention(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    gate: Float32[Array, "B H L 1"],
    phi: Features,
    floor: float,
    impl: str = XLA,
) -> Float[Array, "B H L V"]:
    """Causal attention by features whose memory fades: S_t = g_t S_(t-1) + (1 - g_t) phi(k_t) v_t^T, and so its
    denominator (arXiv 2103.02143, section 3.2). `gate` is the logit of g; a token that is not there leaves all."""
    m = jax.eval_shape(phi, jax.ShapeDtypeStruct(k.shape, jnp.float32), jnp.arange(k.shape[2])).shape[-1]
    start = nothing_fading(k.shape[0], k.shape[1], m, v.shape[-1]).memory
    return by_chunks(FadingChunk(phi, floor), start, (q, *gated(k, v, mask, gate)), impl).astype(v.dtype)


def gated(
    k: Float[Array, "B H L K"], v: Float[Array, "B H L V"], mask: Bool[Array, "B L"], gate: Float32[Array, "B H L 1"]
) -> tuple[Array, Array, Array]:
    """Keys, counted values times 1 - g, and the logarithm of g."""
    g = jnp.where(mask[:, None, :, None], jax.nn.log_sigmoid(gate), 0)
    return k, counted(v, mask) * jax.nn.sigmoid(-gate), g


def extended(
    state: State, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N V"],
    phi: Features, floor: float, turned: bool = False,
) -> tuple[State, Float[Array, "B H N V"]]:  # fmt: skip
    """The memory after N further tokens, and what they read: `causal_feature_attention` from a state on."""
    tokens = (q, k, counted(v, jnp.ones((v.shape[0], v.shape[2]), bool)))
    state, read = onward(Chunk(phi, floor, rotary_at if turned else None), state, tokens)
    return state, read.astype(v.dtype)


def extended_fading(
    state: State, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N V"],
    gate: Float32[Array, "B H N 1"], phi: Features, floor: float,
) -> tuple[State, Float[Array, "B H N V"]]:  # fmt: skip
    """The same of `fading_feature_attention`."""
    tokens = (q, *gated(k, v, jnp.ones((v.shape[0], v.shape[2]), bool), gate))
    state, read = onward(FadingChunk(phi, floor), state, tokens)
    return state, read.astype(v.dtype)


def nothing(batch: int, heads: int, features: int, width: int) -> State:
    """The memory before the first token, whose last column is of the denominator; values are `width` wide."""
    return begun(jnp.zeros((batch, heads, features, width + 1), jnp.float32))


def nothing_fading(batch: int, heads: int, features: int, width: int) -> State:
    """The same where it fades."""
    return begun(Faded(jnp.zeros((batch, heads), jnp.float32), nothing(batch, heads, features, width).memory))


def divided(mixed: Float32[Array, "B H N V+1"], floor: float) -> Float32[Array, "B H N V"]:
    """The last column is of the denominator, which is at least `floor`."""
    return mixed[..., :-1] / jnp.maximum(mixed[..., -1:], floor)


def counted(v: Float[Array, "B H L V"], mask: Bool[Array, "B L"]) -> Float[Array, "B H L V+1"]:
    """Values with a one behind each, for the denominator; zeros where there is no token."""
    there = mask[:, None, :, None]
    return jnp.concatenate([jnp.where(there, v, 0), jnp.broadcast_to(there, (*v.shape[:3], 1))], axis=-1)


def above_and_below(equation: str, turned: Array, plain: Array, values: Array) -> Float32[Array, "..."]:
    """Of values whose last entry counts for the denominator: the others by `turned` features, that one by `plain`."""
    parts = ((turned, values[..., :-1]), (plain, values[..., -1:]))
    return jnp.concatenate([product(equation, f, part) for f, part in parts], axis=-1)


def _tokens(x: Float[Array, "B H L K"], phi: Features, impl: str) -> int:
    """Of a block."""
    made = jax.eval_shape(phi, jax.ShapeDtypeStruct(x.shape, jnp.float32), jnp.arange(x.shape[2]))
    return at_once(impl, x.shape[2], made.size) or min(BLOCK, x.shape[2])


def _blocks(x: Float[Array, "B H L K"], size: int) -> Float[Array, "N B H size K"]:
    """The length in blocks to be walked over, the last one filled up with zeros."""
    B, H, L, K = x.shape
    return jnp.moveaxis(jnp.pad(x, ((0, 0), (0, 0), (0, -L % size), (0, 0))).reshape(B, H, -1, size, K), 2, 0)


def _places(x: Float[Array, "B H L K"], size: int) -> Int[Array, "N size"]:
    """Where the tokens of each block stand."""
    L = x.shape[2]
    return jnp.arange(L + -L % size).reshape(-1, size)
