"""Hyena (Poli et al., arXiv 2302.10866): long convolutions and gates by turns, the filters made by a small network.

    z^1 = x^1 v,   z^{n+1} = x^{n+1} (h^n * z^n),   y = z^N W_o    v, x^1 .. x^N: projections of x     (definition 3.1,
                                                                   less the filter before the first gate)
    h_t = exp(-|t| delta) FFN(t)                                   t: the lag; FFN: with sines             (equation 7)

Projections go through a short convolution first. Filters are two-sided: as many lags to come as past ones. Padding is
zero before each convolution. Where it is causal, all filters have past lags alone (proposition 3.1), and are of the
same strength however long a text is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from lra_bench.errors import ConfigError
from lra_bench.kernels.depthwise_convolution import looking_back
from lra_bench.kernels.long_convolution import at_latest, causal_convolution, long_convolution
from lra_bench.kernels.short_convolution import short_convolution
from lra_bench.mixers.base import Dims, Dynamics, MixerBase
from lra_bench.mixers.caches import behind
from lra_bench.mixers.card import Card
from lra_bench.mixers.layers import Dense

CARD = Card(
    title="Hyena",
    family="fourier",
    paper="2302.10866",
    equation="definition 3.1 and equation 7",
    year=2023,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="yes",
    public="HazyResearch/flash-fft-conv (CUDA)",
    differs="as in the released code the first gate meets v directly, so that order N has N - 1 long filters, not N as "
    "in definition 3.1. Unless it is causal, filters, the short ones too, are two-sided, the network taking lags of "
    "both signs; each is divided by the root of its window's sum of squares, or its gain would grow with the root of "
    "the length (where it is causal, the sum is over the backbone's length, not the text's). The filters' network is "
    "trained as a state space's dynamics are: without decay, at a rate of its own; its sines start at 10 (the paper's "
    "language models: 14)",
    padded_length="the norm by which a filter is divided, which is over all its lags",
)

BANDS = 16  # waves among the features of a lag, as in the released models
TAPS = 3  # of the short convolution
FAST, SLOW = 0.3, 1.5  # of the length: the lags at which the fastest and the slowest window have fallen to a hundredth


@dataclass(frozen=True)
class Config:
    """How many gates, and the network that makes the filters."""

    order: int = 2
    """N: gates, with a long filter between one and the next."""

    hidden: int = 64
    """Width of the filters' network, of three hidden layers; as in the paper's language models (table A.4)."""

    sine: float = 10.0
    """The factor inside the network's sines at the start."""

    def __post_init__(self) -> None:
        if self.order < 2:
            raise ConfigError(f"order: {self.order}; at least 2, for a long filter lies between two gates")
        if self.hidden < 1:
            raise ConfigError(f"hidden: {self.hidden}; at least 1")
        if self.sine <= 0:
            raise ConfigError(f"sine: {self.sine:g}; above 0")


class State(NamedTuple):
    """What the filters stand on before the next token, and the filters, which do not change."""

    near: Float[Array, "B T-1 E"]  # projections, E = (N + 1) D wide
    far: tuple[Float[Array, "B S D"], ...]  # each filter's tokens, in a ring
    filters: tuple[Float[Array, "S D"], ...]
    place: Int[Array, ""]  # of the next token


