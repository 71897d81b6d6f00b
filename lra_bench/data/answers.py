"""What the columns of a table say an answer is: one of the classes, several labels, or numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from lra_bench.errors import DataError, nearest

Kind = Literal["class", "labels", "numbers"]

BETWEEN = "|"  # stands between labels that are no list


def columns(kind: Kind, label: str) -> list[str]:
    """The columns that an answer stands in: one, or of numbers several, with commas between them."""
    return [name.strip() for name in label.split(",")] if kind == "numbers" else [label]


def names(kind: Kind, said: Iterable[Any]) -> list[str]:
    """The classes or labels that some answers name, in order, whole numbers in their own."""
    found = {name for one in said for name in _named(kind, one)}
    return sorted(found, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))


def answer(kind: Kind, fields: Mapping[str, Any], ids: Mapping[str, int]) -> int | np.ndarray:
    """What `fields`, by column, say: a class, int; labels, uint8 [C]; numbers, float32 [C].

    Raises:
        DataError: a name is none of `ids`, or there is no number.
    """
    if kind == "numbers":
        return np.array([_number(column, value) for column, value in fields.items()], np.float32)
    ((column, said),) = fields.items()
    found = [_id(column, name, ids) for name in _named(kind, said)]
    if kind == "class":
        return found[0]
    bits = np.zeros(len(ids), np.uint8)
    bits[found] = 1
    return bits


def _named(kind: Kind, said: Any) -> list[str]:
    if kind == "class":
        return [str(said).strip()]
    parts = said if isinstance(said, list) else str(said).split(BETWEEN)
    return [name for part in parts if (name := str(part).strip())]


def _id(column: str, name: str, ids: Mapping[str, int]) -> int:
    if name not in ids:
        raise DataError(f"{column}: '{name[:40]}' is no class; {nearest(name, ids)}")
    return ids[name]


def _number(column: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise DataError(f"{column}: '{str(value)[:40]}' is no number") from None
    if not np.isfinite(number):
        raise DataError(f"{column}: {number} is no number")
    return number


def check(label: Any) -> None:
    """Raises DataError: a class is below 0, or a number is none."""
    if np.ndim(label) == 0 and label < 0:
        raise DataError(f"its label is {label}")
    if not np.isfinite(label).all():
        raise DataError(f"its label is {label}, no number")


def written(label: Any) -> str:
    """An answer in one column of a line: its numbers with spaces between them."""
    return " ".join(f"{number:.7g}" for number in np.atleast_1d(label))
