"""XLA's flags, looked up before they are set: XLA ends the process at one in `XLA_FLAGS` that it does not know.

XLA alone knows which flags it has: that a library holds a name does not make it a flag. So a process of its own is
begun with them, on a CPU, and names in its last words those that it does not know.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache

VARIABLE = "XLA_FLAGS"
BEGIN = [sys.executable, "-P", "-c", "import jax; jax.devices()"]
UNKNOWN = re.compile(rf"Unknown flags? in {VARIABLE}: (.*)")


def known(flags: Iterable[str]) -> list[str]:
    """Those of the flags, as `--name` or `--name=value`, that the installed XLA has; none where it does not begin."""
    return list(_known(tuple(flags)))


def given(name: str) -> bool:
    """Whether XLA_FLAGS sets the flag `name`, which is without dashes."""
    return name in {flag.lstrip("-").partition("=")[0] for flag in os.environ.get(VARIABLE, "").split()}


@cache
def _known(flags: tuple[str, ...]) -> tuple[str, ...]:
    environ = {**os.environ, "JAX_PLATFORMS": "cpu", VARIABLE: " ".join(flags)}
    begun = subprocess.run(BEGIN, env=environ, capture_output=True, text=True, encoding="utf-8", errors="replace")
    if begun.returncode == 0:
        return flags
    unknown = UNKNOWN.search(begun.stderr)
    return tuple(flag for flag in flags if flag not in unknown[1].split()) if unknown else ()