class Mixer(MixerBase):
    """Every token sees every other, where it is causal every earlier one, through filters as long as the text."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        D, N, hidden = dims.width, config.order, config.hidden
        self.order, self.length, self.causal, self.dtype = N, dims.length, dims.causal, dims.dtype
        self.projections = Dense(D, (N + 1) * D, rngs=rngs)
        self.taps = nnx.Param(uniform(rngs, (TAPS, (N + 1) * D), TAPS))
        self.shift = nnx.Param(uniform(rngs, ((N + 1) * D,), TAPS))
        widths = [1 + 2 * BANDS, hidden, hidden, hidden]
        shapes = list(pairwise(widths))
        self.layers = nnx.List([Dynamics(uniform(rngs, shape, shape[0])) for shape in shapes])
        self.biases = Dynamics(uniform(rngs, (len(shapes), hidden), hidden))
        self.sines = Dynamics(jnp.full(hidden, config.sine, jnp.float32))
        self.last = Dynamics(uniform(rngs, (N - 1, D, hidden), hidden))
        self.now = nnx.Param(jax.random.normal(rngs.params(), (N - 1, D)))
        self.out = Dense(D, D, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        there = mask[..., None].astype(x.dtype)
        y, *gates = self.begun(self.projections(x) * there)
        convolution = causal_convolution if self.causal else long_convolution
        for gate, h in zip(gates, self.filters(x.shape[1]), strict=True):
            y = gate * convolution(y * there, h)
        return self.out(y)

    def begun(self, projections: Float[Array, "B L E"]) -> list[Float[Array, "B L D"]]:
        """z^1 and the further gates."""
        short = partial(short_convolution, taps=self.taps[...])
        parts = (looking_back(short, TAPS // 2) if self.causal else short)(projections)
        first, *gates, v = jnp.split(parts + self.shift.astype(parts.dtype), self.order + 1, axis=-1)
        return [first * v, *gates]

    def filters(self, length: int) -> Float[Array, "M D W"]:
        """h for the lags from -(L - 1), where it is causal from 0, to L - 1; lag 0 has a weight of its own besides."""
        lag = jnp.arange(0 if self.causal else 1 - length, length)
        t = lag / self.length
        angle = 2 * jnp.pi * t[:, None] * jnp.linspace(1e-4, BANDS - 1, BANDS)
        f = jnp.concatenate([t[:, None], jnp.cos(angle), jnp.sin(angle)], axis=1)
        for weight, bias in zip(self.layers, self.biases[...], strict=True):
            f = jnp.sin(self.sines[...] * (f @ weight[...] + bias))
        rate = jnp.linspace(1 / SLOW, 1 / FAST, self.last.shape[1]) * math.log(100)
        window = jnp.exp(-abs(t) * rate[:, None])
        whole = jnp.exp(-jnp.arange(self.length) / self.length * rate[:, None]) if self.causal else window
        window = window * jax.lax.rsqrt((whole**2).sum(1, keepdims=True))
        h = window * jnp.einsum("ndh,wh->ndw", self.last[...], f)
        return h + self.now[..., None] * (lag == 0)

    def init_state(self, batch: int, length: int) -> State:
        """Of the long filters, room for what they are of: no smaller state makes what they make."""
        D, N = self.now.shape[1], self.order
        near = jnp.zeros((batch, TAPS - 1, (N + 1) * D), self.dtype)
        far = tuple(jnp.zeros((batch, length, D), self.dtype) for _ in range(N - 1))
        return State(near, far, tuple(self.filters(length).swapaxes(1, 2)), jnp.zeros((), jnp.int32))

    def step(self, state: State, x: Float[Array, "B D"]) -> tuple[State, Float[Array, "B D"]]:
        near, (y, *gates) = self.nearby(state, x[:, None])
        far = []
        for gate, h, ring in zip(gates, state.filters, state.far, strict=True):
            z = at_latest(ring, y[:, 0], h, behind(state.place, y))
            far.append(with_rows(ring, y, behind(state.place, z)))
            y = gate * z[:, None]
        return State(near, tuple(far), state.filters, state.place + 1), self.out(y[:, 0].astype(x.dtype))

    def prefill(self, state: State, x: Float[Array, "B N D"]) -> tuple[State, Float[Array, "B N D"]]:
        near, (y, *gates) = self.nearby(state, x)
        N, far = x.shape[1], []
        for gate, h, ring in zip(gates, state.filters, state.far, strict=True):
            far.append(with_rows(ring, y, state.place))
            y = gate * causal_convolution(y, h[:N].T)
        return State(near, tuple(far), state.filters, state.place + N), self.out(y.astype(x.dtype))

    def nearby(
        self, state: State, x: Float[Array, "B N D"]
    ) -> tuple[Float[Array, "B T-1 E"], list[Float[Array, "B N D"]]]:
        """The projections to be kept, and z^1 and the further gates of the tokens."""
        near = jnp.concatenate([state.near, self.projections(x).astype(state.near.dtype)], axis=1)
        return near[:, x.shape[1] :], [part[:, TAPS - 1 :] for part in self.begun(near)]


def with_rows(ring: Float[Array, "B S D"], x: Float[Array, "B N D"], place: Int[Array, ""]) -> Float[Array, "B S D"]:
    """With a further token, or with those that a text begins with: no more than there are slots."""
    return jax.lax.dynamic_update_slice_in_dim(ring, x.astype(ring.dtype), place % ring.shape[1], axis=1)


def uniform(rngs: nnx.Rngs, shape: tuple[int, ...], inputs: int) -> Float[Array, "..."]:
    """Between -1 and 1, over the root of the number of inputs."""
    return jax.random.uniform(rngs.params(), shape, minval=-1, maxval=1) * inputs**-0.5
