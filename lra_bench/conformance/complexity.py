"""How a mixer's work and memory grow with L, counted and planned; nothing is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lra_bench.conformance.trial import Array, Trial
from lra_bench.conformance.verdict import Shown
from lra_bench.measure.flops import flops
from lra_bench.measure.memory import compiled_bytes
from lra_bench.mixers.base import Dims
from lra_bench.mixers.card import YES
from lra_bench.training.program import Options, known

SPAN = (2048, 8192, 32768)  # of lengths, whose work and kept arrays are counted; each four times the one before
COMPILED = (2048, 4096)  # between which the compiler's plans of memory are compared
# Counted: narrow, or the projections, linear in L, hide what is not. Planned: wide, or constants hide what grows.
NARROW, WIDE = (Dims(width=2 * k, heads=2, head_width=k, length=0) for k in (8, 128))
EXPONENT = 0.2  # how far from the card
REST = 0.02  # of the whole at the end of the span: what is less than that beside the linear term does not count
PLANNED: Options = {"xla_backend_optimization_level": "0"}  # the plan of memory is all that is wanted


def exponents(trial: Trial) -> Shown:
    """6. Work and memory grow with L as the card says, of a causal form too; None, and how they grow, where it claims
    nothing.

    Work is counted from the jaxpr. Memory is the faster of what the backward pass is handed and of the compiler's plan.
    """
    ways = (trial, trial.causal) if trial.model_card.card.causal_form == YES else (trial,)
    found = [_growth(one) for one in ways]
    held = [every for every, _ in found if every is not None]
    return all(held) if held else None, "; causally ".join(figures for _, figures in found)


def _growth(trial: Trial) -> Shown:
    """The same of one form, bidirectional or causal."""
    causal = trial.dims.causal
    narrow, wide = replace(NARROW, causal=causal), replace(WIDE, causal=causal)
    time, kept = map(grown, zip(*(_counted(trial, replace(narrow, length=L)) for L in SPAN), strict=True))
    short, long = (_planned(trial, replace(wide, length=L)) for L in COMPILED)
    found = (time, max(kept, math.log2(long / short)))
    pairs = list(zip(("work", "memory"), found, trial.model_card.card.growth(causal), strict=True))
    held = [abs(grows - claim) < EXPONENT for _, grows, claim in pairs if claim is not None]
    said = (f"{what} L^{grows:.2f}, {_claim(claim)}" for what, grows, claim in pairs)
    return all(held) if held else None, "; ".join(said)


def _claim(exponent: float | None) -> str:
    return "no claim" if exponent is None else f"the card says {exponent:g}"


def grown(amounts: Sequence[float]) -> float:
    """The exponent of the fastest growing term of something, of its amounts at the lengths of `SPAN`.

    Of a L + b L^p, f(4 L) - 4 f(L) is b (4^p - 4) L^p, whatever a is: no exponent between 1 and p, which a short span
    shows, will do. If next to nothing is left, all is linear or less. NaN where a constant term hides what is left.
    """
    first, last = (long - 4 * short for short, long in pairwise(amounts))
    if last < REST * amounts[-1]:
        return math.log(amounts[-1] / amounts[-2], 4)
    return math.log(last / first, 4) if first > 0 else math.nan


def _counted(trial: Trial, dims: Dims) -> tuple[float, float]:
    """Operations of the gradient of one text's output, and bytes that its forward pass hands to the backward pass."""
    loss, (params, x, *others) = _loss(trial, dims)

    def both(params: Any, x: Array, *others: Array) -> tuple[Any, Any]:
        value, pull = jax.vjp(lambda params, x: loss(params, x, *others), params, x)
        return pull, pull(jnp.ones_like(value))

    jaxpr, (pull, _) = jax.make_jaxpr(both, return_shape=True)(params, x, *others)
    return flops(jaxpr), sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull))


def _planned(trial: Trial, dims: Dims) -> float:
    loss, arguments = _loss(trial, dims)
    step = jax.grad(loss, argnums=(0, 1))
    return compiled_bytes(jax.jit(step).lower(*arguments).compile(known(PLANNED)))


def _loss(trial: Trial, dims: Dims) -> tuple[Callable[..., Array], tuple[Any, ...]]:
    """A sum of one text's output, and shapes for its arguments: nothing is run."""
    graph, params, rest = nnx.split(nnx.eval_shape(lambda: trial.make(dims)), nnx.Param, ...)  # type: ignore[misc]
    x = jax.ShapeDtypeStruct((1, dims.length, dims.width), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, dims.length), jnp.bool_)

    def loss(params: Any, x: Array, rest: Any, mask: Array, g: Array) -> Array:
        return (nnx.merge(graph, params, rest, copy=True)(x, mask, key=None) * g).sum()

    return loss, (params, x, rest, mask, x)
