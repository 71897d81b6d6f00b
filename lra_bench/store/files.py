"""A file of JSON: written whole, read with a word on what is wrong."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from lra_bench.errors import ConfigError


def write_json(path: Path, value: Any) -> None:
    """Write atomically: a reader sees the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        json.dump(value, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ConfigError: it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
