"""Pictures and sounds as levels of one byte: token = level + 1, so that black, or silence, is no padding."""

from __future__ import annotations

import numpy as np

from lra_bench.config import Strict
from lra_bench.errors import DataError
from lra_bench.shapes import Split

PADDING = "<pad>"
SYMBOLS = (PADDING, *map(str, range(256)))


def split(values: np.ndarray, label: np.ndarray) -> Split:
    """Examples of full length, from their levels, uint8 [N, L], and labels [N]."""
    tokens = values.astype(np.uint16)[:, None] + np.uint16(1)
    return Split(tokens, np.full((len(tokens), 1), tokens.shape[-1], np.int32), label.astype(np.int32))


def values(args: Strict) -> np.ndarray:
    """The number from 0 to 1 that each id stands for, float32 [257, 1]: level / 255; padding stands for 0."""
    return np.concatenate(([0], np.arange(256) / 255)).astype(np.float32)[:, None]


def check(tokens: np.ndarray, label: int, classes: int) -> None:
    """Hold one example [L] and its label against what there can be.

    Raises:
        DataError: a level is missing, or there is no such label.
    """
    hold(tokens)
    if not 0 <= label < classes:
        raise DataError(f"its label is {label}, not below {classes}")


def hold(tokens: np.ndarray) -> None:
    """Raises DataError: a level of an example [L] is missing."""
    if tokens.min() < 1 or tokens.max() >= len(SYMBOLS):
        raise DataError(f"{(tokens < 1).sum()} of its {tokens.size} levels are missing")


def encode(text: str) -> np.ndarray:
    """The tokens, uint16 [n], of levels with spaces between them: what `decode` undoes."""
    return np.array(text.split(), np.uint16) + np.uint16(1)


def decode(tokens: np.ndarray) -> str:
    """Levels [L] as numbers with spaces between them."""
    return " ".join(map(str, (tokens[tokens > 0] - 1).tolist()))


def row(tokens: np.ndarray, label: int) -> str:
    """An example, tokens [1, L], and its label as a line."""
    return f"{decode(tokens[0])}\t{label}"
