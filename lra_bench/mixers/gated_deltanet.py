"""Gated DeltaNet (Yang et al., arXiv 2412.06464): a memory that forgets as a whole, and that a token's value replaces
what its key finds in it.

    S_t = a_t (1 - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,   o_t = S_t^T q_t                         (equation 10)
    a_t = exp(-exp(A) softplus(x_t W_a + b)),  beta_t = sigmoid(x_t W_beta),   y = (RMSNorm(o) silu(x W_r)) W_o
    q, k, v = silu(conv(x W)), q and k then of unit length                                                    (figure 1)

The text is read from both ends, each reading with an `a` and a beta of its own; o is the sum of both, a token being in
either. Padding has q = k = v = 0, zero before the short convolution too, and a = 1: the state stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.dense import dense
from lra_bench.kernels.gated_delta_rule import two_readings
from lra_bench.kernels.short_convolution import short_convolution
from lra_bench.mixers.base import Dims, Dynamics, MixerBase, implementation
from lra_bench.mixers.card import Card, Walked
from lra_bench.mixers.heads import cut, join
from lra_bench.mixers.layers import XAVIER, Dense

CARD = Card(
    title="Gated DeltaNet",
    family="recurrence",
    paper="2412.06464",
    equation="equation 10 (section 3.1) and figure 1",
    year=2024,
    time=1.0,
    memory=1.0,
    exact_when="",
    public="chunk_gated_delta_rule of flash-linear-attention (Triton)",
    differs="not causal: the text is read from both ends, with the same queries, keys and values but gates of each "
    "reading's own, and the two are added; short convolutions of 3 taps, one to each side, not of 4 that look back; "
    "values as wide as keys (the authors' code: twice as wide)",
)


@dataclass(frozen=True)
class Config(Walked):
    """The gates at the start."""

    dt_min: float = 1e-3
    """The least softplus(b) at the start, drawn log-uniformly: with A it says how fast the memory fades."""

    dt_max: float = 1e-1
    """The largest softplus(b) at the start."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.dt_min <= self.dt_max:
            raise ConfigError(f"dt_min: {self.dt_min}; above 0 and at most dt_max, {self.dt_max}")


class Mixer(MixerBase):
    """Two readings of the text."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims)
        D, H, J = dims.width, dims.heads, dims.heads * dims.head_width
        self.heads = H
        self.qkvr = nnx.Param(jnp.concatenate([XAVIER(rngs.params(), (D, J)) for _ in range(4)], axis=1))
        self.taps = nnx.Param(jax.random.uniform(rngs.params(), (3, 3 * J), minval=-1, maxval=1) * 3**-0.5)
        self.gates = Dense(D, 4 * H, rngs=rngs)  # a forward and backward, beta forward and backward
        ends = jnp.log(jnp.array([config.dt_min, config.dt_max]))
        dt = jnp.exp(jax.random.uniform(rngs.params(), (2 * H,), minval=ends[0], maxval=ends[1]))
        self.dt = Dynamics(jnp.log(jnp.expm1(dt)))
        self.log_a = Dynamics(jnp.log(jax.random.uniform(rngs.params(), (2 * H,), minval=1, maxval=16)))
        self.scale = nnx.Param(jnp.ones(dims.head_width))
        self.out = nnx.Param(XAVIER(rngs.params(), (J, D)))

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        there = mask[..., None].astype(x.dtype)
        z = dense(x, self.qkvr[...])
        J = z.shape[-1] // 4
        mixed = jax.nn.silu(short_convolution(z[..., : 3 * J] * there, self.taps[...])) * there
        q, k, v = (cut(part, self.heads) for part in jnp.split(mixed, 3, axis=-1))
        a, beta = jnp.split(self.gates(x).astype(jnp.float32), 2, axis=-1)
        g = -jnp.exp(self.log_a[...]) * jax.nn.softplus(a + self.dt[...]) * mask[..., None]
        y = two_readings(unit(q) * q.shape[-1] ** -0.5, unit(k), v, g, jax.nn.sigmoid(beta), self.impl)
        y = join(normed(y, self.scale[...]))
        return dense(jax.nn.silu(z[..., 3 * J :]) * y, self.out[...])


def unit(x: Float[Array, "... K"]) -> Float[Array, "... K"]:
    """x at a length of 1; 0 stays 0."""
    x_ = x.astype(jnp.float32)
    return (x_ * jax.lax.rsqrt((x_**2).sum(-1, keepdims=True) + 1e-6)).astype(x.dtype)


def normed(x: Float[Array, "... K"], scale: Float[Array, " K"]) -> Float[Array, "... K"]:
    """x over the root of its mean square (RMSNorm, arXiv 1910.07467), in float32."""
    x_ = x.astype(jnp.float32)
    return (x_ * jax.lax.rsqrt((x_**2).mean(-1, keepdims=True) + 1e-6) * scale).astype(x.dtype)
