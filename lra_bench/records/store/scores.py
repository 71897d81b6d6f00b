"""The score of every example of test, kept beside its result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lra_bench.errors import ConfigError
from lra_bench.metrics import Metric
from lra_bench.records.store.files import read_json, write_json

if TYPE_CHECKING:
    import numpy as np


def save_scores(folder: Path, scores: np.ndarray, metric: Metric) -> None:
    """Keep the score of every example of test, [N], in order."""
    import numpy as np

    if metric.binary:
        bits = np.packbits(scores > 0).tobytes().hex()
        write_json(folder / "per_example.json", {"n": len(scores), "hits": bits})
    else:
        write_json(folder / "scores.json", {"n": len(scores), "scores": [float(f"{x:.7g}") for x in scores]})


def save_texts(folder: Path, given: Sequence[str], asked: Sequence[str], written: Sequence[str]) -> None:
    """Keep the texts of every example of test, in order: its source, what was asked for and what was written."""
    each = zip(given, asked, written, strict=True)
    write_json(folder / "texts.json", [dict(zip(("source", "asked", "written"), texts, strict=True)) for texts in each])


def scores(folder: Path) -> np.ndarray | None:
    """The score of every example of test, [N], in order: bool where they are bits; None where none were kept.

    Raises:
        ConfigError: the file is cut short, or no such thing.
    """
    import numpy as np

    file = next((folder / name for name in ("per_example.json", "scores.json") if (folder / name).exists()), None)
    if file is None:
        return None
    kept = read_json(file)
    try:
        if "hits" in kept:
            found = np.unpackbits(np.frombuffer(bytes.fromhex(kept["hits"]), np.uint8))[: kept["n"]].astype(bool)
        else:
            found = np.array(kept["scores"], float)
        whole = len(found) == kept["n"]
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise ConfigError(f"{file}: not the score of every example of test")
    return found
