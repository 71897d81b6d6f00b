"""A file of JSON: written whole, read with a word on what is wrong."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from lra_bench.errors import ConfigError

DEAD = 3600.0  # seconds after which nobody writes a file any more that was begun


def write_json(path: Path, value: Any) -> None:
    """Write atomically: a reader sees the old file or the new one, whole, also after a power cut.

    What writers that were killed left beside it is taken away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
    ) as file:
        new = Path(file.name)
        try:
            json.dump(value, file, indent=1)
            file.write("\n")
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


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ConfigError: it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
