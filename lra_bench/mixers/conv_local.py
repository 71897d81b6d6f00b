"""A gated depthwise convolution, and nothing beyond its reach: a control for what is called long-range.

    y = conv(GLU(x W_i + b_i)) W_o + b_o         conv: every channel with its own filter of k taps

The block of lightweight convolutions (Wu et al., arXiv 1901.10430, figure 2) with the depthwise convolution of its
section 2. Padding is zero before the convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.depthwise_convolution import depthwise_convolution, looking_back
from lra_bench.kernels.glu import glu
from lra_bench.mixers.base import Dims, Prefilled
from lra_bench.mixers.card import Card
from lra_bench.mixers.layers import Dense

CARD = Card(
    title="Local convolution",
    family="fixed-pattern",
    paper="1901.10430",
    equation="section 2, depthwise convolutions; figure 2, the block",
    year=2019,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="yes",
    public="XLA's depthwise convolution, which is used here: cuDNN's on a GPU",
    differs="the paper's plain depthwise convolution: every channel has a filter of its own, and none is normalized; "
    "one width in all layers (the paper's grow from 3 to 31)",
    control="in each layer a token sees its nearest neighbors alone",
)


@dataclass(frozen=True)
class Config:
    """How far a token sees."""

    kernel: int = 31
    """k: taps of a filter, half of them to each side of a token; odd."""

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ConfigError(f"kernel: {self.kernel}; odd, and at least 1")


class Mixer(Prefilled):
    """Every token sees its nearest neighbors."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        D, k = dims.width, config.kernel
        self.causal, self.dtype = dims.causal, dims.dtype
        self.into = Dense(D, 2 * D, rngs=rngs)
        self.filters = nnx.Param(jax.random.normal(rngs.params(), (D, k)) * k**-0.5)
        self.out = Dense(D, D, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        u = glu(self.into(x)) * mask[..., None].astype(x.dtype)
        return self.out(looking_back(self.convolved, self.reach)(u) if self.causal else self.convolved(u))

    def convolved(self, u: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        """Every channel with its own filter, half of whose taps are to each side."""
        return depthwise_convolution(u.swapaxes(1, 2)[..., None], self.filters[...])[..., 0].swapaxes(1, 2)

    @property
    def reach(self) -> int:
        """Taps to each side of a filter's middle."""
        return self.filters.shape[1] // 2

    def init_state(self, batch: int, length: int) -> Float[Array, "B k-1 D"]:
        """What the filters' taps before the next token stand on."""
        return jnp.zeros((batch, 2 * self.reach, self.filters.shape[0]), self.dtype)

    def prefill(self, state: Array, x: Float[Array, "B N D"]) -> tuple[Array, Float[Array, "B N D"]]:
        u = jnp.concatenate([state, glu(self.into(x)).astype(state.dtype)], axis=1)
        y = looking_back(self.convolved, self.reach)(u)[:, state.shape[1] :]
        return u[:, u.shape[1] - state.shape[1] :], self.out(y.astype(x.dtype))

    def step(self, state: Array, x: Float[Array, "B D"]) -> tuple[Array, Float[Array, "B D"]]:
        u = jnp.concatenate([state, glu(self.into(x))[:, None].astype(state.dtype)], axis=1)
        y = (u.astype(jnp.float32) * self.filters[...].T).sum(1)
        return u[:, 1:], self.out(y.astype(x.dtype))
