"""Synthesizer (Tay et al., arXiv 2005.00743): attention whose logits need no pair of tokens.

    Y = softmax(S(X)) V,   S = sum_n a_n S_n,   sum_n a_n = 1, learned                                   (mixture)

    dense        S_ij = w_j . relu(W x_i + b) + c_j           a token says how much it wants of each place
    random       S = R: [L, L], learned                       the same for every text
    factorised   S = R_1 R_2^T: [L, r] [r, L], learned
    dot          S = Q K^T / sqrt K                           as everywhere else

Logits of padded columns are the lowest there are. All but `random` are products of a row of i and a row of j, so that
their sum is one product of longer rows, which attention in blocks takes without ever holding L x L logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32

from lra_bench.errors import ConfigError
from lra_bench.kernels.biased_attention import biased_attention
from lra_bench.kernels.dense import dense
from lra_bench.kernels.softmax_attention import softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import HeadsMixer, cut
from lra_bench.mixers.layers import XAVIER

CARD = Card(
    title="Synthesizer",
    family="synthetic",
    paper="2005.00743",
    equation="Dense, Random, Factorized Random and Mixture of Synthesizers",
    year=2020,
    time=2.0,
    memory=1.0,
    exact_when="form = dense+dot and all weight on dot",
    exact_without="the synthesized weights",
    public="tensorflow/mesh, mesh_tensorflow/transformer/transformer_layers.py",
    differs="without the factorised dense form; `random` holds heads * length^2 parameters, its memory grows with L^2",
)

PARTS = ("dense", "random", "factorised", "dot")


@dataclass(frozen=True)
class Config(Fused):
    """What the logits are made of."""

    form: str = "dense"
    """dense, random, factorised or dot, or a mixture of several, joined by +: random+dot is what LRA ran."""

    rank: int = 8
    """r of the factorised form; 8 in the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = self.form.split("+")
        if not set(parts) <= set(PARTS) or len(set(parts)) < len(parts):
            raise ConfigError(f"form: '{self.form}'; it can be: {', '.join(PARTS)}, or several joined by +")
        if self.rank < 1:
            raise ConfigError(f"rank: {self.rank}; at least 1")


class Mixer(HeadsMixer):
    """Weights from each token alone, or from the place alone."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        D, H, K, L = dims.width, dims.heads, dims.head_width, dims.length
        self.parts = tuple(config.form.split("+"))
        if "dot" not in self.parts:
            if dims.rotary:
                raise ConfigError(f"form: '{config.form}' has no queries and keys for rotary positions to turn")
            self.qkv = nnx.Param(XAVIER(rngs.params(), (D, H * K)))
        if len(self.parts) > 1:
            self.weights = nnx.Param(jnp.zeros(len(self.parts)))
        if "dense" in self.parts:
            self.hidden, self.bias = nnx.Param(XAVIER(rngs.params(), (D, H * K))), nnx.Param(jnp.zeros(H * K))
            self.columns = nnx.Param(jax.random.normal(rngs.params(), (H, L, K)) * K**-0.5)
            self.offsets = nnx.Param(jnp.zeros((H, L, 1)))
        if "factorised" in self.parts:
            self.rows = nnx.Param(jax.random.normal(rngs.params(), (2, H, L, config.rank)) * config.rank**-0.25)
        if "random" in self.parts:
            self.table = nnx.Param(jax.random.normal(rngs.params(), (L, H, L)))

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        share = dict(zip(self.parts, self.shares(), strict=True))
        pairs: dict[str, tuple[Array, Array]] = {}
        if "dot" in share:
            q, k, v = self.project(x)
            pairs["dot"] = q * q.shape[-1] ** -0.5, k
        else:
            v = cut(dense(x, self.qkv[...]), self.heads)
        if "dense" in share:
            pairs["dense"] = self.dense_pair(x)
        if "factorised" in share:
            pairs["factorised"] = everywhere(self.rows[0], x), everywhere(self.rows[1], x)
        q, k = self.joined(pairs, share)
        if "random" in share:
            table = self.table[: x.shape[1], :, : x.shape[1]] * share["random"]
            return self.output(biased_attention(q, k, v, mask, table, self.impl))
        return self.output(softmax_attention(q, k, v, mask, self.impl))

    @staticmethod
    def joined(pairs: dict[str, tuple[Array, Array]], share: dict[str, Array]) -> tuple[Any, Any]:
        """Rows whose product is the weighted sum of the pairs', times the root that the kernels divide by."""
        if not pairs:
            return None, None
        left = jnp.concatenate([a * share[name].astype(a.dtype) for name, (a, _) in pairs.items()], axis=-1)
        right = jnp.concatenate([b for _, b in pairs.values()], axis=-1)
        return left * left.shape[-1] ** 0.5, right

    def shares(self) -> Float32[Array, "n"]:
        """The a_n."""
        return jax.nn.softmax(self.weights[...]) if len(self.parts) > 1 else jnp.ones(1)

    def dense_pair(self, x: Float[Array, "B L D"]) -> tuple[Float[Array, "B H L J"], Float[Array, "B H L J"]]:
        """[relu(W x_i + b), 1] and [w_j, c_j]."""
        h = cut(jax.nn.relu(dense(x, self.hidden[...]) + self.bias[...].astype(x.dtype)), self.heads)
        columns = jnp.concatenate([self.columns[...], self.offsets[...]], axis=-1)
        return jnp.pad(h, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=1), everywhere(columns, x)


def everywhere(rows: Float[Array, "H N J"], x: Float[Array, "B L D"]) -> Float[Array, "B H L J"]:
    """The first L rows, for every text of the batch."""
    return jnp.broadcast_to(rows[:, : x.shape[1]].astype(x.dtype), (len(x), len(rows), x.shape[1], rows.shape[-1]))


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """All weight on the dot product."""
    mixer = Mixer(Config(form="dense+dot"), dims, rngs=rngs)
    mixer.weights[...] = jnp.array([-40.0, 40.0])
    return [mixer]
