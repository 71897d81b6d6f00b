"""S5 (Smith et al., arXiv 2208.04933): one state space with a diagonal state for all channels, both ways.

    h_t = Abar h_{t-1} + Bbar u_t,   y_t = Re(C h_t) + d u_t                             (the diagonalised state space)
    Abar = e^{A dt},  Bbar = A^{-1} (Abar - 1) B           zero-order hold
    y = g sigmoid(g W + b),  g = gelu(Re(C_1 h + C_2 h') + d u)    h' is h of the reversed text      (the authors' code)

A starts as the eigenvalues of HiPPO-N, in blocks; of each conjugate pair one is kept. Padding is zero input: the state,
that of the reversed text too, stays 0 until the first token. Where it is causal, there is no h' and no C_2.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Complex64, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.dense import dense
from lra_bench.kernels.recurrence import continued, recurrence
from lra_bench.mixers.base import Dims, Dynamics, MixerBase, implementation
from lra_bench.mixers.card import Card, Walked
from lra_bench.mixers.layers import Dense

CARD = Card(
    title="S5",
    family="state-space",
    paper="2208.04933",
    equation="the diagonalised MIMO state space with zero-order hold",
    year=2022,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="yes",
    public="lindermanlab/S5 (JAX, associative scan)",
    differs="the real part of A is -exp of a parameter, so that the state cannot grow; the gated activation that "
    "follows a state space in the paper's layer belongs to the mixer (on ListOps and text the authors gate the state "
    "space's own output, elsewhere its GELU, as we do); no batch norm: our backbone has layer norms",
)

LECUN = nnx.initializers.lecun_normal()
STARTS = ("lecun_normal", "trunc_standard_normal", "complex_normal")  # of C
TRUNCATED = 0.87962566103423978  # the deviation of a normal number that is drawn again where it is beyond 2


@dataclass(frozen=True)
class Config(Walked):
    """The state, and where it starts."""

    states: int = 64
    """P: the state of all channels together, in conjugate pairs. The paper's run from 16 to 384 with widths of 128 to
    512, about as many as there are channels; ours have 64."""

    blocks: int = 4
    """J: at the start A is J times the same HiPPO-N matrix of size P / J. The authors' LRA runs have 3 to 16."""

    dt_min: float = 1e-3
    """The least step at the start; each state's is drawn log-uniformly."""

    dt_max: float = 1e-1
    """The largest step at the start."""

    start: str = "lecun_normal"
    """C at the start, by the names in the authors' code: lecun_normal, theirs on ListOps, text and images;
    trunc_standard_normal, sqrt D times as large, on retrieval and Pathfinder; complex_normal, of size 1, on Path-X."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start not in STARTS:
            raise ConfigError(f"start: '{self.start}'; it can be: {', '.join(STARTS)}")
        if self.blocks < 1:
            raise ConfigError(f"blocks: {self.blocks}; at least 1")
        if self.states < 2 or self.states % (2 * self.blocks):
            raise ConfigError(f"states: {self.states}; a multiple of twice the {self.blocks} blocks")
        if not 0 < self.dt_min <= self.dt_max:
            raise ConfigError(f"dt_min: {self.dt_min}; above 0 and at most dt_max, {self.dt_max}")


class Mixer(MixerBase):
    """A recurrence over the tokens from both ends; where it is causal, from the first token alone."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims)
        D, P = dims.width, config.states
        self.readings = (False,) if dims.causal else (False, True)  # is it from the last token to the first?
        A, V = hippo_normal(P // config.blocks)
        A, V = np.tile(A, config.blocks), np.kron(np.eye(config.blocks), V)
        ends = jnp.log(jnp.array([config.dt_min, config.dt_max]))
        self.log_dt = Dynamics(jax.random.uniform(rngs.params(), (P // 2,), minval=ends[0], maxval=ends[1]))
        self.log_decay = Dynamics(jnp.log(-A.real).astype(jnp.float32))
        self.frequency = Dynamics(jnp.asarray(A.imag, jnp.float32))
        B = V.conj().T @ LECUN(rngs.params(), (P, D))
        self.b = Dynamics(jnp.stack([B.real, B.imag]))
        self.c = nnx.Param(readout(config.start, V, (len(self.readings), 2, D), rngs))
        self.d = nnx.Param(jax.random.normal(rngs.params(), (D,)))
        self.gate = Dense(D, D, start=LECUN, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        x = x * mask[..., None].astype(x.dtype)
        Abar, u = self.inputs(x)
        return self.read([recurrence(Abar, u, back, self.impl) for back in self.readings], x)

    def inputs(self, x: Float[Array, "B L D"]) -> tuple[Complex64[Array, " S"], Complex64[Array, "B L S"]]:
        """Abar, and Bbar x of each token, for one state of each conjugate pair."""
        A = -jnp.exp(self.log_decay[...]) + 1j * self.frequency[...]
        Abar = jnp.exp(A * jnp.exp(self.log_dt[...]))
        Bbar = ((Abar - 1) / A)[:, None] * (self.b[0] + 1j * self.b[1])
        u = dense(x.astype(jnp.float32), jnp.concatenate([Bbar.real, Bbar.imag]).T)
        return Abar, jax.lax.complex(*jnp.split(u, 2, axis=-1))

    def read(self, states: list[Complex64[Array, "B L S"]], x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """y of the states of each reading."""
        parts = [part for h in states for part in (h.real, h.imag)]
        signs = jnp.array([2.0, -2.0])[:, None, None]  # 2 Re(C h): of both of the pair
        C = (self.c[...] * signs).transpose(0, 1, 3, 2).reshape(-1, x.shape[-1])
        y = dense(jnp.concatenate(parts, axis=-1), C)
        return gated((y + self.d[...] * x).astype(x.dtype), self.gate.kernel[...], self.gate.bias[...])

    def init_state(self, batch: int, length: int) -> Complex64[Array, "B S"]:
        """h, however long the text is."""
        return jnp.zeros((batch, self.log_dt.shape[0]), jnp.complex64)

    def step(self, state: Array, x: Float[Array, "B D"]) -> tuple[Array, Float[Array, "B D"]]:
        state, y = self.prefill(state, x[:, None])
        return state, y[:, 0]

    def prefill(self, state: Array, x: Float[Array, "B N D"]) -> tuple[Array, Float[Array, "B N D"]]:
        Abar, u = self.inputs(x)
        state, states = continued(Abar, state, u, self.impl)
        return state, self.read([states], x)


@jax.checkpoint
def gated(y: Float[Array, "B L D"], W: Float[Array, "D D"], b: Float[Array, "D"]) -> Float[Array, "B L D"]:
    """g sigmoid(g W + b), g = gelu(y); for the backward pass only y is kept."""
    g = jax.nn.gelu(y)
    return g * jax.nn.sigmoid(dense(g, W) + b.astype(y.dtype))


def readout(start: str, V: np.ndarray, shape: tuple[int, int, int], rngs: nnx.Rngs) -> Float[Array, "readings 2 D S"]:
    """C at the start: of each reading the real and the imaginary part, for one state of each conjugate pair.

    A matrix [D, P] drawn before the state is diagonalized, times its eigenvectors `V` [P, S]; or drawn as it is. The
    last axis is not in `shape`.
    """
    P, S = V.shape
    if start == "complex_normal":
        return jax.random.normal(rngs.params(), (*shape, S)) * 0.5**0.5
    entries = P * shape[-1] if start == "lecun_normal" else P  # the authors' fan-in, by which the variance is divided
    drawn = jax.random.truncated_normal(rngs.params(), -2, 2, (*shape, P)) * (entries**-0.5 / TRUNCATED)
    C = jax.lax.complex(drawn[:, 0], drawn[:, 1]) @ V
    return jnp.stack([C.real, C.imag], axis=1)


def hippo_normal(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Of HiPPO-N [size, size], one eigenvalue of each conjugate pair, and its unit eigenvectors as columns.

    HiPPO-N is the normal part of HiPPO-LegS: -1/2 on the diagonal, and -sqrt((n + 1/2) (k + 1/2)) below it, the
    opposite above (appendix B.1.1; 2206.11893, equation 9).
    """
    root = np.sqrt(np.arange(size) + 0.5)
    skew = np.triu(np.outer(root, root), 1)
    frequency, vectors = np.linalg.eigh(-1j * (skew - skew.T))
    return -0.5 + 1j * frequency[size // 2 :], vectors[:, size // 2 :]
