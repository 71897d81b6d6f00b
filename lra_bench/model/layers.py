"""The layers of a backbone: x + mixer(LN x), then x + MLP(LN x); pre-LN (arXiv 2002.04745), as in LRA (arXiv
2011.04006).

Neighboring layers of one mixer are a stack, one `Block` whose parameters have the layers as their first axis; a deep
one is scanned over, so that its depth costs no compile time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float

from lra_bench.config import Backbone
from lra_bench.errors import ConfigError
from lra_bench.kernels.dropout import dropout
from lra_bench.mixers.base import Dims, MixerBase
from lra_bench.mixers.cross.base import CrossBase
from lra_bench.mixers.layers import Dense, LayerNorm

T = TypeVar("T", bound="Block")

UNROLLED = 2  # layers; on a CPU a scan copies whatever it keeps: 1.25 times the time and the memory
gelu = jax.checkpoint(jax.nn.gelu)  # its argument is kept for the backward pass, not its five intermediate arrays


@dataclass(frozen=True)
class Shape:
    """What techniques change of the backbone; as it stands, nothing."""

    shared: int | None = None  # sets of parameters, for neighboring layers (ALBERT, arXiv 1909.11942, section 3.1)
    bottleneck: int = 0  # width of the adapters
    mlp: int | None = None  # neurons that are left of each block's MLP
    room: int | None = None  # vectors that a text is filled up to, for texts of other tasks; their mixer sees no grid


UNCHANGED = Shape()


class Reader(NamedTuple):
    """How a target reads a source: the cross form of a mixer, and the mixer's options."""

    cross: type[CrossBase]
    options: Any


class Choice(NamedTuple):
    """A mixer and its options; of an encoder-decoder's layer, and how its target reads the source."""

    mixer: type[MixerBase]
    options: Any
    reader: Reader | None = None


class Adapter(nnx.Module):
    """x + W_up gelu(W_down x), which is x before it is trained (Houlsby et al., arXiv 1902.00751, section 2.1)."""

    def __init__(self, width: int, bottleneck: int, *, rngs: nnx.Rngs) -> None:
        self.down, self.up = Dense(width, bottleneck, rngs=rngs), Dense(bottleneck, width, rngs=rngs)
        self.up.kernel[...] = jnp.zeros((bottleneck, width))

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        return x + self.up(gelu(self.down(x)))


class Block(nnx.Module):
    """x + mixer(LN x), then x + MLP(LN x); each through an adapter of its own, where a bottleneck is asked for."""

    def __init__(self, choice: Choice, backbone: Backbone, shape: Shape, dims: Dims, *, rngs: nnx.Rngs) -> None:
        self.rate = backbone.dropout
        self.before_mixer, self.before_mlp = LayerNorm(dims.width), LayerNorm(dims.width)
        self.mixer = choice.mixer(choice.options, dims, rngs=rngs)
        hidden = backbone.mlp if shape.mlp is None else shape.mlp
        self.up = Dense(dims.width, hidden, rngs=rngs)
        self.down = Dense(hidden, dims.width, rngs=rngs)
        self.adapted = shape.bottleneck > 0
        if self.adapted:
            self.adapters = nnx.List([Adapter(dims.width, shape.bottleneck, rngs=rngs) for _ in range(2)])

    def __call__(
        self, x: Float[Array, "B L D"], mask: Bool[Array, "B L"], *, key: jax.Array | None
    ) -> Float[Array, "B L D"]:
        draw, *keys = (None,) * 4 if key is None else jax.random.split(key, 4)
        y = self.mixer(self.before_mixer(x), mask, key=draw) * mask[..., None].astype(x.dtype)
        return self.after_mixer(x, y, keys)

    def after_mixer(
        self, x: Float[Array, "B L D"], y: Float[Array, "B L D"], keys: Sequence[jax.Array | None]
    ) -> Float[Array, "B L D"]:
        """What comes behind the mixer's `y`; the three `keys` draw the dropout."""
        x = x + thin(self.adapters[0](y) if self.adapted else y, keys[0], self.rate)
        h = thin(gelu(self.up(self.before_mlp(x))), keys[1], self.rate)
        y = self.down(h)
        return x + thin(self.adapters[1](y) if self.adapted else y, keys[2], self.rate)


