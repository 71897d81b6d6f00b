"""FNet (Lee-Thorp et al., arXiv 2105.03824): the tokens are mixed by a Fourier transform, without any parameter.

    y = Re(F_L(F_D(x)))    F_L, F_D: discrete Fourier transforms over the tokens and over the width

Padding is zero before. It still counts: the frequencies are those of the padded length.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench.kernels.fourier import fourier
from lra_bench.mixers.base import Dims, MixerBase
from lra_bench.mixers.card import Card

CARD = Card(
    title="FNet",
    family="fourier",
    paper="2105.03824",
    equation="the Fourier sublayer, y = Re(F_seq(F_h(x)))",
    year=2021,
    time=1.0,
    memory=1.0,
    exact_when="",
    causal_form="no: each frequency of a Fourier transform is a sum over the whole text",
    public="jnp.fft, which is used here on a GPU: cuFFT",
    differs="y is divided by sqrt(L D) (option `unitary`): the paper normalizes after the mixing, our backbone before "
    "it, and what the MLP adds would vanish beside a y that much larger",
    padded_length="the transform, which runs over padding too",
)


@dataclass(frozen=True)
class Config:
    """How large the output is."""

    unitary: bool = True
    """Divide by sqrt(L D), so that y is as large as x; the paper's transform is not divided."""


class Mixer(MixerBase):
    """Every output sees every token, by fixed waves."""

    def __init__(self, config: Config, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.unitary = config.unitary

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        _, L, D = x.shape
        scale = (L * D) ** -0.5 if self.unitary else 1.0
        return fourier(x * (scale * mask[..., None]).astype(x.dtype))
