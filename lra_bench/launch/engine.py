"""What an engine is: something that runs runs, each handed to it by a thread of ours, and that can be told to end."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lra_bench.config import Launcher, Run
from lra_bench.errors import ConfigError, LraError
from lra_bench.records.schema import Result

Tell = Callable[[dict[str, Any]], None]  # called with each event of a run


class Stopped(LraError):
    """The user stopped the runs, and the same command resumes; says what became of them."""

    exit_code = 130

    def __init__(self, said: str = "stopped") -> None:
        super().__init__(said)


@dataclass(frozen=True)
class Order:
    """What is asked of an engine, the same for all its runs."""

    results: Path
    fresh: bool = False  # do again what is done, and forget checkpoints
    minutes: float | None = None  # that a run may take; then it is asked to save and stop, and its result says timeout
    jobs: int | None = None  # runs at once; None: as the launcher's settings say
    processes: int = 1  # of a machine that train a run together


class Engine(ABC):
    """Runs runs. Each engine's file has `opened(settings, runs, order)`, a context manager that yields one."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once  # runs that it is to be handed at once
        self.ended = False  # no further run is to start

    @abstractmethod
    def run(self, run: Run, tell: Tell) -> Result:
        """Execute the run and wait; its result, which stands in the results folder too.

        Raises:
            Stopped: it was told to end.
            ConfigError: the run refused what the user asked for.
            PlaceError: a disk is full, or a place cannot be used.
        """

    @abstractmethod
    def end(self) -> None:
        """Start no further run, and ask all that run to save and stop."""

    @abstractmethod
    def kill(self) -> None:
        """End all at once."""

    def leave(self) -> None:
        """The user goes: where runs cannot be left to themselves, they end."""
        self.end()

    def parting(self) -> str:
        """What became of the runs when the user went."""
        return "stopped and saved; the same command resumes"


def opened(settings: Launcher, runs: Sequence[Run], order: Order) -> AbstractContextManager[Engine]:
    """The engine of a launcher's settings, for runs that are to be run.

    Raises:
        ConfigError: it is not installed, or cannot be had.
    """
    module = importlib.import_module(f"lra_bench.launch.{settings.engine}")
    return module.opened(settings, runs, order)


def extra(library: str, name: str) -> Any:
    """The library of an extra.

    Raises:
        ConfigError: it is not installed; the line says how it is.
    """
    try:
        return importlib.import_module(library)
    except ImportError:
        raise ConfigError(f"--launcher {name}: needs {library}: pip install 'lra-bench[{name}]'") from None
