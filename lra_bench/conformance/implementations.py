"""Is an implementation of a mixer the function that its reference is? Shown on a small case, in seconds.

Values and gradients of the mixer with it, on three short texts (one full, one half full, one empty), are compared with
those of the mixer's plain form on the same device. On an accelerator a kernel is tried twice: with products in full,
which shows that it is the function, and with products as a step has them, for which another kernel is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from lra_bench.errors import ConfigError, device_at_fault
from lra_bench.mixers.base import Dims, MixerBase

LENGTH = 333  # odd, several tiles, and further than windows reach
NEAR = {"float32": 1e-4, "bfloat16": 0.05, "float16": 0.01}  # apart, as a share of the largest value
ROUGH = 0.02  # apart at least so far, where products are of fewer bits than their operands
FULL, OWN = "highest", "default"  # how precise products are, in JAX's words: in full, and as a step has them
Array = jax.Array


class Agreement(NamedTuple):
    """Whether an implementation is the function that its reference is, and how far apart they are at most."""

    impl: str
    reference: str
    passed: bool
    figures: str


def reference(module: ModuleType) -> str:
    """The implementation of a mixer that the others are held against."""
    return str(getattr(module, "REFERENCE", "xla"))


def every(module: ModuleType, platform: str) -> list[str]:
    """The implementations of a mixer on a platform, but for the reference's; none of one that has no choice."""
    if hasattr(module, "implementations"):
        return list(module.implementations(platform))
    return [one for one in getattr(module.Config, "there", ()) if one != reference(module)]


def fitting(module: ModuleType, options: Mapping[str, Any], dims: Dims) -> tuple[dict[str, Any], Dims]:
    """Options and sizes at which an implementation is there, where a mixer's file says that it has no others."""
    turned, sizes = getattr(module, "FITTING", {}).get(options["impl"], ({}, {}))
    return {**options, **turned}, replace(dims, **sizes)


def taken(module: ModuleType, options: Mapping[str, Any], dims: Dims) -> str:
    """The implementation that the mixer runs with, if it is made with these options: its own choice for `auto`."""
    return str(nnx.eval_shape(partial(_made, module, options, options["impl"], dims)).impl)


def is_there(module: ModuleType, options: Mapping[str, Any], dims: Dims) -> bool:
    """Can the mixer be made with these options? A causal form may lack an implementation."""
    try:
        taken(module, options, dims)
    except ConfigError:
        return False
    return True


def agreement(module: ModuleType, options: Mapping[str, Any], dims: Dims) -> Agreement:
    """Hold the mixer as `options` has it against itself with its reference's implementation, on a short text.

    What raises does not agree; a device that is not there, or is full, raises.
    """
    dims = dims if dims.length <= LENGTH else replace(dims, length=LENGTH, grid=None)
    plain = reference(module)
    mixer, other = (_made(module, options, impl, dims) for impl in (options["impl"], plain))
    try:
        true = _pulled(other, dims, FULL)
        found = {one: _furthest(_pulled(mixer, dims, one), true) for one in tried(dims.target.platform)}
    except Exception as error:
        if fault := device_at_fault(error):
            raise fault from error
        return Agreement(mixer.impl, plain, False, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    passed = all(apart <= near(dims.dtype, one) for one, apart in found.items())
    rounded = f", {found[OWN]:.1e} with products of default precision" if OWN in found else ""
    return Agreement(mixer.impl, plain, passed, f"{found[FULL]:.1e} from {plain} in {dims.dtype}{rounded}")


def tried(platform: str) -> tuple[str, ...]:
    """With which precisions of products an implementation is held against its reference, whose own are in full: on a
    CPU those are the default."""
    return (FULL,) if platform == "cpu" else (FULL, OWN)


def near(dtype: str, precision: str) -> float:
    """How far apart the two may be, as a share of the largest value."""
    return NEAR[dtype] if precision == FULL else max(NEAR[dtype], ROUGH)


def _made(module: ModuleType, options: Mapping[str, Any], impl: str, dims: Dims) -> MixerBase:
    made: MixerBase = module.Mixer(module.Config(**{**options, "impl": impl}), dims, rngs=nnx.Rngs(0))
    return made


def _pulled(mixer: MixerBase, dims: Dims, precision: str) -> list[Array]:
    """y, and the gradients of parameters and x for a random dL/dy, with products so precise."""
    graph, params, rest = nnx.split(mixer, nnx.Param, ...)  # type: ignore[misc]
    shape = (3, dims.length, dims.width)
    x, g = (jax.random.normal(jax.random.key(seed), shape, dims.dtype) for seed in (1, 2))
    mask = jnp.arange(dims.length) < jnp.array([dims.length, dims.length // 2, 0])[:, None]

    @jax.jit
    def pull(params: Any, x: Array) -> tuple[Array, Any]:
        y, back = jax.vjp(lambda params, x: nnx.merge(graph, params, rest, copy=True)(x, mask, key=None), params, x)
        return y, back(g)

    with jax.default_matmul_precision(precision):
        return [leaf.astype(jnp.float32) for leaf in jax.tree.leaves(pull(params, x))]


def _furthest(these: Sequence[Array], those: Sequence[Array]) -> float:
    return max(_apart(a, b) for a, b in zip(these, those, strict=True))


def _apart(a: Array, b: Array) -> float:
    """As a share of the largest value; infinite where one is no number."""
    share = jnp.abs(a - b).max() / jnp.maximum(jnp.abs(b).max(), 1e-6)
    return float(jnp.where(jnp.isfinite(share), share, jnp.inf))
