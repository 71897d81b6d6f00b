"""A file of JSON: written whole, read with a word on what is wrong."""

from __future__ import annotations

import contextlib
import glob
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lra_bench.errors import ConfigError, using
from lra_bench.records.store.locks import alone

DEAD = 3600.0  # seconds after which nobody writes a file any more that was begun


def write_json(path: Path, value: Any) -> None:
    """Write atomically: a reader sees the old file or the new one, whole, also after a power cut.

    What writers that were killed left beside it is taken away.

    Raises:
        PlaceError: the disk is full, or the place cannot be written to.
    """
    text = as_json(value)
    with using(path):
        _write(path, f"{text}\n")


def update_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Write what `change` makes of what the file holds now, of None where there is none; of several processes one after
    another, so that none loses what another wrote.

    Raises:
        ConfigError: as `read_json`.
        PlaceError: as `write_json`.
    """
    with using(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.parent):
        write_json(path, change(read_json(path) if path.exists() else None))


def as_json(value: Any, indent: int | None = 1) -> str:
    """The value as JSON, which has no numbers but finite ones: what is none is null."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(finite(value), indent=indent, allow_nan=False)


def finite(value: Any) -> Any:
    """The value with None for each number in it that is not finite."""
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
    ) as file:
        new = Path(file.name)
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    new.chmod(0o644)
    now = new.stat().st_mtime  # by the clock of the file system, which may be another machine's
    new.replace(path)
    _sync(path.parent)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        with contextlib.suppress(FileNotFoundError):
            if now - left.stat().st_mtime > DEAD:
                left.unlink()


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk too, where the file system can be told."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _no_number(said: str) -> None:
    """Infinity and NaN, which files of earlier versions have: no number was there."""


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ConfigError: it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
