"""Gated DeltaNet (Yang et al., arXiv 2412.06464): a memory that forgets as a whole, and that a token's value replaces
what its key finds in it.

    S_t = a_t (1 - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,   o_t = S_t^T q_t                         (equation 10)
    a_t = exp(-exp(A) softplus(x_t W_a + b)),  beta_t = sigmoid(x_t W_beta),   y = (RMSNorm(o) silu(x W_r)) W_o
    q, k, v = silu(conv(x W)), q and k then of unit length                                                    (figure 1)

The text is read from both ends, each reading with an `a` and a beta of its own; o is the sum of both, a token being in
either. Padding has q = k = v = 0, zero before the short convolution too, and a = 1: the state stays as it is. Where it
is causal, there is the one reading of the paper, and the short convolution has 4 taps that look back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Float32

from lra_bench.errors import ConfigError
from lra_bench.kernels.dense import dense
from lra_bench.kernels.gated_delta_rule import causal_gated_delta_rule, extended, two_readings
from lra_bench.kernels.impl import XLA
from lra_bench.kernels.short_convolution import short_convolution
from lra_bench.mixers.base import Dims, Dynamics, Prefilled, implementation
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
    causal_form="yes",
    public="chunk_gated_delta_rule of flash-linear-attention (Triton)",
    differs="where it is not causal, the text is read from both ends, with the same queries, keys and values but "
    "gates of each reading's own, and the two are added, and short convolutions have 3 taps, one to each side, not 4 "
    "that look back; values as wide as keys (the authors' code: twice as wide)",
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


class State(NamedTuple):
    """What decoding keeps of the tokens so far."""

    before: Float[Array, "B 3 3J"]  # of the last tokens, what the short convolution's taps stand on
    memory: Float32[Array, "B H K K"]


class Mixer(Prefilled):
    """Two readings of the text; causally, the first of them."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims)
        D, H, J = dims.width, dims.heads, dims.heads * dims.head_width
        self.heads, self.head_width, self.causal, self.dtype = H, dims.head_width, dims.causal, dims.dtype
        T, readings = (4, 1) if dims.causal else (3, 2)
        self.qkvr = nnx.Param(jnp.concatenate([XAVIER(rngs.params(), (D, J)) for _ in range(4)], axis=1))
        self.taps = nnx.Param(jax.random.uniform(rngs.params(), (T, 3 * J), minval=-1, maxval=1) * T**-0.5)
        self.gates = Dense(D, 2 * readings * H, rngs=rngs)  # a of each reading, beta of each
        ends = jnp.log(jnp.array([config.dt_min, config.dt_max]))
        dt = jnp.exp(jax.random.uniform(rngs.params(), (readings * H,), minval=ends[0], maxval=ends[1]))
        self.dt = Dynamics(jnp.log(jnp.expm1(dt)))
        self.log_a = Dynamics(jnp.log(jax.random.uniform(rngs.params(), (readings * H,), minval=1, maxval=16)))
        self.scale = nnx.Param(jnp.ones(dims.head_width))
        self.out = nnx.Param(XAVIER(rngs.params(), (J, D)))

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        there = mask[..., None].astype(x.dtype)
        z, r = self.projected(x)
        q, k, v = self.split(jax.nn.silu(short_convolution(z * there, self.taps[...], self.causal)) * there)
        g, beta = self.gated(x if self.impl == XLA else lax.optimization_barrier(x))  # dL/dz is then made once
        g = g * mask[..., None]
        if self.causal:
            g, beta = (y.swapaxes(1, 2) for y in (g, beta))
            return self.output(causal_gated_delta_rule(q, k, v, g, beta, self.impl), r)
        return self.output(two_readings(q, k, v, g, beta, self.impl), r)

    def projected(self, x: Float[Array, "B L D"]) -> tuple[Float[Array, "B L 3J"], Float[Array, "B L J"]]:
        """What the short convolution mixes, and x W_r."""
        z = dense(x, self.qkvr[...])
        J = z.shape[-1] // 4
        return z[..., : 3 * J], z[..., 3 * J :]

    def split(
        self, z: Float[Array, "B L 3J"]
    ) -> tuple[Float[Array, "B H L K"], Float[Array, "B H L K"], Float[Array, "B H L K"]]:
        """q and k, of unit length, and v, by heads."""
        q, k, v = (cut(part, self.heads) for part in jnp.split(z, 3, axis=-1))
        return unit(q) * q.shape[-1] ** -0.5, unit(k), v

    def gated(self, x: Float[Array, "B L D"]) -> tuple[Float32[Array, "B L R"], Float32[Array, "B L R"]]:
        """The logarithms of a, and beta, of all heads of each reading."""
        a, beta = jnp.split(self.gates(x).astype(jnp.float32), 2, axis=-1)
        return -jnp.exp(self.log_a[...]) * jax.nn.softplus(a + self.dt[...]), jax.nn.sigmoid(beta)

    def output(self, o: Float[Array, "B H L K"], r: Float[Array, "B L J"]) -> Float[Array, "B L D"]:
        """What is read, normalized and gated, through W_o."""
        return dense(jax.nn.silu(r) * join(normed(o, self.scale[...])), self.out[...])

    def init_state(self, batch: int, length: int) -> State:
        """S, and what the taps stand on, however long the text is."""
        T, width = self.taps.shape
        memory = jnp.zeros((batch, self.heads, self.head_width, self.head_width), jnp.float32)
        return State(jnp.zeros((batch, T - 1, width), self.dtype), memory)

    def prefill(self, state: State, x: Float[Array, "B N D"]) -> tuple[State, Float[Array, "B N D"]]:
        z, r = self.projected(x)
        z = jnp.concatenate([state.before, z.astype(state.before.dtype)], axis=1)
        known = state.before.shape[1]
        mixed = short_convolution(z, self.taps[...], self.causal)[:, known:]
        q, k, v = self.split(jax.nn.silu(mixed.astype(x.dtype)))
        g, beta = (y.swapaxes(1, 2) for y in self.gated(x))
        memory, o = extended(state.memory, q, k, v, g, beta)
        return State(z[:, z.shape[1] - known :], memory), self.output(o, r)


def unit(x: Float[Array, "... K"]) -> Float[Array, "... K"]:
    """x at a length of 1; 0 stays 0."""
    x_ = x.astype(jnp.float32)
    return (x_ * jax.lax.rsqrt((x_**2).sum(-1, keepdims=True) + 1e-6)).astype(x.dtype)


def normed(x: Float[Array, "... K"], scale: Float[Array, " K"]) -> Float[Array, "... K"]:
    """x over the root of its mean square (RMSNorm, arXiv 1910.07467), in float32."""
    x_ = x.astype(jnp.float32)
    return (x_ * jax.lax.rsqrt((x_**2).mean(-1, keepdims=True) + 1e-6) * scale).astype(x.dtype)
