"""Synthesizer (Tay et al., arXiv 2005.00743): attention whose logits need no pair of tokens.

    Y = softmax(S(X)) V,   S = sum_n a_n S_n,   sum_n a_n = 1, learned                                   (mixture)

    dense        S_ij = w_j . relu(W x_i + b) + c_j           a token says how much it wants of each place
    random       S = R: [L, L], learned                       the same for every text
    factorised   S = R_1 R_2^T: [L, r] [r, L], learned
    dot          S = Q K^T / sqrt K                           as everywhere else

Logits of padded columns are the lowest there are. All but `random` are products of a row of i and a row of j, so that
their sum is one product of longer rows, which attention in blocks takes without ever holding L x L logits. Where it is
causal, the softmax is over the j <= i.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.errors import ConfigError
from lra_bench.kernels.biased_attention import biased_attention
from lra_bench.kernels.dense import dense
from lra_bench.kernels.product import product
from lra_bench.kernels.softmax_attention import LOWEST, softmax_attention
from lra_bench.mixers.base import Dims
from lra_bench.mixers.caches import KeyValues, always, attended, empty
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import Decoded, cut
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
    causal_form="yes",
    public="tensorflow/mesh, mesh_tensorflow/transformer/transformer_layers.py",
    differs="without the factorised dense form; `random` holds heads * length^2 parameters, its memory grows with L^2",
)

Places = slice | tuple[Int[Array, ""], int]  # of rows: a slice, or so many from a place on
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


class Mixer(Decoded):
    """Weights from each token alone, or from the place alone."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        D, H, K, L = dims.width, dims.heads, dims.head_width, dims.length
        self.parts = tuple(config.form.split("+"))
        self.longest = None if config.form == "dot" else L
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
        every = slice(x.shape[1])
        q, k, v = self.project(x)
        asking, asked = self.asking(x, q, every), self.asked(k, every)
        if "random" in self.parts:
            table = self.table[every, :, every] * self.shares()["random"]
            table = jnp.where(np.tri(len(table), dtype=bool)[:, None], table, LOWEST) if self.causal else table
            return self.output(biased_attention(asking, asked, v, mask, table, self.impl))
        assert asking is not None
        assert asked is not None
        return self.output(softmax_attention(asking, asked, v, mask, self.impl, self.causal))

    def unturned(
        self, x: Float[Array, "B L D"]
    ) -> tuple[Float[Array, "B H L J"], Float[Array, "B H L J"], Float[Array, "B H L K"]]:
        """Queries and keys of no width, where the form has none."""
        if "dot" in self.parts:
            return super().unturned(x)
        v = cut(dense(x, self.qkv[...]), self.heads)
        return v[..., :0], v[..., :0], v

    def asking(
        self, x: Float[Array, "B N D"], q: Float[Array, "B H N K"], at: Places
    ) -> Float[Array, "B H N J"] | None:
        """The rows of i, weighted, times the root that the kernels divide by; None where the form has none."""
        share = self.shares()
        rows: list[Array] = []
        if "dot" in share:
            rows.append(q * q.shape[-1] ** -0.5 * share["dot"].astype(q.dtype))
        if "dense" in share:
            rows.append(self.hidden_rows(x) * share["dense"].astype(x.dtype))
        if "factorised" in share:
            rows.append(everywhere(rows_at(self.rows[0], at), q) * share["factorised"].astype(q.dtype))
        joined = jnp.concatenate(rows, axis=-1) if rows else None
        return joined if joined is None else joined * joined.shape[-1] ** 0.5

    def asked(self, k: Float[Array, "B H S K"], at: Places) -> Float[Array, "B H S J"] | None:
        """The rows of j, in the same order."""
        rows = [everywhere(part, k) for part in self.asked_parts(k, at)]
        return jnp.concatenate(rows, axis=-1) if rows else None

    def asked_parts(self, k: Float[Array, "B H S K"], at: Places) -> list[Float[Array, "*B H S J"]]:
        """The same, not joined; those that are of the place alone are the same for all texts."""
        parts: list[Array] = [k] if "dot" in self.parts else []
        if "dense" in self.parts:
            parts += [rows_at(self.columns[...], at), rows_at(self.offsets[...], at)]
        if "factorised" in self.parts:
            parts.append(rows_at(self.rows[1], at))
        return parts

    def shares(self) -> dict[str, Float32[Array, ""]]:
        """The a_n."""
        a = jax.nn.softmax(self.weights[...]) if len(self.parts) > 1 else jnp.ones(1)
        return dict(zip(self.parts, a, strict=True))

    def hidden_rows(self, x: Float[Array, "B L D"]) -> Float[Array, "B H L J"]:
        """[relu(W x_i + b), 1]."""
        h = cut(jax.nn.relu(dense(x, self.hidden[...]) + self.bias[...].astype(x.dtype)), self.heads)
        return jnp.pad(h, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=1)

    def init_state(self, batch: int, length: int) -> KeyValues:
        """The values of all tokens, and their keys where the form has them."""
        cache = empty(self, batch, length)
        return cache if "dot" in self.parts else cache._replace(k=cache.k[..., :0])

    def prefill(self, state: KeyValues, x: Float[Array, "B N D"]) -> tuple[KeyValues, Float[Array, "B N D"]]:
        q, k, v = self.projected_at(x, state.place)
        asking = self.asking(x, q, (state.place, x.shape[1]))
        state, y = attended(state, q if asking is None else asking, k, v, always, score=self.score)
        return state, self.output(y.astype(x.dtype))

    def score(
        self, q: Float[Array, "B H N J"], k: Float[Array, "B H S K"], i: Int[Array, "N 1"], j: Int[Array, "1 S"]
    ) -> Float32[Array, "B H N S"]:
        """The logits of rows as `asking` has them. The places j follow one another, and there are rows for all."""
        first, q = jnp.maximum(j[0, 0], 0), q * max(q.shape[-1], 1) ** -0.5
        at = first, j.shape[1]
        parts, joined = self.asked_parts(k, at), self.asked(k, at)
        if joined is not None and q.shape[2] > 1:  # for a single query, joining all rows is more work than products
            parts = [joined]
        scores = jnp.zeros((len(q), 1, 1, 1))
        for rows in parts:
            part, q = q[..., : rows.shape[-1]], q[..., rows.shape[-1] :]
            scores += product("bhnj,bhsj->bhns" if rows.ndim == 4 else "bhnj,hsj->bhns", part, rows.astype(q.dtype))
        if "random" in self.parts:
            scores = scores + jnp.moveaxis(self.table[i, :, jnp.maximum(j[0], 0)], 2, 0) * self.shares()["random"]
        return scores


def rows_at(rows: Float[Array, "H L J"], at: Places) -> Float[Array, "H N J"]:
    """The rows at some places."""
    return rows[:, at] if isinstance(at, slice) else jax.lax.dynamic_slice_in_dim(rows, *at, axis=1)


def everywhere(rows: Float[Array, "*B H N J"], x: Float[Array, "B H N K"]) -> Float[Array, "B H N J"]:
    """Such rows for every text of the batch, in x's dtype."""
    return jnp.broadcast_to(rows.astype(x.dtype), (len(x), *rows.shape[-3:]))


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """All weight on the dot product."""
    mixer = Mixer(Config(form="dense+dot"), dims, rngs=rngs)
    mixer.weights[...] = jnp.array([-40.0, 40.0])
    return [mixer]
