"""Mega (Ma et al., arXiv 2209.10655): a damped moving average, then gated attention of a single head.

    u_t = alpha beta x_t + (1 - alpha delta) u_{t-1},   e_t = eta . u_t     n numbers u a channel     (equations 4 to 6)
    x' = silu(e + omega x)                                   omega: a number a channel            (the authors' code)
    z = silu(x' W_z + b_z),  q = kappa_q z + mu_q,  k = kappa_k z + mu_k,  v = silu(x W_v + b_v)     (equations 7 to 10)
    o = f(q k^T / tau + b_rel) v                                            in chunks                      (equation 11)
    r = silu(x' W_r + b_r),  g = sigmoid(x' W_g + b_g),  h = silu(x' W_h + (r o) U + b_h)           (equations 12 to 14)
    y = g h                                                                                                (equation 15)

Padding is zero input to the moving average, and no key. Where it is causal, as in the paper's language models (section
4.3), the average is of what came before alone, and so are a query's keys in its chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.errors import ConfigError
from lra_bench.kernels.chunk_attention import chunk_attention, chunk_weights
from lra_bench.kernels.dense import dense
from lra_bench.kernels.exponential_sum import continued, exponential_sum
from lra_bench.kernels.long_convolution import causal_convolution, long_convolution, two_sided
from lra_bench.mixers.base import Dims, Dynamics, MixerBase, implementation
from lra_bench.mixers.caches import KeyValues, room, weighed
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
    causal_form="yes",
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


class State(NamedTuple):
    """The moving average of all tokens, and keys and values of the last c, which the next token's chunk lies in."""

    u: Float32[Array, "B D n"]
    chunk: KeyValues


