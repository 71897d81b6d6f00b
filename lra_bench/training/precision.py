"""The precision of float32 products, and whether a step gives the same bits each time: by platform, and as asked.

On a CPU a product of float32 is one. A GPU of compute capability 8.0 (Ampere) or later multiplies TF32, 10 bits of
mantissa, where JAX is not told otherwise, and a TPU one pass of bfloat16 (JAX's documentation, `jax.lax.Precision`).
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import jax

from lra_bench.config import Recipe
from lra_bench.errors import ConfigError
from lra_bench.training import xla_flags

DEFAULT = "default"
JAX_HAS = {"float32": "float32", "tf32": "tensorfloat32", "bf16": "bfloat16"}  # what is asked for, in JAX's words
PASSES = {  # JAX's words, by how much is asked for: one pass of what the platform multiplies, three, or all of float32
    "default": 1, "fastest": 1, "bfloat16": 1,
    "high": 3, "tensorfloat32": 3, "bfloat16_3x": 3,
    "highest": 6, "float32": 6,
}  # fmt: skip
ON_TPU = {1: "bf16", 3: "bf16_3x", 6: "float32"}
AMPERE = 8  # the first compute capability with TF32
SAME_BITS = "--xla_gpu_deterministic_ops=true"  # atomics and autotuning are left out too (openxla/xla, pull 12520)

F = TypeVar("F", bound=Callable[..., Any])


def products(platform: str, capability: str | None, asked: str, jax_default: str | None = None) -> str | None:
    """The precision that products of float32 have: float32, tf32, bf16, bf16_3x; None where nobody here knows.

    `capability` is a GPU's compute capability, as "8.0"; `asked` is the backbone's `matmul`, and `jax_default` what JAX
    is set to, `JAX_DEFAULT_MATMUL_PRECISION`, which counts where nothing is asked.
    """
    if platform == "cpu":
        return "float32"
    word = JAX_HAS.get(asked) or jax_default or DEFAULT
    passes = PASSES.get(word)
    if passes is None:
        return word.lower()  # an algorithm by its own name, as TF32_TF32_F32_X3
    if platform == "tpu":
        return ON_TPU[passes]
    major = (capability or "").partition(".")[0]
    if platform != "gpu" or not major.isdecimal():
        return "float32" if passes == max(ON_TPU) else None
    return "tf32" if int(major) >= AMPERE and passes < max(ON_TPU) else "float32"


def within(asked: str) -> AbstractContextManager[Any]:
    """Products that are traced meanwhile are asked for so; as JAX is set to have them, if nothing is asked."""
    return nullcontext() if asked == DEFAULT else jax.default_matmul_precision(JAX_HAS[asked])


def precisely(asked: str, function: F) -> F:
    """The function, traced `within` what is asked."""

    @functools.wraps(function)
    def traced(*arguments: Any) -> Any:
        with within(asked):
            return function(*arguments)

    return traced  # type: ignore[return-value]


def same_bits_as_asked(recipes: Iterable[Recipe], environ: MutableMapping[str, str] = os.environ) -> None:
    """Where one of the recipes asks for it, have XLA use only operations that give the same bits each time.

    Called before anything opens a device: XLA reads its flags then.

    Raises:
        ConfigError: the installed XLA has no flag for it.
    """
    if any(recipe.training.deterministic for recipe in recipes) and not said_so(environ):
        if not xla_flags.known([SAME_BITS]):
            installed = importlib.metadata.version("jaxlib")
            raise ConfigError(f"training.deterministic: jaxlib {installed} has no flag {SAME_BITS.partition('=')[0]}")
        environ["XLA_FLAGS"] = f"{environ.get('XLA_FLAGS', '')} {SAME_BITS}".strip()


def said_so(environ: Mapping[str, str]) -> bool:
    """Is XLA told so, on a GPU?"""
    name = SAME_BITS.partition("=")[0]
    said = [word for word in environ.get("XLA_FLAGS", "").split() if word.partition("=")[0] == name]
    return bool(said) and said[-1].partition("=")[2].lower() in ("", "true", "1")


def same_bits(platform: str, environ: Mapping[str, str]) -> bool | None:
    """Does a compiled step give the same bits each time? On a CPU it does; on a GPU, where XLA is told so; None: nobody
    here knows."""
    return {"cpu": True, "gpu": said_so(environ)}.get(platform)


def facts(recipe: Recipe) -> dict[str, Any]:
    """The result's columns on it, of this process's device."""
    device = jax.local_devices()[0]
    return {"matmul": of(device, recipe.backbone.matmul), "deterministic": same_bits(device.platform, os.environ)}


def of(device: jax.Device, asked: str = DEFAULT) -> str | None:
    """`products` of a device, as JAX is set here."""
    config: Any = jax.config
    said = config.jax_default_matmul_precision
    return products(device.platform, getattr(device, "compute_capability", None), asked, said)
