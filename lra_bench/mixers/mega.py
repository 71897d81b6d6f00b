"""Mega (Ma et al., arXiv 2209.10655): a damped moving average, then gated attention of a single head.

    u_t = alpha beta x_t + (1 - alpha delta) u_{t-1},   e_t = eta . u_t     n numbers u a channel     (equations 4 to 6)
    x' = silu(e + omega x)                                   omega: a number a channel            (the authors' code)
    z = silu(x' W_z + b_z),  q = kappa_q z + mu_q,  k = kappa_k z + mu_k,  v = silu(x W_v + b_v)     (equations 7 to 10)
    o = f(q k^T / tau + b_rel) v                                            in chunks                      (equation 11)
    r = silu(x' W_r + b_r),  g = sigmoid(x' W_g + b_g),  h = silu(x' W_h + (r o) U + b_h)           (equations 12 to 14)
    y = g h                                                                                                (equation 15)

Padding is zero input to the moving average, and no key.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.chunk_attention import chunk_attention
from lra_bench.kernels.dense import dense
from lra_bench.kernels.exponential_sum import exponential_sum
from lra_bench.kernels.long_convolution import long_convolution, two_sided
from lra_bench.mixers.base import Dims, Dynamics, MixerBase, implementation
from lra_bench.mixers.card import Card, Walked
from lra_bench.mixers.layers import Dense

CARD = Card(
    title="Mega",
    family="state-space",
    paper="2209.10655",
    equation="equations 4 to 15; section 3.4, Mega-chunk",
    year=2022,
    time=1.0,
    memory=1.0,
    exact_when="",
    public="facebookresearch/mega (PyTorch, Fourier transforms)",
    differs="attention in chunks, the paper's Mega-chunk, which is linear in L; `chunk` 0 is its Mega, and quadratic. "
    "The moving average ends in silu(e + omega x), as in the authors' code; in the paper's equations in e alone. The "
    "backbone's residual stands for the (1 - g) x that the paper adds to y. No scale norm: the backbone has layer "
    "norms",
    short={"chunk": 32, "shared": 16},
)
LEAST = 1e-6  # of what a moving average keeps: its logarithm is taken
STD = 0.02  # of weights, kappa and distances at the start, as in the authors' code
NORMAL = nnx.initializers.normal(STD)


@dataclass(frozen=True)
class Config(Walked):
    """The moving average, and the attention."""

    chunk: int = 128
    """c: tokens that attend to each other; 0: all. 128 in the paper's LRA, 4,096 on Path-X."""

    ema: int = 16
    """n: numbers that a channel's moving average keeps, in each direction."""

    shared: int = 64
    """Width of z, of which queries and keys are made."""

    expand: int = 2
    """Width of the values, as a multiple of D; 2 in the paper."""

    laplace: bool = False
    """The Laplace function in place of the softmax, as the paper has it for images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chunk < 0:
            raise ConfigError(f"chunk: {self.chunk}; at least 1, or 0 for no chunks")
        for option in ("ema", "shared", "expand"):
            if getattr(self, option) < 1:
                raise ConfigError(f"{option}: {getattr(self, option)}; at least 1")


class Mixer(MixerBase):
    """A moving average from both ends says what is near; attention, with its distances as a bias, picks."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims)
        D, Z, V, n = dims.width, config.shared, config.expand * dims.width, config.ema
        self.laplace, self.cuts = config.laplace, (Z, Z + V, Z + V + D)
        c = min(config.chunk or dims.length, dims.length)
        draw = lambda std, *shape: std * jax.random.normal(rngs.params(), shape)  # noqa: E731
        self.alpha, self.delta = Dynamics(draw(0.2, 2, D, n)), Dynamics(draw(0.2, 2, D, n))
        self.beta = Dynamics((-1.0) ** jnp.arange(n) + draw(0.02, 2, D, n))
        self.eta, self.omega = nnx.Param(draw(1.0, 2, D, n)), nnx.Param(draw(1.0, D))
        self.averaged = Dense(D, Z + V + 2 * D, start=NORMAL, rngs=rngs)  # to z, r, g and h
        self.values = Dense(D, V, start=NORMAL, rngs=rngs)
        self.kappa, self.mu = nnx.Param(draw(STD, 2, Z)), nnx.Param(jnp.zeros((2, Z)))
        self.distances = nnx.Param(draw(STD, 2 * c - 1))
        self.attended = nnx.Param(draw(STD, V, D))

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        average = long_convolution(x * mask[..., None].astype(x.dtype), two_sided(*self.filters(x.shape[1])))
        average = smoothed(average, x, self.omega[...])
        z, r, g, h = jnp.split(self.averaged(average), self.cuts, axis=-1)
        kappa, mu = self.kappa[...].astype(x.dtype), self.mu[...].astype(x.dtype)
        q, k = (kappa[i] * jax.nn.silu(z) + mu[i] for i in range(2))
        o = chunk_attention(q, k, jax.nn.silu(self.values(x)), mask, self.distances[...], self.laplace, self.impl)
        return gated(g, h, dense(jax.nn.silu(r) * o, self.attended[...]))

    def filters(self, length: int) -> Float[Array, "2 D L"]:
        """e of a single 1, t tokens after it: sum_n alpha beta eta (1 - alpha delta)^t, for both directions.

        As in the authors' code the parameter is eta times the root of n, which is as large as the others.
        """
        alpha, delta = jax.nn.sigmoid(self.alpha[...]), jax.nn.sigmoid(self.delta[...])
        kept = jnp.log(jnp.maximum(1 - alpha * delta, LEAST))
        eta = self.eta[...] * self.eta.shape[-1] ** -0.5
        weight, kept = (a.reshape(-1, a.shape[-1]) for a in (alpha * self.beta[...] * eta, kept))
        return exponential_sum(weight, kept, length).reshape(2, -1, length)


@jax.checkpoint
def smoothed(e: Float[Array, "B L D"], x: Float[Array, "B L D"], omega: Float[Array, "D"]) -> Float[Array, "B L D"]:
    """silu(e + omega x); for the backward pass only the arguments are kept."""
    return jax.nn.silu(e + omega.astype(x.dtype) * x)


@jax.checkpoint
def gated(g: Float[Array, "B L D"], h: Float[Array, "B L D"], o: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """sigmoid(g) silu(h + o); for the backward pass only the arguments are kept."""
    return jax.nn.sigmoid(g) * jax.nn.silu(h + o)
