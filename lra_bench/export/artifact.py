"""The file: a zip of model.stablehlo (`jax.export`), weights.npz and card.json. Reading it takes jax and numpy alone.

The function is (*weights, tokens int32 [B, S, L]) -> logits float32, of any B or of the one it was made for; padding
is 0.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from lra_bench.errors import ConfigError

MODEL, WEIGHTS, CARD = "model.stablehlo", "weights.npz", "card.json"


@dataclass(frozen=True)
class Artifact:
    """A model that was exported."""

    function: export.Exported
    weights: list[np.ndarray]
    card: dict[str, Any]

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """The logits of examples, tokens [B, S, L]; of a task of numbers, those.

        Raises:
            ConfigError: it is for other platforms than the one that is here.
        """
        here = export.default_export_platform()
        if here not in self.function.platforms:
            raise ConfigError(f"the model was exported for {', '.join(self.function.platforms)}, and this is {here}")
        return np.asarray(jax.jit(self.function.call)(*self.weights, tokens.astype(np.int32)))

    @property
    def batch(self) -> int | None:
        """The only B that it takes; None if it takes any."""
        size = self.function.in_avals[-1].shape[0]
        return size if isinstance(size, int) else None


def write(path: Path, function: export.Exported, weights: Sequence[Any], card: dict[str, Any]) -> None:
    """Put the model into one file, whole or not at all."""
    arrays = io.BytesIO()
    np.savez(arrays, *[np.asarray(weight) for weight in weights])
    half = path.with_name(f".{path.name}.half")
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(half, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(MODEL, bytes(function.serialize()))
        file.writestr(WEIGHTS, arrays.getvalue())
        file.writestr(CARD, json.dumps(card, indent=1, allow_nan=False))
    half.rename(path)


def read(path: Path) -> Artifact:
    """The model in a file.

    Raises:
        ConfigError: the file is no such thing.
    """
    try:
        with zipfile.ZipFile(path) as file:
            function = export.deserialize(bytearray(file.read(MODEL)))
            with np.load(io.BytesIO(file.read(WEIGHTS)), allow_pickle=False) as arrays:
                weights = [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
            return Artifact(function, weights, json.loads(file.read(CARD)))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: not a model that lra export wrote: {error}") from None
