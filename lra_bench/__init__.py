"""lra_bench: a Long Range Arena benchmark of efficient transformers in JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lra_bench.api import Loaded, load, mixer, results, run, sweep

__version__ = "0.2.0"
__all__ = ["Loaded", "load", "mixer", "results", "run", "sweep"]


def __getattr__(name: str) -> Any:
    """The functions of `lra_bench.api`, imported when they are first asked for: the command line needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module 'lra_bench' has no attribute '{name}'")
    from lra_bench import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
