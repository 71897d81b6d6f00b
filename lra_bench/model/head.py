"""Vectors to logits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from lra_bench.mixers.layers import Dense


class Head(nnx.Module):
    """Vectors to logits, through one hidden layer; through two, the second half as wide, where two streams are
    only put side by side, as in LRA's code (lra_benchmarks/models/layers/common_layers.py, classifier_head_dual).
    """

    def __init__(self, width: int, hidden: int, out: int, streams: int, interaction: str, *, rngs: nnx.Rngs) -> None:
        self.nli = interaction == "nli"
        wide = width * (1 if streams == 1 else 4 if self.nli else 2)
        self.hidden = Dense(wide, hidden, rngs=rngs)
        narrow = streams == 2 and not self.nli
        self.second = Dense(hidden, hidden // 2, rngs=rngs) if narrow else None
        self.logits = Dense(hidden // 2 if narrow else hidden, out, rngs=rngs)

    def __call__(self, x: Float[Array, "... S D"]) -> Float[Array, "... C"]:
        h = jax.nn.relu(self.hidden(self._joined(x)))
        return self.logits(h if self.second is None else jax.nn.relu(self.second(h)))

    def _joined(self, x: Float[Array, "... S D"]) -> Float[Array, "... E"]:
        if x.shape[-2] == 1:
            return x[..., 0, :]
        a, b = x[..., 0, :], x[..., 1, :]
        return jnp.concatenate([a, b, a * b, a - b] if self.nli else [a, b], axis=-1)
