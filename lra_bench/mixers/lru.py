"""Linear recurrent unit (Orvieto et al., arXiv 2303.06349): a complex diagonal recurrence, stable by its parameters.

    h_t = lambda h_{t-1} + gamma (B u_t),  y_t = Re(C h_t) + d u_t,   lambda = exp(-exp(nu) + i exp(theta))
                                                                                (sections 3.3 and 3.4, equation 7)
    y = GLU(W gelu(Re(C_1 h + C_2 h') + d u))        h' is h of the reversed text

lambda starts uniformly on a ring of the unit disk, and gamma at sqrt(1 - |lambda|^2), so that h is as large as its
input. Padding is zero input: the state, that of the reversed text too, stays 0 until the first token. Where it is
causal, there is no h' and no C_2, as in the paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Complex64, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.dense import dense
from lra_bench.kernels.glu import glu
from lra_bench.kernels.recurrence import continued, recurrence
from lra_bench.mixers.base import Dims, Dynamics, MixerBase, implementation
from lra_bench.mixers.card import Card, Walked
from lra_bench.mixers.layers import Dense

CARD = Card(
    title="Linear recurrent unit",
    family="state-space",
    paper="2303.06349",
    equation="sections 3.3 and 3.4, equation 7",
    year=2023,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="yes",
    public="NicolasZucchet/minimal-LRU (JAX, associative scan)",
    differs="both directions share the recurrence and have a C each; the GELU and the gated linear layer that follow a "
    "recurrence in the paper's block belong to the mixer; no batch normalization: our backbone has layer norms; both "
    "ways on all tasks (the paper: Pathfinder and Path-X), with angles below pi / 5 (the paper: a whole turn, pi / 10 "
    "on Path-X)",
)


gelu = jax.checkpoint(jax.nn.gelu)  # only its argument is kept for the backward pass


@dataclass(frozen=True)
class Config(Walked):
    """The state, and the ring on which its eigenvalues start."""

    states: int = 64
    """N: complex numbers of state. The paper's run from 192 to 384, with widths of 128 to 512 (table 9)."""

    radius_min: float = 0.9
    """The least |lambda| at the start."""

    radius_max: float = 0.999
    """The largest |lambda| at the start: it forgets within some 1 / (1 - |lambda|) tokens. The paper tunes
    both by task (table 8)."""

    phase: float = 0.6283185
    """The largest angle of lambda at the start. A whole turn fills the ring; less, as the paper has it for its longest
    texts (section 3.4), leaves out what is fast, and is learned from much sooner here."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.states < 1:
            raise ConfigError(f"states: {self.states}; at least 1")
        if not 0 <= self.radius_min < self.radius_max < 1:
            raise ConfigError(f"radius_min: {self.radius_min}; from 0 to below radius_max, {self.radius_max}, below 1")
        if not 0 < self.phase <= 2 * math.pi:
            raise ConfigError(f"phase: {self.phase}; above 0 and at most 2 pi")


class Mixer(MixerBase):
    """A recurrence over the tokens from both ends; where it is causal, from the first token alone."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims)
        D, N = dims.width, config.states
        self.readings = (False,) if dims.causal else (False, True)  # is it from the last token to the first?
        tiny = jnp.finfo(jnp.float32).eps
        inner, outer = config.radius_min**2, config.radius_max**2
        square, angle = jax.random.uniform(rngs.params(), (2, N), minval=tiny)
        square = inner + (outer - inner) * square  # of |lambda|: uniform on the ring by area
        self.nu = Dynamics(jnp.log(-jnp.log(square) / 2))
        self.theta = Dynamics(jnp.log(config.phase * angle))
        self.gamma = Dynamics(jnp.log1p(-square) / 2)
        self.b = Dynamics(jax.random.normal(rngs.params(), (2, N, D)) * (2 * D) ** -0.5)
        self.c = nnx.Param(jax.random.normal(rngs.params(), (len(self.readings), 2, N, D)) * N**-0.5)
        self.d = nnx.Param(jax.random.normal(rngs.params(), (D,)))
        self.out = Dense(D, 2 * D, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        x = x * mask[..., None].astype(x.dtype)
        a, u = self.inputs(x)
        return self.read([recurrence(a, u, back, self.impl) for back in self.readings], x)

    def inputs(self, x: Float[Array, "B L D"]) -> tuple[Complex64[Array, " N"], Complex64[Array, "B L N"]]:
        """lambda, and gamma B x of each token."""
        a = jnp.exp(-jnp.exp(self.nu[...]) + 1j * jnp.exp(self.theta[...]))
        B = (self.b[...] * jnp.exp(self.gamma[...])[:, None]).reshape(-1, x.shape[-1])
        return a, jax.lax.complex(*jnp.split(dense(x.astype(jnp.float32), B.T), 2, axis=-1))

    def read(self, states: list[Complex64[Array, "B L N"]], x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """y of the states of each reading."""
        parts = [part for h in states for part in (h.real, h.imag)]
        C = (self.c[...] * jnp.array([1.0, -1.0])[:, None, None]).reshape(-1, x.shape[-1])
        y = dense(jnp.concatenate(parts, axis=-1), C)
        return glu(self.out(gelu((y + self.d[...] * x).astype(x.dtype))))

    def init_state(self, batch: int, length: int) -> Complex64[Array, "B N"]:
        """h, however long the text is."""
        return jnp.zeros((batch, self.nu.shape[0]), jnp.complex64)

    def step(self, state: Array, x: Float[Array, "B D"]) -> tuple[Array, Float[Array, "B D"]]:
        state, y = self.prefill(state, x[:, None])
        return state, y[:, 0]

    def prefill(self, state: Array, x: Float[Array, "B N D"]) -> tuple[Array, Float[Array, "B N D"]]:
        a, u = self.inputs(x)
        state, states = continued(a, state, u, self.impl)
        return state, self.read([states], x)