class Mixer(MixerBase):
    """A moving average from both ends, where it is causal from the first token, says what is near; attention, with its
    distances as a bias, picks."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims)
        D, Z, V, n = dims.width, config.shared, config.expand * dims.width, config.ema
        self.laplace, self.cuts = config.laplace, (Z, Z + V, Z + V + D)
        c = self.chunk = min(config.chunk or dims.length, dims.length)
        self.causal, self.dtype = dims.causal, dims.dtype
        directions = 1 if dims.causal else 2
        draw = lambda std, *shape: std * jax.random.normal(rngs.params(), shape)  # noqa: E731
        self.alpha, self.delta = (Dynamics(draw(0.2, directions, D, n)) for _ in range(2))
        self.beta = Dynamics((-1.0) ** jnp.arange(n) + draw(0.02, directions, D, n))
        self.eta, self.omega = nnx.Param(draw(1.0, directions, D, n)), nnx.Param(draw(1.0, D))
        self.averaged = Dense(D, Z + V + 2 * D, start=NORMAL, rngs=rngs)  # to z, r, g and h
        self.values = Dense(D, V, start=NORMAL, rngs=rngs)
        self.kappa, self.mu = nnx.Param(draw(STD, 2, Z)), nnx.Param(jnp.zeros((2, Z)))
        self.distances = nnx.Param(draw(STD, c if dims.causal else 2 * c - 1))
        self.attended = nnx.Param(draw(STD, V, D))

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        u, filters = x * mask[..., None].astype(x.dtype), self.filters(x.shape[1])
        e = causal_convolution(u, filters[0]) if self.causal else long_convolution(u, two_sided(*filters))
        q, k, v, *gates = self.asked(e, x)
        o = chunk_attention(q, k, v, mask, self.distances[...], self.laplace, self.causal, self.impl)
        return self.read(o, *gates)

    def asked(self, e: Float[Array, "B L D"], x: Float[Array, "B L D"]) -> tuple[Float[Array, "B L _"], ...]:
        """Queries, keys, values, and r, g and h before they are activated, of the moving average e."""
        average = smoothed(e, x, self.omega[...])
        z, r, g, h = jnp.split(self.averaged(average), self.cuts, axis=-1)
        kappa, mu = self.kappa[...].astype(x.dtype), self.mu[...].astype(x.dtype)
        q, k = (kappa[i] * jax.nn.silu(z) + mu[i] for i in range(2))
        return q, k, jax.nn.silu(self.values(x)), r, g, h

    def read(
        self, o: Float[Array, "B L V"], r: Float[Array, "B L V"], g: Float[Array, "B L D"], h: Float[Array, "B L D"]
    ) -> Float[Array, "B L D"]:
        """y of what attention read."""
        return gated(g, h, dense(jax.nn.silu(r) * o, self.attended[...]))

    def filters(self, length: int) -> Float[Array, "directions D L"]:
        """e of a single 1, t tokens after it: sum_n alpha beta eta (1 - alpha delta)^t, for each direction."""
        weight, kept = self.exponentials()
        return exponential_sum(weight, kept, length).reshape(len(self.alpha[...]), -1, length)

    def exponentials(self) -> tuple[Float[Array, "M n"], Float[Array, "M n"]]:
        """alpha beta eta, and the logarithm of 1 - alpha delta; the directions' channels one after another.

        As in the authors' code the parameter is eta times the root of n, which is as large as the others.
        """
        alpha, delta = jax.nn.sigmoid(self.alpha[...]), jax.nn.sigmoid(self.delta[...])
        kept = jnp.log(jnp.maximum(1 - alpha * delta, LEAST))
        eta = self.eta[...] * self.eta.shape[-1] ** -0.5
        weight, kept = (a.reshape(-1, a.shape[-1]) for a in (alpha * self.beta[...] * eta, kept))
        return weight, kept

    def init_state(self, batch: int, length: int) -> State:
        """However long the text is, if a chunk is shorter."""
        _, D, n = self.alpha.shape
        Z, V = self.kappa.shape[1], self.attended.shape[0]
        chunk = room((batch, 1, min(self.chunk, length)), (Z, V), self.dtype)
        return State(jnp.zeros((batch, D, n), jnp.float32), chunk)

    def step(self, state: State, x: Float[Array, "B D"]) -> tuple[State, Float[Array, "B D"]]:
        state, y = self.prefill(state, x[:, None])
        return state, y[:, 0]

    def prefill(self, state: State, x: Float[Array, "B N D"]) -> tuple[State, Float[Array, "B N D"]]:
        u, e = continued(state.u, x, *self.exponentials())
        q, k, v, *gates = self.asked(e.astype(x.dtype), x)
        q, k, v = (part[:, None] for part in (q, k, v))
        chunk, o = weighed(state.chunk, q, k, v, self.together, self.weights)
        return State(u, chunk), self.read(o[:, 0], *gates)

    def together(self, i: Int[Array, "N 1"], j: Int[Array, "1 S"]) -> Bool[Array, "N S"]:
        """Whether two places are of one chunk."""
        return i // self.chunk == j // self.chunk

    def weights(
        self,
        q: Float[Array, "B 1 N Z"],
        k: Float[Array, "B 1 S Z"],
        seen: Bool[Array, "N S"],
        distance: Int[Array, "N S"],
    ) -> Float32[Array, "B 1 N S"]:
        """f(q k^T / tau + b_rel)."""
        bias = self.distances[...][jnp.clip(distance, 0, self.chunk - 1)]
        return chunk_weights(q, k, seen, bias, self.laplace)


@jax.checkpoint
def smoothed(e: Float[Array, "B L D"], x: Float[Array, "B L D"], omega: Float[Array, "D"]) -> Float[Array, "B L D"]:
    """silu(e + omega x); for the backward pass only the arguments are kept."""
    return jax.nn.silu(e + omega.astype(x.dtype) * x)


@jax.checkpoint
def gated(g: Float[Array, "B L D"], h: Float[Array, "B L D"], o: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """sigmoid(g) silu(h + o); for the backward pass only the arguments are kept."""
    return jax.nn.sigmoid(g) * jax.nn.silu(h + o)
