"""A model's parameters by their paths: which are matrices, and which another model's can begin with."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from lra_bench.mixers.base import Dynamics

Path = tuple[Any, ...]
Flat = dict[Path, nnx.Variable[jax.Array]]

STACKED = "blocks"  # the part of a model whose arrays have the layers as their first axis
HEAD = "head"
TABLE = ("embed", "table")


def flat(params: nnx.State[Any, Any]) -> Flat:
    """Each by its path."""
    return dict(nnx.to_flat_state(params))


def nested(params: Flat) -> nnx.State[Any, Any]:
    """What `flat` undoes."""
    return nnx.from_flat_state(params)


def is_matrix(path: Path, variable: nnx.Variable[jax.Array]) -> bool:
    """Is it one in each layer? Not a bias or a norm's scale, nor the dynamics of a state space."""
    return variable.ndim >= 2 + (path[0] == STACKED) and not isinstance(variable, Dynamics)


def fits(path: Path, new: nnx.Variable[jax.Array], old: nnx.Variable[jax.Array] | None) -> bool:
    """Can a parameter begin as another model's? One of its shape, or a table with more symbols: a mask, at its end."""
    if old is None:
        return False
    more = path == TABLE and old.shape[1:] == new.shape[1:] and old.shape[0] > new.shape[0]
    return old.shape == new.shape or more


def inherited(drawn: nnx.State[Any, Any], old: nnx.State[Any, Any], anew: set[Path]) -> nnx.State[Any, Any]:
    """What was drawn, with another model's in place of all that fits and is not to be had `anew`."""
    learned = flat(old)

    def one(path: Path, new: nnx.Variable[jax.Array]) -> nnx.Variable[jax.Array]:
        if path in anew or not fits(path, new, learned.get(path)):
            return new
        value = learned[path][...]
        return new.replace(value[: len(new[...])] if path == TABLE else value)

    return nested({path: one(path, new) for path, new in flat(drawn).items()})
