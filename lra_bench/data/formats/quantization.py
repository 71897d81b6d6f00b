"""Pictures and sounds as levels of one byte: token = level + 1, so that black, or silence, is no padding."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lra_bench.config import Strict
from lra_bench.errors import DataError
from lra_bench.shapes import Split

PADDING = "<pad>"
SYMBOLS = (PADDING, *map(str, range(256)))


Black = Literal["level", "padding"]
"""Is level 0 a level as others, or padding, which models with a mask do not see? Long Range Arena has the latter."""


def split(values: np.ndarray, label: np.ndarray, black: Black = "level") -> Split:
    """Examples of full length, from their levels, uint8 [N, L], and labels [N]."""
    tokens = tokens_of(values, black)[:, None]
    return Split(tokens, np.count_nonzero(tokens, axis=2).astype(np.int32), label.astype(np.int32))


def tokens_of(levels: np.ndarray, black: Black) -> np.ndarray:
    """The tokens, uint16, of levels, uint8, of any shape."""
    tokens = levels.astype(np.uint16) + np.uint16(1)
    return tokens if black == "level" else np.where(levels > 0, tokens, np.uint16(0))


def values(args: Strict) -> np.ndarray:
    """The number from 0 to 1 that each id stands for, float32 [257, 1]: level / 255; padding stands for 0."""
    return np.concatenate(([0], np.arange(256) / 255)).astype(np.float32)[:, None]


def check(tokens: np.ndarray, label: int, classes: int, black: Black = "level") -> None:
    """Hold one example [L] and its label against what there can be.

    Raises:
        DataError: a level is missing, or there is no such label.
    """
    hold(tokens if black == "level" else tokens[tokens > 0])
    if not 0 <= label < classes:
        raise DataError(f"its label is {label}, not below {classes}")


def hold(tokens: np.ndarray) -> None:
    """Raises DataError: a level of an example [L] is missing."""
    if not tokens.size or tokens.min() < 1 or tokens.max() >= len(SYMBOLS):
        raise DataError(f"{(tokens < 1).sum()} of its {tokens.size} levels are missing")


def encode(text: str) -> np.ndarray:
    """The tokens, uint16 [n], of levels with spaces between them: what `decode` undoes."""
    return np.array(text.split(), np.uint16) + np.uint16(1)


def decode(tokens: np.ndarray) -> str:
    """Levels [L] as numbers with spaces between them, padding at the end left out; in between it is black, 0."""
    levels = np.trim_zeros(tokens, "b").astype(np.int64) - 1
    return " ".join(map(str, np.maximum(levels, 0).tolist()))


def row(tokens: np.ndarray, label: int) -> str:
    """An example, tokens [1, L], and its label as a line."""
    return f"{decode(tokens[0])}\t{label}"
