"""The trunk that every mixer is put into: embed -> N x (mixer, MLP) -> masked pool -> head.

LRA's encoder (arXiv 2011.04006): pre-LN blocks (arXiv 2002.04745) and a last LayerNorm, no dropout inside a mixer.
The N layers' parameters are stacked; a deep trunk scans over them, so that its depth costs no compile time.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int32

from lra_bench.config import Trunk
from lra_bench.kernels.dense import dense
from lra_bench.kernels.dropout import dropout
from lra_bench.kernels.layer_norm import layer_norm
from lra_bench.mixers.base import Dims

UNROLLED = 2  # layers; on a CPU a scan copies whatever it keeps: 1.25 times the time and the memory
gelu = jax.checkpoint(jax.nn.gelu)  # its argument is kept for the backward pass, not its five intermediate arrays
XAVIER = nnx.initializers.xavier_uniform()


class Constant(nnx.Variable[jax.Array]):
    """An array that belongs to the model and is not trained."""


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


class Block(nnx.Module):
    """x + mixer(LN x), then x + MLP(LN x)."""

    def __init__(self, mixer: type, knobs: Any, trunk: Trunk, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.rate = trunk.dropout
        self.before_mixer, self.before_mlp = LayerNorm(dims.width), LayerNorm(dims.width)
        self.mixer = mixer(knobs, dims, rngs=rngs)
        self.up = Dense(dims.width, trunk.mlp, rngs=rngs)
        self.down = Dense(trunk.mlp, dims.width, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        draw, *keys = (None,) * 4 if key is None else jax.random.split(key, 4)
        y = self.mixer(self.before_mixer(x), mask, key=draw) * mask[..., None].astype(x.dtype)
        x = x + thin(y, keys[0], self.rate)
        h = thin(gelu(self.up(self.before_mlp(x))), keys[1], self.rate)
        return x + thin(self.down(h), keys[2], self.rate)


class Model(nnx.Module):
    """Tokens to logits. The embedding is N(0, 1) as in LRA: beside sinusoids, whose entries are as large."""

    def __init__(
        self,
        mixer: type,
        knobs: Any,
        trunk: Trunk,
        *,
        vocab: int,
        length: int,
        classes: int,
        streams: int,
        rngs: nnx.Rngs,
    ) -> None:
        D, joint = trunk.width, trunk.qkv or trunk.width
        length += trunk.pool == "cls"
        dims = Dims(D, trunk.heads, joint // trunk.heads, length)
        self.trunk = trunk
        self.embed = nnx.Param(jax.random.normal(rngs.params(), (vocab, D)))
        if trunk.pool == "cls":
            self.cls = nnx.Param(jnp.zeros(D))
        self.positions: nnx.Variable[jax.Array]
        if trunk.positions == "learned":
            self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (length, D)))
        else:
            self.positions = Constant(sinusoids(length, D))
        make = nnx.vmap(lambda rngs: Block(mixer, knobs, trunk, dims, rngs=rngs))
        self.blocks = nnx.split_rngs(splits=trunk.layers)(make)(rngs)
        self.norm = LayerNorm(D)
        self.hidden = Dense(D if streams == 1 else 4 * D, trunk.mlp, rngs=rngs)
        self.logits = Dense(trunk.mlp, classes, rngs=rngs)

    def __call__(
        self, tokens: Int32[Array, "B S L"], mask: Bool[Array, "B S L"], *, key: jax.Array | None
    ) -> Float[Array, "B C"]:
        """`key` draws the dropout; None at evaluation."""
        B, S, L = tokens.shape
        pooled = self.encode(tokens.reshape(B * S, L), mask.reshape(B * S, L), key=key).reshape(B, S, -1)
        if S == 2:
            a, b = pooled[:, 0], pooled[:, 1]
            pooled = jnp.concatenate([a, b, a * b, a - b], axis=-1)[:, None]
        return self.logits(jax.nn.relu(self.hidden(pooled[:, 0])))

    def encode(
        self, tokens: Int32[Array, "B L"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B D"]:
        """One vector a text, float32."""
        x = self.embed[tokens]
        if self.trunk.pool == "cls":
            x = jnp.concatenate([jnp.broadcast_to(self.cls[...], (len(x), 1, x.shape[-1])), x], axis=1)
            mask = jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)
        first, rest = (None, None) if key is None else jax.random.split(key)
        x = thin(x + self.positions[: x.shape[1]], first, self.trunk.dropout).astype(self.trunk.dtype)
        x = self.layers(x, mask, key=rest)
        if self.trunk.pool == "cls":
            return self.norm(x[:, 0].astype(jnp.float32))
        there = mask[..., None].astype(jnp.float32)
        return (self.norm(x).astype(jnp.float32) * there).sum(1) / jnp.maximum(there.sum(1), 1)

    def layers(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        """The N blocks: side by side where they are few, else one compiled body."""
        graph, stacked = nnx.split(self.blocks)
        keys = None if key is None else jax.random.split(key, self.trunk.layers)

        def step(x: Array, layer: Any) -> tuple[Array, None]:
            params, key = layer
            return nnx.merge(graph, params)(x, mask, key=key), None

        step = jax.checkpoint(step) if self.trunk.remat else step
        if self.trunk.layers > UNROLLED:
            return lax.scan(step, x, (stacked, keys))[0]
        for i in range(self.trunk.layers):
            x, _ = step(x, jax.tree.map(lambda leaf, i=i: leaf[i], (stacked, keys)))
        return x


def thin(x: Float[Array, "..."], key: jax.Array | None, rate: float) -> Float[Array, "..."]:
    """Dropout in training, nothing at evaluation."""
    return x if key is None or rate == 0 else dropout(x, key, rate)


def sinusoids(length: int, width: int) -> Float[Array, "L D"]:
    """sin and cos of position / 10000^(2i / D), interleaved (arXiv 1706.03762, section 3.5)."""
    angle = np.arange(length)[:, None] * np.exp(np.arange(0, width, 2) * (-np.log(10000.0) / width))
    return jnp.asarray(np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, -1)[:, :width], jnp.float32)
