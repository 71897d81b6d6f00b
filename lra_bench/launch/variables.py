"""The environment of the processes that run: without what would change numbers, whatever the place it is set in.

A run's id is of what was asked for, and these variables are of no recipe, so they are left out of every run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping

NO = ("", "0", "n", "no", "f", "false", "off")
YES = ("1", "y", "yes", "t", "true", "on")
NUMBERS: dict[str, tuple[str, ...]] = {  # variables that change numbers, and the values with which they change none
    "JAX_ENABLE_X64": NO,
    "JAX_DEFAULT_DTYPE_BITS": ("", "64"),
    "JAX_NUMPY_DTYPE_PROMOTION": ("", "standard"),
    "JAX_DEFAULT_PRNG_IMPL": ("", "threefry2x32"),
    "JAX_THREEFRY_PARTITIONABLE": YES,
    "JAX_THREEFRY_GPU_KERNEL_LOWERING": NO,
    "JAX_RANDOM_SEED_OFFSET": ("", "0"),
    "JAX_DEFAULT_MATMUL_PRECISION": ("", "default", "none"),
    "JAX_DISABLE_JIT": NO,
    "JAX_DISABLE_MOST_OPTIMIZATIONS": NO,
    "NVIDIA_TF32_OVERRIDE": ("",),
}
FLAGS = "XLA_FLAGS"
ROUNDS = re.compile(r"--\S*(?:fast_math|fast_min_max|excess_precision|tf32|bf16|fp8|f8_)\S*")
ASKED = {  # what asks for it in a way that is part of a run
    "JAX_DEFAULT_MATMUL_PRECISION": "backbone.matmul",
    "NVIDIA_TF32_OVERRIDE": "backbone.matmul",
}


def left_out(environ: MutableMapping[str, str]) -> list[str]:
    """Take out of the environment what would change numbers; a line on each that would."""
    lines = []
    for name, harmless in NUMBERS.items():
        value = environ.pop(name, None)
        if value is not None and value.lower() not in harmless:
            lines.append(_line(f"{name}={value}", ASKED.get(name)))
    flags = environ.get(FLAGS, "")
    if found := [flag for flag in flags.split() if ROUNDS.fullmatch(flag)]:
        environ[FLAGS] = " ".join(flag for flag in flags.split() if flag not in found)
        lines += [_line(f"{FLAGS}: {flag}", None) for flag in found]
    return lines


def _line(said: str, setting: str | None) -> str:
    instead = f"; --set {setting}=... asks for it" if setting else ""
    return f"{said}: is left out of runs, whose numbers it would change{instead}"


def within(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a run's process: in UTF-8, and without what would change numbers."""
    inside = dict(environ)
    left_out(inside)
    return {**inside, "PYTHONUTF8": "1"}
