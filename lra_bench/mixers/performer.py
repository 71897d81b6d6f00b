"""Performer (Choromanski et al., arXiv 2009.14794): the kernel of softmax attention, estimated by m random features.

    Y = phi(Q) (phi(K)^T V) / (phi(Q) sum_j phi(k_j)),   x = q or k times K^(-1/4)
    phi(x)_f = exp(w_f . x - |x|^2 / 2)       FAVOR+: positive, and unbiased for exp(q . k / sqrt K)    (lemma 1)
    phi(x)_f = relu(w_f . x) + 0.001          generalized attention                                  (appendix A.4)

The w are orthogonal in blocks of K, their norms those of Gaussian vectors (section 2.4); they are drawn once a layer,
for all heads, and belong to the model. phi(k) of padding is zero. Where it is causal, the sums run up to each query
(appendix B.1, prefix sums).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int

from lra_bench.errors import ConfigError
from lra_bench.kernels import favor, feature_attention
from lra_bench.kernels.favor import orthogonal_features
from lra_bench.kernels.feature_attention import Features
from lra_bench.kernels.impl import WALKED
from lra_bench.kernels.prefix import State
from lra_bench.kernels.product import product
from lra_bench.mixers.base import Constant, Dims, implementation
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import Decoded

CARD = Card(
    title="Performer",
    family="kernel",
    paper="2009.14794",
    equation="lemma 1 and sections 2.2 to 2.4; appendix A.4 for relu",
    year=2020,
    time=1.0,
    memory=1.0,
    exact_when="features -> infinity",
    causal_form="yes",
    public="performer-pytorch (PyPI); fast_attention of google-research (JAX)",
    differs="features drawn once, or anew at every training step where the paper draws periodically; nothing is "
    "added to the exponential features, whose denominator cannot vanish as it is computed here",
    short={"features": 12},
)

FLOOR = 1e-6  # of the rectified features' denominator, which 0.001 keeps far above it


@dataclass(frozen=True)
class Config(Fused):
    """Which features, and how many."""

    features: int = 256
    """m. 256 in the paper (appendix A), and in the LRA runs of others."""

    kernel: str = "exp"
    """exp: FAVOR+, an estimate of softmax attention; relu: generalized attention, one of its own,
    which the paper's experiments have unless they say softmax."""

    redraw: bool = False
    """Draw new features at each training step; evaluation always takes the ones of the model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features < 1:
            raise ConfigError(f"features: {self.features}; at least 1")
        if self.kernel not in ("exp", "relu"):
            raise ConfigError(f"kernel: '{self.kernel}'; it can be: exp, relu")


class Mixer(Decoded):
    """The keys are summed, feature by feature, before the queries look at them; causally, those up to each."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        if dims.causal:
            self.impl = implementation(config, dims, WALKED)
        self.kernel, self.redraw = config.kernel, config.redraw
        if self.rotary and self.kernel == "relu" and config.features % 2:
            raise ConfigError(f"features: {config.features}; rotary positions turn pairs of rectified features: even")
        self.features = Constant(orthogonal_features(rngs.params(), config.features, dims.head_width))

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        w = self.features[...]
        if self.redraw and key is not None:
            w = orthogonal_features(key, *w.shape)
        q, k, v = self.project(x) if self.kernel == "exp" else self.unturned(x)
        return self.output(self.mixed(q, k, v, mask, w))

    def mixed(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
        w: Float32[Array, "m K"],
    ) -> Float[Array, "B H L K"]:
        """Attention by the features w. Rotary positions turn the rectified ones, and queries and keys of the others."""
        if self.kernel == "exp":
            return (favor.causal_favor if self.causal else favor.favor)(q, k, v, mask, w, self.impl)
        attend = feature_attention.causal_feature_attention if self.causal else feature_attention.feature_attention
        return attend(q, k, v, mask, rectified(w), FLOOR, self.rotary, self.impl)

    def init_state(self, batch: int, length: int) -> State:
        """Sums over the keys, however long the text is."""
        kernel = favor if self.kernel == "exp" else feature_attention
        return kernel.nothing(batch, self.heads, len(self.features[...]), self.head_width)

    def extend(
        self, state: State, q: Float[Array, "B H N K"], k: Float[Array, "B H N K"], v: Float[Array, "B H N K"]
    ) -> tuple[State, Float[Array, "B H N K"]]:
        if self.kernel == "exp":
            return favor.extended(state, q, k, v, self.features[...])
        return feature_attention.extended(state, q, k, v, rectified(self.features[...]), FLOOR, self.rotary)

    def projected_at(
        self, x: Float[Array, "B N D"], first: Int[Array, ""]
    ) -> tuple[Float[Array, "B H N K"], Float[Array, "B H N K"], Float[Array, "B H N K"]]:
        """Not turned before rectified features are made of them."""
        return super().projected_at(x, first) if self.kernel == "exp" else self.unturned(x)


def rectified(w: Float32[Array, "m K"]) -> Features:
    """phi of generalized attention."""

    def phi(x: Float32[Array, "B H N K"], i: Int[Array, "N"]) -> Float32[Array, "B H N m"]:
        return jax.nn.relu(product("bhlk,fk->bhlf", x * x.shape[-1] ** -0.25, w)) + 1e-3

    return phi


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """More and more features, the error falling like one over their number's root. The logits are made small: the
    estimate's variance grows like exp |q + k|^2, and a handful of features would say nothing."""
    mixers, key = [], rngs.params()
    for m in (4, 256, 16384):
        mixer = Mixer(Config(features=m), dims, rngs=nnx.Rngs(key))
        q_and_k = 2 * dims.heads * dims.head_width
        mixer.qkv[...] = mixer.qkv[...].at[:, :q_and_k].multiply(0.25)
        mixers.append(mixer)
    return mixers
