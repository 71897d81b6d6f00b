"""LSH attention (Reformer, Kitaev et al., arXiv 2001.04451, section 2): tokens are sorted by a random hash of their
query, which is their key too, so that near ones lie in a bucket, and attend to those that lie near in that order.

    o_i = sum_{j in P_i} exp(q_i . k_j - z_i) v_j,   k_j = q_j / |q_j|,   P_i: those of i's chunks        (equation 2)
    h(x) = argmax [x R; -x R],   R random; sorted by bucket, and cut into chunks that see their neighbors (equation 5)

With `across` off, P_i is those of them that are of i's bucket too (equations 3 and 4). A token sees itself only where
it sees nobody else. Rounds of hashing (equation 6) are joined by the logsumexp of each (appendix A).
As in the authors' code the logits have no 1 / sqrt K: the keys have unit length. Padding is hashed to a bucket of its
own behind the others, so that chunks are full of tokens, and is masked.
Where it is causal, P_i is {j <= i of i's bucket}, as in equations 2 and 4, of them the latest, as many as lie in its
own chunk and in those before it. The paper's chunks, masked by position, would let later tokens move the bounds between
chunks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from lra_bench.errors import ConfigError
from lra_bench.kernels.dense import dense
from lra_bench.kernels.lsh_attention import ALONE, Chunks, Trail, buckets, lsh_attention, unit
from lra_bench.mixers.base import Constant, Dims, implementation
from lra_bench.mixers.caches import Bucketed, empty, hashed, latest
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import HeadsMixer, cut
from lra_bench.mixers.layers import XAVIER

CARD = Card(
    title="Reformer",
    family="learnable-pattern",
    paper="2001.04451",
    equation="equations 2 to 6, appendix A",
    year=2020,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="yes",
    public="reformer-pytorch (PyPI); trax (JAX)",
    differs="tokens of a chunk see each other whatever their buckets, as in the implementations behind the published "
    "PyTorch numbers and in the authors' later code (`across` off: of one bucket only, equations 3 and 4); no "
    "reversible layers, which are the backbone's; sees the chunk after too, where it is not causal; a key met in "
    "two rounds counts in both (the paper's appendix divides by their number); chunks of 64 (the paper: 128)",
    short={"chunk": 8},
)

MANY = 64  # buckets; more of them are pairs of two hashes


@dataclass(frozen=True)
class Config(Fused):
    """How tokens are hashed, and how many of a bucket meet."""

    chunk: int = 64
    """m: tokens of a chunk."""

    rounds: int = 2
    """Hashes whose results are joined. The paper trains with 1, 2 and 4; each costs as much as the first."""

    buckets: int = 0
    """Buckets of a hash, even; 0: two for each chunk of the longest text, as in the paper."""

    before: int = 1
    """Chunks before its own that a token sees."""

    after: int = 1
    """Chunks after its own that a token sees; 0 in the paper, which is causal, and where this is."""

    across: bool = True
    """See all tokens of the chunks, whatever their bucket; off: only those of its own bucket (equations 3 and 4), as
    where it is causal."""

    redraw: bool = True
    """Draw the rotations anew at every training step; evaluation keeps those that were drawn first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("chunk", 1), ("rounds", 1), ("buckets", 0), ("before", 0), ("after", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: {getattr(self, name)}; at least {least}")
        if self.buckets % 2:
            raise ConfigError(f"buckets: {self.buckets}; an even number")


class Mixer(HeadsMixer):
    """Every token looks at those that are hashed as it is."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims)
        D, joint = dims.width, dims.heads * dims.head_width
        self.heads, self.rotary, self.redraw, self.causal = dims.heads, dims.rotary, config.redraw, dims.causal
        self.head_width, self.dtype = dims.head_width, dims.dtype
        self.qv = nnx.Param(jnp.concatenate([XAVIER(rngs.params(), (D, joint)) for _ in range(2)], axis=1))
        self.out = nnx.Param(XAVIER(rngs.params(), (joint, D)))
        size = min(config.chunk, dims.length)
        self.chunks = Chunks(size, config.before, config.after, across=config.across)
        self.factors = factors(config.buckets or 2 * -(-dims.length // config.chunk))
        self.trail = Trail((config.before + 1) * size - 1, buckets=math.prod(self.factors) + 1, itself=ALONE)
        shape = (dims.heads, dims.head_width, config.rounds, sum(self.factors) // 2)
        self.rotations = Constant(jax.random.normal(rngs.params(), shape))

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        q, _, v = self.project(x)
        rotations = self.rotations[...]
        if self.redraw and key is not None:
            rotations = jax.random.normal(key, rotations.shape)
        return self.output(self.met(q, v, mask, buckets(q, mask, rotations, self.factors)))

    def met(
        self,
        q: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
        bucket: Int[Array, "B H R L"],
    ) -> Float[Array, "B H L K"]:
        """What each token reads in those that lie near it, sorted by bucket."""
        chunks = replace(self.trail if self.causal else self.chunks, length=mask.shape[1])
        return lsh_attention(q, v, mask, bucket, chunks, self.impl)

    def unturned(
        self, x: Float[Array, "B L D"]
    ) -> tuple[Float[Array, "B H L K"], Float[Array, "B H L K"], Float[Array, "B H L K"]]:
        """Queries, which are the keys, and values."""
        q, v = (cut(part, self.heads) for part in jnp.split(dense(x, self.qv[...]), 2, axis=-1))
        return q, q, v

    def init_state(self, batch: int, length: int) -> Bucketed:
        """Keys, values and buckets of all tokens."""
        known = (batch, self.heads, self.rotations.shape[2], length)
        return Bucketed(empty(self, batch, length), jnp.zeros(known, jnp.int32))

    def prefill(self, state: Bucketed, x: Float[Array, "B N D"]) -> tuple[Bucketed, Float[Array, "B N D"]]:
        q, _, v = self.project(x)
        mask = jnp.ones(x.shape[:2], bool)
        bucket = buckets(q, mask, self.rotations[...], self.factors)
        y = self.output(self.met(q, v, mask, bucket).astype(x.dtype))
        return hashed(state, unit(q).astype(q.dtype), v, bucket), y

    def step(self, state: Bucketed, x: Float[Array, "B D"]) -> tuple[Bucketed, Float[Array, "B D"]]:
        q, _, v = self.projected_at(x[:, None], state.place)
        bucket = buckets(q, jnp.ones((len(x), 1), bool), self.rotations[...], self.factors)
        scaled = q * self.head_width**0.5
        state, y = latest(state, scaled, unit(q).astype(q.dtype), v, bucket, self.trail)
        return state, self.output(y.astype(x.dtype))[:, 0]


def factors(buckets: int) -> tuple[int, ...]:
    """The buckets of one hash, or of two whose pairs are as many, or a few more."""
    if buckets <= MANY:
        return (buckets,)
    first = 2 * round(buckets**0.5 / 2)
    return first, 2 * -(-buckets // (2 * first))
