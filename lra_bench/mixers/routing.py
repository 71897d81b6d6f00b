"""Routing attention (Roy et al., arXiv 2003.05997, section 4 and algorithm 1): queries and keys are routed to centroids
that follow them by online k-means, and meet inside a cluster.

    Q, K <- LayerNorm(Q), LayerNorm(K)                                          without scale and bias
    each centroid takes the w = L / k queries, and the w keys, with the largest inner product
    y_i = mean over the clusters that took i of  sum_j softmax_j(q_i . k_j / sqrt K) v_j,   j among the cluster's keys
    mu <- 0.999 mu + 0.001 mean of the queries and keys whose largest inner product is with mu       in training only

A token that no centroid takes gets 0. Padding is taken by none, and is in no mean.

Where it is causal, K is Q, as in algorithm 1, and a token is of the cluster whose centroid is nearest, and sees the
j <= i of it, as in section 4.1; of these the latest w. The w of algorithm 1, the nearest of all tokens, are not known
before the last token is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from lra_bench.errors import ConfigError
from lra_bench.kernels.block_attention import block_attention
from lra_bench.kernels.dense import dense
from lra_bench.kernels.layer_norm import layer_norm
from lra_bench.kernels.lsh_attention import Trail, sorted_attention
from lra_bench.kernels.patterns import Window
from lra_bench.kernels.routed_attention import closest, nearest, routed_attention
from lra_bench.mixers.base import Auxiliary, Dims, Memory
from lra_bench.mixers.caches import Bucketed, KeyValues, attended, empty, extended, hashed, latest, within
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import HeadsMixer, cut, near_heads

CARD = Card(
    title="Routing Transformer",
    family="learnable-pattern",
    paper="2003.05997",
    equation="section 4, algorithm 1",
    year=2020,
    time=1.5,
    memory=1.0,
    exact_when="",
    causal_form="yes",
    public="routing-transformer (PyPI, PyTorch)",
    differs="no local heads unless `near_heads` asks for them (the paper gives them half); a centroid moves to the "
    "mean of its members (algorithm 1 adds their sum, whose size grows with the batch)",
    short={"clusters": 5},
    padded_length="how many tokens a cluster takes",
)


@dataclass(frozen=True)
class Config(Fused):
    """How many clusters there are, and how they follow their members."""

    clusters: int = 0
    """k: centroids of each head, drawn at random; 0: the square root of the longest text's length."""

    decay: float = 0.999
    """lambda: how much of a centroid a training step keeps."""

    commitment: float = 1e-4
    """Weight of the mean square distance of queries and keys to their centroids, a loss of its own; from the authors'
    code, not in algorithm 1. 0: none."""

    near_heads: int = 0
    """So many heads see their neighbors instead, in a sliding window."""

    window: int = 128
    """Neighbors on each side that those heads see."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("clusters", 0), ("commitment", 0), ("near_heads", 0), ("window", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: {getattr(self, name)}; at least {least}")
        if not 0 <= self.decay <= 1:
            raise ConfigError(f"decay: {self.decay}; from 0 to 1")


class Routed(NamedTuple):
    """What the heads that route keep, and the others."""

    routed: Bucketed
    near: KeyValues

    @property
    def place(self) -> Int[Array, ""]:
        """Of the next token."""
        return self.routed.place


class Mixer(HeadsMixer):
    """Every token looks at those that are near the same centroid."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.config, self.pattern = config, Window(min(config.window, dims.length), causal=dims.causal)
        clusters = min(config.clusters or round(dims.length**0.5), dims.length)
        self.trail = Trail(-(-dims.length // clusters) - 1, buckets=clusters + 1)
        if dims.causal:
            q, k, v = jnp.split(self.qkv[...], 3, axis=1)
            self.qkv = nnx.Param(jnp.concatenate([q, k[:, : config.near_heads * dims.head_width], v], axis=1))
        shape = (dims.heads - near_heads(config.near_heads, dims.heads), clusters, dims.head_width)
        self.centroids = Memory(normalized(jax.random.normal(rngs.params(), shape)))
        self.loss = Auxiliary(jnp.float32(0))

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        q, k, v = self.project(x)
        near = self.config.near_heads
        parts = self.nearby(q, k, v, mask)
        q, k, v = (h[:, near:] for h in (q, k, v))
        parts.append(self.trailing(q, v, mask) if self.causal else self.routed(q, k, v, mask))
        if key is not None:
            self.follow(jnp.concatenate([q, k], axis=2), jnp.concatenate([mask, mask], axis=1))
        return self.output(jnp.concatenate(parts, axis=1))

    def nearby(self, q: Array, k: Array, v: Array, mask: Array) -> list[Array]:
        """What the heads read that look at their neighbors alone, if there are any."""
        q, k, v = (h[:, : self.config.near_heads] for h in (q, k, v))
        return [block_attention(q, k, v, mask, self.pattern, impl=self.impl)[0]] if self.config.near_heads else []

    def routed(self, q: Array, k: Array, v: Array, mask: Array) -> Float[Array, "B H L K"]:
        """Attention inside clusters that take as many queries and keys each."""
        count = -(-mask.shape[1] // self.centroids.shape[1])
        asking, asked = (nearest(jax.lax.stop_gradient(h), mask, self.centroids[...], count) for h in (q, k))
        return routed_attention(q, k, v, asking, asked, self.impl)

    def trailing(self, q: Array, v: Array, mask: Array) -> Float[Array, "B H L K"]:
        """Attention to the latest tokens of one's cluster."""
        trail = replace(self.trail, length=mask.shape[1])
        return sorted_attention(q, v, mask, self.clusters(q, mask), trail, self.impl, lambda q: (q, q))

    def clusters(self, q: Float[Array, "B H N K"], mask: Bool[Array, "B N"]) -> Int[Array, "B H 1 N"]:
        """The cluster of each token; one more for padding."""
        members = closest(jax.lax.stop_gradient(q), self.centroids[...])
        return jnp.where(mask[:, None], members, self.centroids.shape[1])[:, :, None]

    def unturned(
        self, x: Float[Array, "B L D"]
    ) -> tuple[Float[Array, "B H L K"], Float[Array, "B H L K"], Float[Array, "B H L K"]]:
        """Queries and keys, of zero mean and unit variance in the heads that route, and values."""
        near, joint = self.config.near_heads, self.out.shape[0]
        q, k, v = jnp.split(dense(x, self.qkv[...]), [joint, self.qkv.shape[1] - joint], axis=-1)
        q, v = cut(q, self.heads), cut(v, self.heads)
        k = cut(k, k.shape[-1] // self.head_width) if near or not self.causal else q[:, :0]
        q, k = (jnp.concatenate([h[:, :near], normalized(h[:, near:])], axis=1) for h in (q, k))
        return q, jnp.concatenate([k, q[:, near:]], axis=1) if self.causal else k, v

    def init_state(self, batch: int, length: int) -> Routed:
        """Keys, values and clusters of all tokens where heads route, and the windows of those that do not."""
        near = self.config.near_heads
        routed, window = self.heads - near, min(self.pattern.width, length)
        clusters = jnp.zeros((batch, routed, 1, length), jnp.int32)
        return Routed(Bucketed(empty(self, batch, length, routed), clusters), empty(self, batch, window, near))

    def prefill(self, state: Routed, x: Float[Array, "B N D"]) -> tuple[Routed, Float[Array, "B N D"]]:
        near, mask = self.config.near_heads, jnp.ones(x.shape[:2], bool)
        q, k, v = self.project(x)
        parts, window = self.nearby(q, k, v, mask), extended(state.near, k[:, :near], v[:, :near])
        q, k, v = (h[:, near:] for h in (q, k, v))
        y = jnp.concatenate([*parts, self.trailing(q, v, mask)], axis=1).astype(x.dtype)
        return Routed(hashed(state.routed, k, v, self.clusters(q, mask)), window), self.output(y)

    def step(self, state: Routed, x: Float[Array, "B D"]) -> tuple[Routed, Float[Array, "B D"]]:
        near = self.config.near_heads
        q, k, v = self.projected_at(x[:, None], state.place)
        window, y = attended(state.near, q[:, :near], k[:, :near], v[:, :near], within(self.pattern.width))
        q, k, v = (h[:, near:] for h in (q, k, v))
        bucket = self.clusters(q, jnp.ones((len(x), 1), bool))
        routed, z = latest(state.routed, q, k, v, bucket, self.trail)
        y = jnp.concatenate([y, z], axis=1).astype(x.dtype)
        return Routed(routed, window), self.output(y)[:, 0]

    def follow(self, x: Float[Array, "B H L K"], mask: Bool[Array, "B L"]) -> None:
        """Move each centroid towards its members, and state their distance from where it was."""
        old, fixed = self.centroids[...], jax.lax.stop_gradient(x)
        members = closest(fixed, old)
        heads = jnp.arange(old.shape[0])[:, None]
        there = mask[:, None].astype(jnp.float32)
        count = jnp.zeros((*old.shape[:2], 1)).at[heads, members].add(there[..., None])
        total = jnp.zeros_like(old).at[heads, members].add(fixed.astype(jnp.float32) * there[..., None])
        mean = total / jnp.maximum(count, 1)
        self.centroids[...] = jnp.where(count > 0, old + (1 - self.config.decay) * (mean - old), old)
        apart = x - old[heads, members].astype(x.dtype)
        square = jnp.square(apart.astype(jnp.float32)).mean((1, 3))
        mean_square = jnp.where(mask, square, 0).sum() / jnp.maximum(mask.sum(), 1)
        self.loss[...] = self.config.commitment * mean_square


def normalized(x: Float[Array, "... K"]) -> Float[Array, "... K"]:
    """Zero mean and unit variance over the width: a LayerNorm without scale and bias."""
    K = x.shape[-1]
    return layer_norm(x, jnp.ones(K), jnp.zeros(K))