class LayerGroup(NamedTuple):
    """Neighboring layers of one mixer."""

    choice: Choice
    layers: int
    set_of: tuple[int, ...] | None  # of each layer, which set of parameters it has; None: each its own

    def drawn(self, backbone: Backbone, shape: Shape, dims: Dims, rngs: nnx.Rngs, kind: type[T]) -> T:
        """Their stack, of blocks of a kind."""
        make = nnx.vmap(lambda rngs: kind(self.choice, backbone, shape, dims, rngs=rngs))
        sets = self.layers if self.set_of is None else self.set_of[-1] + 1
        drawn: T = nnx.split_rngs(splits=sets)(make)(rngs)
        return drawn

    def block(self, stack: T, layer: int) -> T:
        """One of the layers alone, from 0 up."""
        graph, stacked = nnx.split(stack)
        mine = layer if self.set_of is None else self.set_of[layer]
        return nnx.merge(graph, jax.tree.map(lambda leaf: leaf[mine], stacked))

    def __call__(
        self,
        stack: Block,
        x: Float[Array, "B L D"],
        mask: Bool[Array, "B L"],
        *,
        keys: jax.Array | None,
        remat: bool,
        states: list[Array] | None,
        **source: Array,
    ) -> Float[Array, "B L D"]:
        """One layer after another: side by side where they are few, else one compiled body.

        `keys` [N] draw the dropout; where there are some, what a mixer keeps from step to step is kept in `stack`.
        `states` takes the vectors after each layer. `source` is what a block of a decoder reads besides.
        """
        graph, stacked = nnx.split(stack)
        if self.set_of is not None:
            stacked = jax.tree.map(lambda leaf: leaf[np.array(self.set_of)], stacked)

        def step(x: Array, layer: Any) -> tuple[Array, Any]:
            values, key = layer
            block = nnx.merge(graph, values, copy=True)
            y = block(x, mask, key=key, **source)
            return y, (nnx.state(block, nnx.Not(nnx.Param)), None if states is None else y)

        step = jax.checkpoint(step) if remat else step
        if self.layers > UNROLLED:
            x, (rest, seen) = lax.scan(step, x, (stacked, keys))
        else:
            each = []
            for i in range(self.layers):
                x, kept = step(x, jax.tree.map(lambda leaf, i=i: leaf[i], (stacked, keys)))
                each.append(kept)
            rest, seen = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
        if states is not None:
            states += list(seen)
        if keys is not None and self.set_of is not None:
            last = np.searchsorted(self.set_of, np.unique(self.set_of), side="right") - 1
            rest = jax.tree.map(lambda leaf: leaf[last], rest)
        if keys is not None:
            nnx.update(stack, rest)
        return x


def layer_groups(choices: Sequence[Choice], layers: int, shared: int | None) -> list[LayerGroup]:
    """Layer i has the mixer i mod n of the n that are named, the pattern repeated as in Griffin (arXiv 2402.19427).

    Raises:
        ConfigError: more sets of parameters than layers, or fewer for layers of several mixers.
    """
    pattern = [choices[i % len(choices)] for i in range(layers)]
    set_of = sets(layers, shared)
    neighbors = [(choice, len(list(same))) for choice, same in groupby(pattern)]
    if set_of is not None and len(neighbors) > 1:
        raise ConfigError("sharing.groups: layers of several mixers cannot have the same parameters")
    return [LayerGroup(choice, count, set_of) for choice, count in neighbors]


def sets(layers: int, shared: int | None) -> tuple[int, ...] | None:
    """Of each layer, which of `shared` sets of parameters it has, neighbors alike; None: each its own.

    Raises:
        ConfigError: there are fewer layers than that.
    """
    if shared is None or shared == layers:
        return None
    if shared > layers:
        raise ConfigError(f"sharing.groups: {shared} sets of parameters for {layers} layers")
    return tuple(layer * shared // layers for layer in range(layers))


def thin(x: Float[Array, "..."], key: jax.Array | None, rate: float) -> Float[Array, "..."]:
    """Dropout in training, nothing at evaluation."""
    return x if key is None or rate == 0 else dropout(x, key, rate)
