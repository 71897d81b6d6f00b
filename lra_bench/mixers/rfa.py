"""Random feature attention (Peng et al., arXiv 2103.02143): a Gaussian kernel of unit queries and keys, by features.

    y_i = phi(q_i)^T S / phi(q_i)^T z,   S = sum_j phi(k_j) v_j^T,   z = sum_j phi(k_j)
    phi(x) = [sin(w_1 . x), ..., sin(w_m . x), cos(w_1 . x), ..., cos(w_m . x)] / sqrt m              (theorem 1)

q and k are divided by their norms; w_f = sigma * u_f, u_f ~ N(0, I), sigma learned, one for each entry of each head: at
sigma = 1, phi(q) . phi(k) is an unbiased estimate of exp(q . k) up to a constant. phi(k) of padding is zero. An
estimate can be negative: the denominator is at least 0.01.

Where it is causal, it is RFA-Gate (section 3.2): S_t = g_t S_{t-1} + (1 - g_t) phi(k_t) v_t^T, z_t likewise, with
g_t = sigmoid(x_t W_g + b_g), one for each head. Padding has g = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.errors import ConfigError
from lra_bench.kernels.feature_attention import (
    Features,
    extended_fading,
    fading_feature_attention,
    feature_attention,
    nothing_fading,
)
from lra_bench.kernels.prefix import State
from lra_bench.kernels.product import product
from lra_bench.kernels.sine_cosine import sine_cosine
from lra_bench.mixers.base import Constant, Dims
from lra_bench.mixers.card import Card, Walked
from lra_bench.mixers.heads import Decoded
from lra_bench.mixers.layers import Dense

CARD = Card(
    title="RFA",
    family="kernel",
    paper="2103.02143",
    equation="theorem 1, and RFA without its gate; section 3.2, RFA-Gate, where it is causal",
    year=2021,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="yes",
    public="Noahs-ARK/RFA (PyTorch, CUDA)",
    differs="features drawn once, or anew at every training step, where "
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


class Mixer(Decoded):
    """The keys are summed, feature by feature, before the queries look at them; where it is causal, the sums fade."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.redraw = config.redraw
        self.features = Constant(jax.random.normal(rngs.params(), (dims.heads, config.features, dims.head_width)))
        self.sigma = nnx.Param(jnp.ones((dims.heads, dims.head_width)))
        if self.causal:
            self.gate = Dense(dims.width, dims.heads, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        u = self.features[...]
        if self.redraw and key is not None:
            u = jax.random.normal(key, u.shape)
        phi, tokens = self.phi(u), (*self.project(x), mask)
        if self.causal:
            return self.output(fading_feature_attention(*tokens, self.gates(x), phi, FLOOR, self.impl))
        return self.output(feature_attention(*tokens, phi, FLOOR, impl=self.impl))

    def phi(self, u: Float32[Array, "H m K"]) -> Features:
        """The features of the frequencies u."""
        w = u * self.sigma[...][:, None]

        def phi(x: Float32[Array, "B H N K"], i: Int[Array, "N"]) -> Float32[Array, "B H N 2m"]:
            angle = product("bhlk,hfk->bhlf", unit(x), w)
            return jnp.concatenate(sine_cosine(angle), axis=-1) * w.shape[1] ** -0.5

        return phi

    def gates(self, x: Float[Array, "B N D"]) -> Float32[Array, "B H N 1"]:
        """Their logits."""
        return self.gate(x).astype(jnp.float32).swapaxes(1, 2)[..., None]

    def init_state(self, batch: int, length: int) -> State:
        """S and z, however long the text is."""
        return nothing_fading(batch, self.heads, 2 * self.features[...].shape[1], self.head_width)

    def prefill(self, state: State, x: Float[Array, "B N D"]) -> tuple[State, Float[Array, "B N D"]]:
        q, k, v = self.projected_at(x, state.place)
        state, y = extended_fading(state, q, k, v, self.gates(x), self.phi(self.features[...]), FLOOR)
        return state, self.output(y)


def unit(x: Float32[Array, "... K"]) -> Float32[Array, "... K"]:
    """x / |x|; zero where x is."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))
