"""Clustered attention (Vyas et al., arXiv 2007.04825): queries are clustered, and each cluster's mean query attends
for its members.

    Q_c = mean of the queries in c,   A_c = softmax(Q_c K^T / sqrt K),   y_i = A_c V, c: the cluster of i
                                                                                             (equations 3 to 6)
Improved: of the `top` keys T_c that weigh most in A_c, m_c in all, each member weighs them anew (section 3.3):

    y_i = m_c sum_{j in T_c} softmax_{T_c}(q_i . k_j / sqrt K) v_j + sum_{j not in T_c} A_cj v_j

Clusters are those of K-means on the signs of random projections. Padding is in no cluster, and is no key.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.errors import ConfigError
from lra_bench.kernels.clustered_attention import clustered_attention
from lra_bench.kernels.hamming_clusters import hamming_clusters
from lra_bench.mixers.base import Constant, Dims
from lra_bench.mixers.card import Card, Fused
from lra_bench.mixers.heads import HeadsMixer

CARD = Card(
    title="Clustered attention",
    family="learnable-pattern",
    paper="2007.04825",
    equation="section 3.2 (equations 3 to 6) and section 3.3",
    year=2020,
    time=1.0,
    memory=1.0,
    exact_when="improved and top >= length",
    exact_without="the centroids' own attention",
    causal_form="no: a token asks with the mean query of its cluster, which later tokens are in too",
    public="fast-transformers of idiap (CUDA)",
    differs="the planes are drawn once (the authors' code draws them at every call); the first centroids are tokens at "
    "equal distances (theirs: the first of the text), and an empty cluster stays where it is (theirs: drawn anew)",
    short={"clusters": 5, "bits": 16, "top": 4},
)


@dataclass(frozen=True)
class Config(Fused):
    """How queries are clustered, and what is refined."""

    clusters: int = 100
    """C: clusters of each head's queries. The paper has 25 for GLUE and SQuAD."""

    bits: int = 63
    """B: random planes on whose sides a query stands."""

    iterations: int = 10
    """Of Lloyd's algorithm."""

    improved: bool = True
    """Weigh the keys that matter most to a cluster anew for each of its queries: the paper's better form."""

    top: int = 32
    """k: keys that are weighed anew."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("clusters", "bits", "iterations", "top"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: {getattr(self, name)}; at least 1")


class Mixer(HeadsMixer):
    """A mean query looks for its cluster."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        super().__init__(config, dims, rngs=rngs)
        self.clusters, self.iterations = min(config.clusters, dims.length), config.iterations
        self.top = config.top if config.improved else 0
        self.planes = Constant(jax.random.normal(rngs.params(), (dims.head_width + 1, config.bits)))

    def attend(
        self,
        q: Float[Array, "B H L K"],
        k: Float[Array, "B H L K"],
        v: Float[Array, "B H L K"],
        mask: Bool[Array, "B L"],
    ) -> Float[Array, "B H L K"]:
        cluster = hamming_clusters(q, mask, self.planes[...], self.clusters, self.iterations, self.impl)
        return clustered_attention(q, k, v, mask, cluster, self.clusters, self.top, self.impl)


def limits(dims: Dims, *, rngs: nnx.Rngs) -> list[Mixer]:
    """All keys are weighed anew."""
    return [Mixer(Config(clusters=5, top=dims.length), dims, rngs=rngs)]
