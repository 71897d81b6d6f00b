"""Transformer-XL (Dai et al., arXiv 1901.02860) over the segments of one long text: a segment's tokens attend to their
own segment and to the cached ones before it, through which no gradient flows.

    A_ij = ((q_i + u) . k_j + (q_i + v) . W_r R_{i-j}) / sqrt K,   k_j = W_k SG(x_j) in the past        (section 3.3)

R are sinusoids of the distance. A layer caches its own inputs, so all segments of a layer are computed side by side.
Padding is no key, in the cache either. Where it is causal, a token sees none of its segment that come after it, as in
section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.errors import ConfigError
from lra_bench.kernels.dense import dense
from lra_bench.kernels.impl import XLA
from lra_bench.kernels.memory_attention import Memory, cached, form, memory_attention, relative_scores
from lra_bench.kernels.segment_attention import segments
from lra_bench.mixers.base import Dims
from lra_bench.mixers.caches import KeyValues, attended, empty
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import Decoded, cut
from lra_bench.mixers.layers import XAVIER

CARD = Card(
    title="Transformer-XL",
    family="recurrence",
    paper="1901.02860",
    equation="section 3.3",
    year=2019,
    time=1.0,
    memory=1.0,
    exact_when="segment >= length, W_r = 0 and u = 0",
    exact_without="the cached past",
    causal="causal",
    causal_form="yes",
    segment="segment",
    public="kimiyoung/transformer-xl (PyTorch)",
    differs="tokens of a segment see each other both ways (as in the paper with `causal` or a causal backbone); of "
    "other segments only the cached past is seen, so a cls token sees its own segment alone, and texts that are longer "
    "are pooled by the mean unless cls is asked for; the backbone's absolute positions stand beside the relative ones; "
    "u and v belong to a layer; segments of 128 (the authors' base models: 150 and 512)",
    short={"segment": 8, "memory": 2},
)


@dataclass(frozen=True)
class Config(Fused):
    """How long a segment is, and how much past it sees."""

    segment: int = 128
    """s: tokens of a segment. The authors' base models have 150 (WikiText-103) and 512 (enwik8)."""

    memory: int = 1
    """Cached segments before it; one, as long as the segment, in the paper's training."""

    causal: bool = False
    """A token sees none that come after it, as in the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segment < 1:
            raise ConfigError(f"segment: {self.segment}; at least 1")
        if self.memory < 0:
            raise ConfigError(f"memory: {self.memory}; at least 0")


class Mixer(Decoded):
    """Every token looks at its segment and at the cached past."""

    turns: ClassVar[bool] = False  # its positions are relative already

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.impl = form(self.impl, dims.width, dims.head_width)
        self.segment, self.memory = min(config.segment, dims.length), config.memory
        self.causal = config.causal or dims.causal
        shape = (dims.heads, dims.head_width)
        self.relative = nnx.Param(XAVIER(rngs.params(), (dims.width, dims.heads * dims.head_width)))
        self.u, self.v = (nnx.Param(0.02 * jax.random.normal(rngs.params(), shape)) for _ in range(2))

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        (B, L, _), s = x.shape, min(self.segment, x.shape[1])
        q, k, v = self.project(x)
        W = jnp.split(self.qkv[...], 3, axis=1)[1:]
        if self.impl == XLA:
            old = [cut(dense(lax.stop_gradient(x), w), self.heads) for w in W]
        else:
            old = [cached(part, x, w) for part, w in zip((k, v), W, strict=True)]
        q, k, v, old_k, old_v = (segments(part, s) for part in (q, k, v, *old))
        past = Memory(old_k, old_v, segments(mask[:, None, :, None], s), count=min(self.memory, q.shape[2] - 1))
        learned = (self.relative[...], self.u[...], self.v[...])
        y = memory_attention(q, k, v, past, *learned, causal=self.causal, impl=self.impl)
        return self.output(y.reshape(B, self.heads, -1, y.shape[-1])[:, :, :L])

    def init_state(self, batch: int, length: int) -> KeyValues:
        """Keys and values of a segment and of the cached ones before it."""
        return empty(self, batch, min((self.memory + 1) * self.segment, length))

    def extend(
        self, state: KeyValues, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N K"]
    ) -> tuple[KeyValues, Float[Array, "B H N K"]]:
        return attended(state, q, k, v, self.seen, score=self.score)

    def seen(self, i: Int[Array, "N 1"], j: Int[Array, "1 S"]) -> Bool[Array, "N S"]:
        """Whether the key at j is of the segment of the query at i, or of the cached ones."""
        return i // self.segment - j // self.segment <= self.memory

    def score(
        self, q: Float[Array, "B H N K"], k: Float[Array, "B H S K"], i: Int[Array, "N 1"], j: Int[Array, "1 S"]
    ) -> Float32[Array, "B H N S"]:
        """A."""
        furthest = (self.memory + 1) * self.segment - 1
        learned = (self.relative[...], self.u[...], self.v[...])
        return relative_scores(q, k, i - j, furthest, *learned)


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """One segment, and no positions."""
    mixer = Mixer(Config(segment=dims.length), dims, rngs=rngs)
    mixer.relative[...] = jnp.zeros(mixer.relative.shape)
    mixer.u[...] = jnp.zeros(mixer.u.shape)
    return [mixer]
