"""Trackers: a run's settings, curve and result, told to what shows them beside other work. One a file.

Found by looking into this folder; `pip install 'lra-bench[NAME]'` brings what the file NAME.py needs. It exports
`TrackedRun`, one run's run as the tracker has it:

    TrackedRun(results, run)                          begin, or resume one that was begun
    log(step, {"train_loss": ..., ...})        a point of the curve
    end(result)                                    what came out; None if it was stopped, and may be resumed
"""

from __future__ import annotations

import importlib
from pathlib import Path

from lra_bench.errors import ConfigError, nearest
from lra_bench.trackers.base import Make, TrackedRun, opened

__all__ = ["Make", "TrackedRun", "chosen", "names", "opened"]


def names() -> tuple[str, ...]:
    """Every tracker that there is, installed or not."""
    own = {"__init__", "base"}
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in own))


def chosen(text: str | None) -> dict[str, Make]:
    """The trackers in a comma list, each once.

    Raises:
        ConfigError: there is none of a name, or what it needs is not installed.
    """
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    return {name: _load(name) for name in parts}


def _load(name: str) -> Make:
    if name not in names():
        raise ConfigError(f"--track {name}: no such tracker; {nearest(name, names())}")
    try:
        make: Make = importlib.import_module(f"{__name__}.{name}").TrackedRun
    except ImportError as error:
        raise ConfigError(f"--track {name}: {error}; pip install 'lra-bench[{name}]' brings it") from None
    return make
