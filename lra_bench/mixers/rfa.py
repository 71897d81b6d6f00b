"""Random feature attention (Peng et al., arXiv 2103.02143): a Gaussian kernel of unit queries and keys, by features.

    y_i = phi(q_i)^T S / phi(q_i)^T z,   S = sum_j phi(k_j) v_j^T,   z = sum_j phi(k_j)
    phi(x) = [sin(w_1 . x), ..., sin(w_m . x), cos(w_1 . x), ..., cos(w_m . x)] / sqrt m              (theorem 1)

q and k are divided by their norms; w_f = sigma * u_f, u_f ~ N(0, I), sigma learned, one for each entry of each head: at
sigma = 1, phi(q) . phi(k) is an unbiased estimate of exp(q . k) up to a constant. phi(k) of padding is zero. An
estimate can be negative: the denominator is at least 0.01.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.errors import ConfigError
from lra_bench.kernels.feature_attention import feature_attention
from lra_bench.kernels.product import product
from lra_bench.kernels.sine_cosine import sine_cosine
from lra_bench.mixers.base import Constant, Dims
from lra_bench.mixers.card import Card, Walked
from lra_bench.mixers.heads import HeadsMixer

CARD = Card(
    title="RFA",
    family="kernel",
    paper="2103.02143",
    equation="theorem 1, and RFA without its gate",
    year=2021,
    time=1.0,
    memory=1.0,
    exact_when="",
    public="Noahs-ARK/RFA (PyTorch, CUDA)",
    differs="without the gate, which is for causal models; features drawn once, or anew at every training step, where "
    "the authors draw hundreds before training and pick one",
    short={"features": 12},
)

FLOOR = 1e-2


@dataclass(frozen=True)
class Config(Walked):
    """How many features."""

    features: int = 64
    """m: frequencies, each of which makes a sine and a cosine. The paper takes about as many as a head is wide."""

    redraw: bool = False
    """Draw new features at each training step; evaluation always takes the ones of the model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features < 1:
            raise ConfigError(f"features: {self.features}; at least 1")


class Mixer(HeadsMixer):
    """The keys are summed, feature by feature, before the queries look at them."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.redraw = config.redraw
        self.features = Constant(jax.random.normal(rngs.params(), (dims.heads, config.features, dims.head_width)))
        self.sigma = nnx.Param(jnp.ones((dims.heads, dims.head_width)))

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        u = self.features[...]
        if self.redraw and key is not None:
            u = jax.random.normal(key, u.shape)
        w = u * self.sigma[...][:, None]

        def phi(x: Float32[Array, "B H N K"], i: Int[Array, "N"]) -> Float32[Array, "B H N 2m"]:
            angle = product("bhlk,hfk->bhlf", unit(x), w)
            return jnp.concatenate(sine_cosine(angle), axis=-1) * w.shape[1] ** -0.5

        return self.output(feature_attention(*self.project(x), mask, phi, FLOOR, impl=self.impl))


def unit(x: Float32[Array, "... K"]) -> Float32[Array, "... K"]:
    """x / |x|; zero where x is."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))
