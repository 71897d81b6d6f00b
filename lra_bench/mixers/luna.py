"""Luna (Ma et al., arXiv 2106.01540): attention packs the tokens into l rows, and unpacks them again.

    Y_P = Attn(P', X),   Y = Attn(X, Y_P) W_O                                      (pack and unpack attention)
    P' = LN(sqrt D P + S),   P: [l, D] learned, S: sinusoids of a row's number             (the authors' LRA encoder)
    Attn(X, C) = softmax(X W_Q (C W_K)^T / sqrt K) C W_V, in each of them W_K = W_V where they are tied

Padding is no key when it is packed; the packed rows are all there. A text without any token packs to zeros.

Where it is causal, packing has no softmax, and the tokens' own keys and values are packed (section 3.3, as in the
authors' code): A_t = elu(P' W_PQ (x_t W_PC)^T / sqrt K) + 1, u_t = softmax(1/t sum_{s<=t} (x_t W_Q . x_s W_K / sqrt K)
A_s), y_t = 1/t sum_{s<=t} (u_t . A_s) x_s W_V, through W_O. Since August 2021 the authors' code has a softplus in place
of elu + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.causal_packing import causal_packing, extended, nothing
from lra_bench.kernels.dense import dense
from lra_bench.kernels.impl import WALKED
from lra_bench.kernels.prefix import State
from lra_bench.mixers.base import Dims, Prefilled, implementation
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import Multihead, cut, join
from lra_bench.mixers.layers import LayerNorm, sinusoids

CARD = Card(
    title="Luna",
    family="memory",
    paper="2106.01540",
    equation="pack and unpack attention; section 3.3 where it is causal",
    year=2021,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="yes",
    public="XuezheMax/fairseq-apollo (PyTorch)",
    differs="P is each layer's own: the packed rows do not go on to the next layer, whose P in the paper is LN(Y_P + "
    "P); the backbone's layers hand on tokens only; every text has all l rows, where the authors' LRA runs have no "
    "more of them than the text has tokens; projections without bias",
    short={"packed": 5},
)


@dataclass(frozen=True)
class Config(Fused):
    """Into how many rows the tokens are packed."""

    packed: int = 256
    """l: rows of P. In the paper's LRA runs 16, 128 and 256 are tried, and 256 is best."""

    tied: bool = True
    """Keys and values of an attention are one projection, the paper's way to save parameters. The authors' LRA runs
    have two, unless asked for one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.packed < 1:
            raise ConfigError(f"packed: {self.packed}; at least 1")

    @property
    def few(self) -> int:
        return self.packed


class Mixer(Prefilled):
    """P looks at the tokens; the tokens look at what it saw, causally of those up to each."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.impl = implementation(config, dims, WALKED if dims.causal else None)
        self.heads, self.causal = dims.heads, dims.causal
        shape, joint = (config.packed, dims.width), dims.heads * dims.head_width
        packs_one = config.tied or dims.causal
        context = dims.width if dims.causal else joint
        self.rows = nnx.Param(jax.random.normal(rngs.params(), shape) * dims.width**-0.5)
        self.norm = LayerNorm(dims.width)
        self.pack = Multihead(dims, tied=packs_one, projected=False, impl=self.impl, rngs=rngs)
        self.unpack = Multihead(dims, context=context, tied=config.tied, impl=self.impl, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        asked = self.asked(x)
        if self.causal:
            return self.output(causal_packing(*self.tokens(asked, x), mask, self.impl))
        packed = self.pack(jnp.broadcast_to(asked, (len(x), *asked.shape)), x, mask)
        return self.unpack(x, packed, jnp.ones(packed.shape[:2], bool))

    def asked(self, x: Float[Array, "B L D"]) -> Float[Array, "l D"]:
        """P' in x's dtype."""
        return self.norm(self.rows[...] * x.shape[-1] ** 0.5 + sinusoids(*self.rows.shape)).astype(x.dtype)

    def tokens(self, asked: Float[Array, "l D"], x: Float[Array, "B N D"]) -> tuple[Array, Array, Array, Array]:
        """By heads: the rows' queries, and of each token its query, the key that it is packed by, and what is packed of
        it: its key and its value, side by side unless they are one."""
        rows, q = (cut(dense(y, W[...]), self.heads) for y, W in ((asked[None], self.pack.q), (x, self.unpack.q)))
        scale = q.shape[-1] ** -0.5
        c, *kv = (cut(dense(x, W), self.heads) for W in (*self.pack.kv[...], *self.unpack.kv[...]))
        return rows[0] * scale, q * scale, c, jnp.concatenate(kv, axis=-1)

    def output(self, y: Float[Array, "B H L K"]) -> Float[Array, "B L D"]:
        """The heads side by side, through W_O."""
        return dense(join(y), self.unpack.out[...])

    def init_state(self, batch: int, length: int) -> State:
        """The sum over what was packed, however long the text is."""
        kv = self.unpack.kv[...]
        return nothing(batch, self.heads, len(self.rows[...]), kv.shape[0] * kv.shape[2] // self.heads)

    def prefill(self, state: State, x: Float[Array, "B N D"]) -> tuple[State, Float[Array, "B N D"]]:
        state, y = extended(state, *self.tokens(self.asked(x), x))
        return state, self.output(y)
