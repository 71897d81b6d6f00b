"""The layers that the backbone and the mixers are made of."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from lra_bench.kernels.dense import dense
from lra_bench.kernels.layer_norm import layer_norm

XAVIER = nnx.initializers.xavier_uniform()


def sinusoids(length: int, width: int) -> Float[Array, "L D"]:
    """sin and cos of position / 10000^(2i / D), interleaved (arXiv 1706.03762, section 3.5)."""
    angle = np.arange(length)[:, None] * np.exp(np.arange(0, width, 2) * (-np.log(10000.0) / width))
    return jnp.asarray(np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, -1)[:, :width], jnp.float32)


class Dense(nnx.Module):
    """x W + b, computed in x's dtype. W begins as `start` draws it, b as zeros."""

    def __init__(
        self, inputs: int, outputs: int, *, start: nnx.initializers.Initializer = XAVIER, rngs: nnx.Rngs
    ) -> None:
        self.kernel = nnx.Param(start(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... O"]:
        return dense(x, self.kernel[...]) + self.bias.astype(x.dtype)


class LayerNorm(nnx.Module):
    """Zero mean and unit variance over the width, then scale and bias; in float32."""

    def __init__(self, width: int) -> None:
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return layer_norm(x, self.scale[...], self.bias[...])
