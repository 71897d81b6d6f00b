"""Floating-point work of a function, counted from its jaxpr.

XLA's own `cost_analysis` counts the body of a loop once, so a scan over 32 layers looks like one layer. Here the body
of a scan is counted `length` times, and of a `cond` the most expensive branch. What is recomputed in the backward pass
(`jax.checkpoint`, blockwise attention) is counted, for it is work that is done.

Counted: a product of matrices or a convolution, two for each multiply-add; a transform, 5 n log2 n; a sort, n log2 n;
the k largest, n log2 k; every element that an arithmetic operation makes, one; every element that a reduction, a
cumulative operation or a scatter-add and its like consumes, one, and of a reduction over windows, every element of
every window. Of complex numbers a sum is two, a product six, a multiply-add eight, anything else two. Moving, comparing
and converting numbers, and integers and booleans: nothing; nor factorizations (QR, SVD). A Pallas kernel, whose loops
depend on its data: what it states of itself (`cost_estimate`), or its body for each of its programs, on Hopper for
each warpgroup. cuDNN's fused attention: its products. A `while` loop raises: nobody knows how often it runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import jax.numpy as jnp

from lra_bench.errors import LraError

ARITHMETIC = {
    "abs", "acos", "acosh", "add", "add_any", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh",
    "digamma", "div", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "integer_pow", "lgamma", "log", "log1p",
    "logistic", "max", "min", "mul", "neg", "pow", "rem", "rsqrt", "sign", "sin", "sinh", "sqrt", "square", "sub",
    "tan", "tanh",
}  # fmt: skip
EATING = {
    "argmax", "argmin", "cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum", "reduce_max", "reduce_min",
    "reduce_prod", "reduce_sum", "select_and_scatter_add",
}  # fmt: skip
SCATTERING = {"scatter-add", "scatter-max", "scatter-min", "scatter-mul", "scatter-sub"}  # their updates are consumed
WINDOWED = {"reduce_window_max", "reduce_window_min", "reduce_window_sum"}
PRODUCTS = {
    "cumprod",
    "div",
    "integer_pow",
    "mul",
    "reduce_prod",
    "scatter-mul",
    "square",
}  # dearer of complex numbers


CUDNN = "dot_product_attention"  # what primitives of cuDNN's fused attention are called, arrays [B, L, H, K]


class Jaxpr(Protocol):
    """A jaxpr, closed over its constants or not: two classes before JAX 0.12, and one since."""

    @property
    def eqns(self) -> Any:
        """What it does, in order."""


def flops(jaxpr: Jaxpr) -> float:
    """Floating-point operations of one execution of `jaxpr`, e.g. of `jax.make_jaxpr(step)(*arguments)`.

    Raises:
        LraError: it holds a `while` loop.
    """
    return sum(_equation(e) for e in jaxpr.eqns)


def _equation(e: Any) -> float:
    name = e.primitive.name
    if name == "scan":
        return e.params["length"] * flops(e.params["jaxpr"])
    if name == "cond":
        return max(flops(branch) for branch in e.params["branches"])
    if name == "pallas_call":
        stated = e.params["cost_estimate"]
        return stated.flops if stated else math.prod(e.params["grid_mapping"].grid) * flops(e.params["jaxpr"])
    if name == "mpmd_map":
        programs = (math.prod(mesh.grid) * (mesh.num_threads or 1) for mesh in e.params["meshes"])
        return sum(n * flops(j) for n, j in zip(programs, e.params["jaxprs"], strict=True))
    if name.startswith(CUDNN):
        return _attention(name, e)
    if name == "while":
        raise LraError("the work of a `while` loop cannot be counted: nobody knows how often it runs; use `scan`")
    if name in ("reduce", "reduce_window"):  # by a function of two numbers, which is called for each that is consumed
        return flops(e.params["jaxpr"]) * _consumed(name, e)
    if name in EATING | SCATTERING | WINDOWED:  # a scatter holds a function of two numbers too
        return _consumed(name, e) * _each(name, e.invars[0].aval.dtype)
    inner = sum(flops(j) for j in _inside(e.params))
    return inner if inner else _primitive(name, e)


def _attention(name: str, e: Any) -> float:
    """Two products forward, and five backward, which makes the weights again."""
    (B, M, H, K), L = e.invars[0].aval.shape, e.invars[1].aval.shape[1]
    return 2 * B * H * M * L * K * (5 if name.startswith(f"{CUDNN}_bwd") else 2)


def _consumed(name: str, e: Any) -> int:
    """The elements that a reduction, of whatever kind, takes in."""
    if "window_dimensions" in e.params and name != "select_and_scatter_add":
        return int(e.outvars[0].aval.size * math.prod(e.params["window_dimensions"]))
    return int(e.invars[2 if name in SCATTERING else 0].aval.size)


def _each(name: str, dtype: Any) -> int:
    """Real operations of one on numbers of that kind."""
    if not jnp.issubdtype(dtype, jnp.inexact):
        return 0
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        return 1
    return 6 if name in PRODUCTS else 2


def _primitive(name: str, e: Any) -> float:
    if name == "wgmma_ref":
        total, a = (x.aval.shape for x in e.invars[:2])
        return 2 * math.prod(total) * a[1]
    out = e.outvars[0].aval if e.outvars else None
    if out is None or not hasattr(out, "shape"):
        return 0
    if name == "dot_general":
        (contracted, _), _ = e.params["dimension_numbers"]
        return _multiply_add(out) * out.size * math.prod(e.invars[0].aval.shape[i] for i in contracted)
    if name == "conv_general_dilated":
        kernel, spec = e.invars[1].aval, e.params["dimension_numbers"].rhs_spec
        return _multiply_add(out) * out.size * kernel.size / kernel.shape[spec[0]]
    if name == "fft":
        lengths = e.params["fft_lengths"]
        return 5 * max(out.size, e.invars[0].aval.size) * math.log2(max(2, math.prod(lengths)))
    if name == "sort":
        consumed = e.invars[0].aval
        return consumed.size * math.log2(max(2, consumed.shape[e.params["dimension"]]))
    if name == "top_k":
        return e.invars[0].aval.size * math.log2(max(2, e.params["k"]))
    return out.size * _each(name, e.invars[0].aval.dtype) if name in ARITHMETIC else 0


def _multiply_add(out: Any) -> int:
    return 8 if jnp.issubdtype(out.dtype, jnp.complexfloating) else 2


def _inside(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """The jaxprs of a call: of `jit`, `checkpoint`, `custom_vjp_call`, `shard_map` and the like."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if hasattr(item, "eqns"):
                yield item
