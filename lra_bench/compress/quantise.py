"""Weights as whole numbers, after training: symmetric, rounded to the nearest, a scale for each output channel.

Krishnamoorthi's weight-only quantisation (arXiv 1806.08342, sections 2.2, 2.6 and 3.1.1): W ~ s q with
s = max |W| / q_max down a column, q in [-q_max, q_max], q_max = 127 for 8 bits and 7 for 4. Products are done in
float32, with s q in W's place: what is saved is what a model takes to keep, not what a step takes to run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dynamics

FLOAT = 32  # bits of a weight as it was trained
WHOLE = {8: jnp.int8, 4: jnp.int4}
STACKED = "blocks"  # the part of a model whose arrays have the layers as their first axis


class Codes(NamedTuple):
    """An array W of weights as q and s, W ~ s q."""

    q: Int[Array, "*N I O"]
    s: Float[Array, "*N 1 O"]


@dataclass(frozen=True)
class Quantised:
    """A model's parameters, its matrices in few bits."""

    parts: tuple[jax.Array | Codes, ...]
    tree: Any  # how the parts hang together

    @property
    def arrays(self) -> list[jax.Array]:
        """All that has to be kept."""
        return jax.tree.leaves(self.parts)

    def restored(self) -> nnx.State[Any, Any]:
        """Parameters in float32, for a model to run with."""
        parts = [part.s * part.q.astype(part.s.dtype) if isinstance(part, Codes) else part for part in self.parts]
        return jax.tree.unflatten(self.tree, parts)


def quantised(params: nnx.State[Any, Any], bits: int) -> Quantised:
    """Every matrix in `bits` bits; at 32 nothing changes.

    Vectors (biases, scales of a LayerNorm) stay as they are, and so do the dynamics of a state space, which enter
    through an exponential.

    Raises:
        ConfigError: `bits` is neither 32, 8 nor 4.
    """
    if bits not in (FLOAT, *WHOLE):
        raise ConfigError(f"bits: {bits}: must be one of {', '.join(map(str, (FLOAT, *WHOLE)))}")
    variables, _ = jax.tree.flatten_with_path(params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    parts = [_part(variable, path[0].key == STACKED, bits) for path, variable in variables]
    return Quantised(tuple(parts), jax.tree.structure(params))


def _part(variable: nnx.Variable[jax.Array], stacked: bool, bits: int) -> jax.Array | Codes:
    W = variable[...]
    is_matrix = W.ndim >= 2 + stacked
    return codes(W, bits) if bits in WHOLE and is_matrix and not isinstance(variable, Dynamics) else W


def codes(W: Float[Array, "*N I O"], bits: int) -> Codes:
    """The whole numbers nearest to W / s; a column of zeros has s = 1."""
    most = jnp.iinfo(WHOLE[bits]).max
    largest = jnp.abs(W).max(-2, keepdims=True)
    s = jnp.where(largest > 0, largest / most, 1.0)
    return Codes(jnp.round(W / s).astype(WHOLE[bits]), s)
