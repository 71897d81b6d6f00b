"""What can go wrong, and the one line that says so.

LraError
  ConfigError    a YAML, a flag or a knob is wrong        exit code 2
  TaskError      a task cannot be found or understood     exit code 2
  DataError      a file of examples is missing or wrong   exit code 2
  CellFailed     a cell ran and did not finish            exit code 1
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LraError(Exception):
    """An error whose message is meant for the user: one or two lines, no traceback."""

    exit_code = 2


class ConfigError(LraError):
    """A YAML file, a flag or a knob that is not what the schema asks for."""


class TaskError(LraError):
    """A task that cannot be found or understood."""


class DataError(LraError):
    """A file of examples that is missing, corrupt or mislabelled."""


class CellFailed(LraError):
    """A cell that ran and did not finish; `status` is what stands in its row."""

    exit_code = 1

    def __init__(self, message: str, status: str = "error") -> None:
        super().__init__(message)
        self.status = status


def nearest(name: str, names: Iterable[str]) -> str:
    """A sentence that names the nearest valid name, or lists them all where none is near."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"it can be: {', '.join(names)}" if names else "there is none"
