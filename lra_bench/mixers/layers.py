"""The layers that the trunk and the mixers are made of."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from lra_bench.kernels.dense import dense
from lra_bench.kernels.layer_norm import layer_norm

XAVIER = nnx.initializers.xavier_uniform()


class Dense(nnx.Module):
    """x W + b, computed in x's dtype."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(XAVIER(rngs.params(), (inputs, outputs)))
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
