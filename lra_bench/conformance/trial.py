"""A mixer on trial: with options that fit a short text, and the text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lra_bench.mixers import ModelCard
from lra_bench.mixers.base import Dims, MixerBase
from lra_bench.training.program import runs_once

B, L = 3, 37  # odd: no multiple of a block
SHORT = Dims(width=16, heads=2, head_width=4, length=L)
EXACT = 2e-5  # of the largest value, how far two ways to the same may be apart
Array = jax.Array


@dataclass(frozen=True)
class Trial:
    """A mixer with options that fit a short text, and what it is asked, compiled once."""

    model_card: ModelCard
    options: dict[str, Any]
    module: ModuleType
    dims: Dims = SHORT

    @cached_property
    def causal(self) -> Trial:
        """The same in its causal form."""
        return replace(self, dims=replace(self.dims, causal=True))

    def make(self, dims: Dims, **turned: Any) -> MixerBase:
        """The mixer at these sizes, with further options turned."""
        return self.module.Mixer(self.module.Config(**self.options | turned), dims, rngs=nnx.Rngs(0))

    @cached_property
    def parts(self) -> tuple[Any, Any, Any]:
        """The short mixer: graph, parameters, and the rest."""
        graph, params, rest = nnx.split(self.make(self.dims, **self.model_card.card.short), nnx.Param, ...)  # type: ignore[misc]
        return graph, params, rest

    def run(self, params: Any, x: Array, mask: Array, key: Array | None) -> Array:
        graph, _, rest = self.parts
        return nnx.merge(graph, params, rest, copy=True)(x, mask, key=key)

    @cached_property
    def pulled(self) -> Callable[[Any, Array, Array, Array], tuple[Array, Any, Array]]:
        """Of parameters, x, mask and dL/dy: y, dL/dparameters, dL/dx."""

        def pull(params: Any, x: Array, mask: Array, g: Array) -> tuple[Array, Any, Array]:
            y, back = jax.vjp(lambda params, x: self.run(params, x, mask, None), params, x)
            return y, *back(g)

        return runs_once(pull)

    @cached_property
    def trained(self) -> Callable[[Array, Array], Array]:
        """y in training, always with the same key."""
        return runs_once(lambda x, mask: self.run(self.parts[1], x, mask, jax.random.key(3)))

    def seen(self, x: Array, mask: Array) -> Array:
        """y at evaluation."""
        return self.pulled(self.parts[1], x, mask, jnp.zeros_like(x))[0]


def text(dtype: Any = jnp.float32) -> tuple[Array, Array]:
    """Three results: full, half, and one without any token."""
    x = jax.random.normal(jax.random.key(1), (B, L, SHORT.width), dtype)
    return x, jnp.arange(L) < jnp.array([L, L // 2, 0])[:, None]


def apart(mask: Array, a: Array, b: Array) -> float:
    """The largest difference where the mask is True."""
    return float(jnp.where(mask[..., None], abs(a - b), 0).max())
