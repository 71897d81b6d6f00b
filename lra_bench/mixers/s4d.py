"""S4D (Gu et al., arXiv 2206.11893): each channel is filtered by a diagonal state space of its own, both ways.

    h'(t) = A h(t) + u(t),  y(t) = Re(C h(t)) + d u(t)        A diagonal, [N]
    K_t = Re sum_n C_n (e^{dt A_n} - 1) / A_n e^{dt A_n t}    zero-order hold                     (the S4D kernel)
    y = GLU(W gelu(K_forward * u + K_backward * reversed u + d u))

Of complex eigenvalues half is kept, for the other half is conjugate to it. Padding is zero input; the convolution is
linear, so the state stays 0 there. Where it is causal, there is no K_backward.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Inexact

from lra_bench.errors import ConfigError
from lra_bench.kernels.exponential_sum import continued, exponential_sum
from lra_bench.kernels.glu import glu
from lra_bench.kernels.long_convolution import causal_convolution, long_convolution, two_sided
from lra_bench.mixers.base import Dims, Dynamics, MixerBase
from lra_bench.mixers.card import Card
from lra_bench.mixers.layers import Dense

CARD = Card(
    title="S4D",
    family="state-space",
    paper="2206.11893",
    equation="the S4D kernel with zero-order hold; equations 8 and 9",
    year=2022,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="yes",
    public="state-spaces/s4 (CUDA for the kernel, Fourier transforms)",
    differs="both directions share A and dt and have a C each, and a token is in both; the GELU and the gated linear "
    "layer that follow a state space in the paper's block belong to the mixer",
    short={"states": 8},
)


gelu = jax.checkpoint(jax.nn.gelu)  # only its argument is kept for the backward pass


@dataclass(frozen=True)
class Config:
    """The state of a channel, and where it starts."""

    states: int = 64
    """N: the state of a channel; 32 conjugate pairs, or 64 real numbers with `start` real."""

    start: str = "lin"
    """A at the start (section 4): lin: -1/2 + i pi n (equation 9); inv: -1/2 + i N/pi (N/(2n+1) - 1) (equation 8);
    real: -(n + 1)."""

    dt_min: float = 1e-3
    """The least step at the start; each channel's is drawn log-uniformly."""

    dt_max: float = 1e-1
    """The largest step at the start."""

    def __post_init__(self) -> None:
        if self.states < 2 or self.states % 2:
            raise ConfigError(f"states: {self.states}; even, and at least 2")
        if self.start not in ("lin", "inv", "real"):
            raise ConfigError(f"start: '{self.start}'; it can be: lin, inv, real")
        if not 0 < self.dt_min <= self.dt_max:
            raise ConfigError(f"dt_min: {self.dt_min}; above 0 and at most dt_max, {self.dt_max}")


class Mixer(MixerBase):
    """Two long filters a channel, made of a few exponentials each; where it is causal, one."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        D, directions = dims.width, 1 if dims.causal else 2
        self.causal = dims.causal
        A = start(config)
        ends = jnp.log(jnp.array([config.dt_min, config.dt_max]))
        self.log_dt = Dynamics(jax.random.uniform(rngs.params(), (D,), minval=ends[0], maxval=ends[1]))
        self.log_decay = Dynamics(jnp.tile(jnp.log(-A.real), (D, 1)))
        self.complex = jnp.iscomplexobj(A)
        if self.complex:
            self.frequency = Dynamics(jnp.tile(A.imag, (D, 1)))
        parts = 2 if self.complex else 1  # real and imaginary: |C|^2 is 1 on the average, as in the authors' code
        self.c = nnx.Param(jax.random.normal(rngs.params(), (directions, parts, D, len(A))) * parts**-0.5)
        self.d = nnx.Param(jax.random.normal(rngs.params(), (D,)))
        self.out = Dense(D, 2 * D, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        u = x * mask[..., None].astype(x.dtype)
        filters = self.filters(x.shape[1])
        y = causal_convolution(u, filters[0]) if self.causal else long_convolution(u, two_sided(*filters))
        return self.read(y, u)

    def read(self, y: Float[Array, "B L D"], u: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """What follows the filters."""
        return glu(self.out(gelu(y + self.d.astype(u.dtype) * u)))

    def filters(self, length: int) -> Float[Array, "directions D L"]:
        """K of each direction, for lags from 0 to L - 1."""
        return exponential_sum(*self.exponentials(), length)

    def exponentials(self) -> tuple[Inexact[Array, "directions D N"], Inexact[Array, "D N"]]:
        """The weights and the rates of which K is the sum."""
        A: Inexact[Array, "D N"] = -jnp.exp(self.log_decay[...])
        C: Inexact[Array, "directions D N"] = self.c[:, 0]
        if self.complex:
            A = A + 1j * self.frequency[...]
            C = 2 * (C + 1j * self.c[:, 1])
        step = jnp.exp(self.log_dt[...])[:, None] * A
        return C * jnp.expm1(step) / A, step

    def init_state(self, batch: int, length: int) -> Inexact[Array, "B D N"]:
        """h, however long the text is."""
        return jnp.zeros((batch, *self.log_decay.shape), jnp.complex64 if self.complex else jnp.float32)

    def step(self, state: Array, x: Float[Array, "B D"]) -> tuple[Array, Float[Array, "B D"]]:
        state, y = self.prefill(state, x[:, None])
        return state, y[:, 0]

    def prefill(self, state: Array, x: Float[Array, "B T D"]) -> tuple[Array, Float[Array, "B T D"]]:
        (weight,), rate = self.exponentials()
        state, y = continued(state, x, weight, rate)
        return state, self.read(y.astype(x.dtype), x)


def start(config: Config) -> Inexact[Array, " N"]:
    """A at the start."""
    N, n = config.states, jnp.arange(config.states // 2)
    if config.start == "real":
        return -(jnp.arange(N) + 1.0)
    imaginary = jnp.pi * n if config.start == "lin" else N / jnp.pi * (N / (2 * n + 1) - 1)
    return -0.5 + 1j * imaginary
