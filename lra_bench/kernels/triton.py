"""Pallas' Triton backend for GPUs, in this file alone: JAX deprecates it, and a newer one may not have it."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from lra_bench.errors import ConfigError


def params() -> Any:
    """How a kernel of Pallas is compiled for a GPU.

    Raises:
        ConfigError: the installed JAX has no such backend.
    """
    try:
        from jax.experimental.pallas import triton
    except ImportError:
        installed = importlib.metadata.version("jax")
        raise ConfigError(
            f"impl: 'pallas' needs Pallas' Triton backend on a GPU, which jax {installed} does not have; "
            "impl: 'xla' is the same function"
        ) from None
    return triton.CompilerParams(num_warps=4, num_stages=2)
