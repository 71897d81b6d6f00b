"""Attention of clusters of queries (arXiv 2007.04825, section 3): the mean query of a cluster attends for its members,
and of the keys that it finds most important each member weighs the `top` anew.

Members of a cluster are laid side by side, in blocks that belong to one cluster each: what a cluster has is then
fetched once for a block, and multiplied as a matrix. A block's last places may be empty.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.kernels.impl import XLA, at_once
from lra_bench.kernels.product import product
from lra_bench.kernels.reordered import reordered
from lra_bench.kernels.softmax_attention import LOWEST, softmax_attention, softmax_attention_part

SIZE = 16  # queries of a block
AT_ONCE = 32  # clusters, or blocks, whose keys are fetched
PLACES = "places"  # as a policy of `jax.checkpoint` calls them


def clustered_attention_reference(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    cluster: Int[Array, "B H L"],
    clusters: int,
    top: int,
) -> Float[Array, "B H L V"]:
    """The equations, with all L x L weights in memory."""
    member = (cluster[..., None] == jnp.arange(clusters)).astype(jnp.float32)
    count = jnp.maximum(member.sum(2), 1)[..., None]
    there, scale = mask[:, None, None, :], q.shape[-1] ** -0.5
    scores = jnp.where(there, product("bhck,bhlk->bhcl", product("bhlc,bhlk->bhck", member, q) / count, k), LOWEST)
    weights = jnp.where(there, jax.nn.softmax(scores * scale, axis=-1), 0)
    if top:
        chosen = jax.nn.one_hot(lax.top_k(scores, min(top, q.shape[2]))[1], q.shape[2]).sum(3) > 0
        chosen = product("bhlc,bhcm->bhlm", member, (chosen & there).astype(jnp.float32)) > 0
        weights = product("bhlc,bhcm->bhlm", member, weights)
        own = jnp.where(chosen, product("bhlk,bhmk->bhlm", q, k) * scale, LOWEST)
        own = jnp.where(chosen, jax.nn.softmax(own, axis=-1), 0)
        weights = jnp.where(chosen, (weights * chosen).sum(-1, keepdims=True) * own, weights)
    else:
        weights = product("bhlc,bhcm->bhlm", member, weights)
    return jnp.einsum("bhlm,bhmv->bhlv", weights.astype(v.dtype), v)


def clustered_attention(
    q: Float[Array, "B H L K"],
    k: Float[Array, "B H L K"],
    v: Float[Array, "B H L V"],
    mask: Bool[Array, "B L"],
    cluster: Int[Array, "B H L"],
    clusters: int,
    top: int,
    impl: str = XLA,
) -> Float[Array, "B H L V"]:
    """The same, never an L x L array. For the backward pass only the arguments are kept, and on accelerators the places
    of the important keys.

    Args:
        cluster: of each query; `clusters`: it is in none, and gets 0.
        top: keys that each query of a cluster weighs anew; 0: none, all of a cluster get the same.
        impl: as `impl.chosen` says it.
    """
    attend = partial(_attend, clusters=clusters, top=top, impl=impl)
    kept = None if impl == XLA else jax.checkpoint_policies.save_only_these_names(PLACES)
    return jax.checkpoint(attend, policy=kept)(q, k, v, mask, cluster)


def _attend(
    q: Array, k: Array, v: Array, mask: Array, cluster: Array, *, clusters: int, top: int, impl: str
) -> Float[Array, "B H L V"]:
    B, H, L, K = q.shape
    lay = laid(cluster.reshape(B * H, L), clusters)
    queries = reordered(q.reshape(B * H, L, K), lay.there, lay.back).reshape(B * H, -1, SIZE, K)
    own = (lay.owner[..., None] == jnp.arange(clusters)).astype(q.dtype)
    total = product("nbc,nbk->nck", own, queries.astype(jnp.float32).sum(2).astype(q.dtype))
    mean = (total / jnp.maximum(lay.members, 1)[..., None]).astype(q.dtype)
    found, logsumexp = softmax_attention_part(mean.reshape(B, H, clusters, K), k, v, mask, impl)
    found, logsumexp = found.reshape(B * H, clusters, -1), logsumexp.reshape(B * H, clusters)
    if not top:
        blocks = jnp.broadcast_to(_of(found, lay.owner)[:, :, None], (*queries.shape[:3], v.shape[-1]))
    else:
        k, v = (x.reshape(B * H, L, -1) for x in (k, v))
        place = checkpoint_name(_important(mean, k, jnp.repeat(mask, H, axis=0), min(top, L), impl), PLACES)
        rest, mass = _parted(mean, k, v, place, found, logsumexp, impl)
        blocks = _weighed_anew(queries, k, v, place, rest, mass, lay.owner, impl)
    rows = blocks.reshape(B * H, -1, blocks.shape[-1])
    return reordered(rows, lay.back, lay.there).reshape(B, H, L, -1).astype(found.dtype)


def _important(
    mean: Float[Array, "N C K"], k: Float[Array, "N L K"], mask: Bool[Array, "N L"], top: int, impl: str
) -> Int[Array, "N C t"]:
    """The places of the keys that weigh most in each cluster; -1 where there are fewer."""

    def search(row: tuple[Array, Array, Array]) -> Array:
        mean, k, mask = row
        score, place = lax.top_k(jnp.where(mask, product("ck,lk->cl", mean, k), LOWEST), top)
        return jnp.where(score > LOWEST / 2, place, -1)

    some = at_once(impl, len(k), mean.shape[1] * mask.size)
    return lax.map(search, (*lax.stop_gradient((mean, k)), mask), batch_size=some)


def _parted(
    mean: Float[Array, "N C K"],
    k: Float[Array, "N L K"],
    v: Float[Array, "N L V"],
    place: Int[Array, "N C t"],
    found: Float[Array, "N C V"],
    logsumexp: Float32[Array, "N C"],
    impl: str,
) -> tuple[Float[Array, "N C V"], Float32[Array, "N C"]]:
    """Of what each cluster found: what comes from its unimportant keys, and the weight of the important ones."""

    @jax.checkpoint
    def part(cluster: tuple[Array, ...]) -> tuple[Array, Array]:
        mean, place, found, logsumexp = cluster
        logits = product("nk,ntk->nt", mean, _fetched(k, place)) * k.shape[-1] ** -0.5 - logsumexp[:, None]
        weights = jnp.exp(jnp.where(place >= 0, logits, LOWEST))
        mixed = product("nt,ntv->nv", weights.astype(v.dtype), _fetched(v, place))
        return found - mixed.astype(v.dtype), weights.sum(-1)

    moved = tuple(jnp.moveaxis(x, 1, 0) for x in (mean, place, found, logsumexp))
    some = at_once(impl, place.shape[1], place.size * k.shape[-1]) or AT_ONCE
    rest, mass = lax.map(part, moved, batch_size=some)
    return jnp.moveaxis(rest, 0, 1), mass.T


def _weighed_anew(
    queries: Float[Array, "N M m K"],
    k: Float[Array, "N L K"],
    v: Float[Array, "N L V"],
    place: Int[Array, "N C t"],
    rest: Float[Array, "N C V"],
    mass: Float32[Array, "N C"],
    owner: Int[Array, "N M"],
    impl: str,
) -> Float[Array, "N M m V"]:
    """Attention of each block over its cluster's important keys, which are fetched for some blocks at a time; times
    their weight, and the rest added."""

    @jax.checkpoint
    def attend(block: tuple[Array, Array]) -> Array:
        queries, own = block[0], (jnp.arange(len(block[1])), block[1])
        at = place[own]
        anew = softmax_attention(queries[:, None], _fetched(k, at)[:, None], _fetched(v, at)[:, None], at >= 0)[:, 0]
        return (mass[own][:, None, None] * anew + rest[own][:, None]).astype(v.dtype)

    moved = (jnp.moveaxis(x, 1, 0) for x in (queries, owner))
    some = at_once(impl, owner.shape[1], owner.size * place.shape[2] * k.shape[-1]) or AT_ONCE
    return jnp.moveaxis(lax.map(attend, tuple(moved), batch_size=some), 0, 1)


def _fetched(x: Float[Array, "N L K"], place: Int[Array, "N t"]) -> Float[Array, "N t K"]:
    """The rows at these places; for -1 the first, which a mask must hide."""
    return x[jnp.arange(len(x))[:, None], jnp.maximum(place, 0)]


class Layout(NamedTuple):
    """Where the members of each cluster stand."""

    there: Int[Array, "N S"]  # for each place the query that stands there; -1: none
    back: Int[Array, "N L"]  # for each query its place; -1: it is in no cluster
    owner: Int[Array, "N S/SIZE"]  # the cluster of each block
    members: Int[Array, "N C"]  # how many each cluster has


def laid(cluster: Int[Array, "N L"], clusters: int) -> Layout:
    """Blocks of SIZE places, each of one cluster: at most L / SIZE full ones, and for each cluster one that is not."""
    N, L = cluster.shape
    rows, blocks = jnp.arange(N)[:, None], L // SIZE + clusters
    count = (cluster[:, None] == jnp.arange(clusters)[:, None]).sum(-1)
    filled = -(-count // SIZE)
    ends = jnp.cumsum(filled, axis=1)
    start = SIZE * (ends - filled) - (jnp.cumsum(count, axis=1) - count)  # less its first member's rank among all
    order = jnp.sort(cluster * L + jnp.arange(L), axis=1)
    of, order = order // L, order % L
    place = jnp.arange(L) + start[rows, jnp.minimum(of, clusters - 1)]
    place = jnp.where(of < clusters, place, blocks * SIZE)
    there = jnp.full((N, blocks * SIZE), -1).at[rows, place].set(order, mode="drop")
    back = jnp.zeros_like(order).at[rows, order].set(jnp.where(of < clusters, place, -1))
    owner = (jnp.arange(blocks)[:, None] >= ends[:, None]).sum(-1)
    return Layout(there, back, jnp.minimum(owner, clusters - 1), count)


def _of(x: Float[Array, "N C ..."], owner: Int[Array, "N M"]) -> Float[Array, "N M ..."]:
    """What each block's cluster has."""
    return x[jnp.arange(len(x))[:, None], owner]
