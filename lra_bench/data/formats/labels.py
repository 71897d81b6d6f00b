"""What the columns of a table say an answer is: one of the classes, several labels, or numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from lra_bench.errors import DataError, nearest

Kind = Literal["class", "labels", "numbers"]

BETWEEN = "|"  # stands between labels that are no list

# How tables write that there is no label: what pandas reads so, and "?". In any case of the letters.
MISSING = {
    "", "?", "none", "null", "na", "n/a", "nan", "-nan", "<na>",
    "#n/a", "#n/a n/a", "#na", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan",
}  # fmt: skip

LARGEST = 1e15  # of a number that is learned: float32 holds the square of what is a thousand times as far off
SMALLEST = 1e-15  # of a standard deviation: likewise
STEPS = 100  # of float32, at the largest number, in a standard deviation


def columns(kind: Kind, label: str) -> list[str]:
    """The columns that an answer stands in: one, or of numbers several, with commas between them."""
    return [name.strip() for name in label.split(",")] if kind == "numbers" else [label]


def in_order(names: Iterable[str]) -> list[str]:
    """Names of classes or labels in order, integers in their own."""
    return sorted(set(names), key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))


def named(kind: Kind, column: str, said: Any) -> list[str]:
    """The class, or the labels, that an answer names, where it is not known which there are.

    Raises:
        DataError: it is one of `MISSING`.
    """
    found = _named(kind, said)
    for name in found:
        if name.lower() in MISSING:
            raise DataError(
                f"its column '{column}' is missing: '{name}'"
                + (f"; if that is a name, say all of them: args.classes: '{name},...'" if name else "")
            )
    return found


def answer(kind: Kind, fields: Mapping[str, Any], ids: Mapping[str, int]) -> int | np.ndarray:
    """What `fields`, by column, say: a class, int; labels, uint8 [C]; numbers, float64 [C].

    Raises:
        DataError: a name is none of `ids`, or there is no number.
    """
    if kind == "numbers":
        return np.array([_number(column, value) for column, value in fields.items()], np.float64)
    ((column, said),) = fields.items()
    found = [_id(column, name, ids) for name in _named(kind, said)]
    if kind == "class":
        return found[0]
    bits = np.zeros(len(ids), np.uint8)
    bits[found] = 1
    return bits


def is_answer(kind: Kind, said: Iterable[str], ids: Mapping[str, int]) -> bool:
    """Could these fields of a line be an answer, each by itself?"""
    if kind == "numbers":
        return all(_as_float(field) is not None for field in said)
    return all((names := _named(kind, field)) and all(name in ids for name in names) for field in said)


def like_numbers(kind: Kind, names: Iterable[str]) -> bool:
    """Are answers numbers, or some classes or labels named as numbers are?"""
    return kind == "numbers" or any(_as_float(name) is not None for name in names)


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
    number = _as_float(value)
    if number is None:
        raise DataError(f"{column}: '{str(value)[:40]}' is no number")
    if not np.isfinite(number):
        raise DataError(f"{column}: {number} is no number")
    if abs(number) > LARGEST:
        raise DataError(f"{column}: {number:g} is beyond {LARGEST:g}: {_OTHER_UNIT}")
    return number


def _as_float(value: Any) -> float | None:
    try:
        return None if "_" in str(value) else float(value)  # Python's own way to part digits
    except (TypeError, ValueError):
        return None
    except OverflowError:
        return float("inf")


_OTHER_UNIT = "its square is beyond float32; write it in a larger unit"


def kept(numbers: np.ndarray, columns: Sequence[str] = ()) -> np.ndarray:
    """Numbers [N, C] of any type as float32, in which they are learned.

    Raises:
        DataError: float32 cannot hold them, or what tells them apart, or their squares; names the column.
    """
    if len(wrong := np.argwhere(~np.isfinite(numbers))):
        raise DataError(f"[{wrong[0][0]}] holds no number")
    for c in range(numbers.shape[1]):
        if fault := _fault(numbers[:, c]):
            raise DataError(f"{columns[c]}: {fault}" if columns else f"[:, {c}]: {fault}")
    return numbers.astype(np.float32)


def _fault(column: np.ndarray) -> str | None:
    """What is wrong with finite numbers [N] that are to be learned; None if nothing."""
    low, high = float(column.min()), float(column.max())
    largest = max(-low, high)
    if largest > LARGEST:
        return f"{low if -low > high else high:g} is beyond {LARGEST:g}: {_OTHER_UNIT}"
    spread = float(column.std(dtype=np.float64))
    if low == high:
        return None
    if spread < SMALLEST:
        return f"a standard deviation of {spread:.3g}: the squares of such numbers are below what float32 holds"
    step = float(np.spacing(np.float32(largest)))
    if step * STEPS > spread:
        return (
            f"from {low:.10g} to {high:.10g}, a standard deviation of {spread:.3g}, where float32 has steps of "
            f"{step:.3g}; write the numbers less {(low + high) / 2:.6g}"
        )
    return None


def check(label: Any) -> None:
    """Raises DataError: a class is below 0, or a number is none."""
    if np.ndim(label) == 0 and label < 0:
        raise DataError(f"its label is {label}")
    if not np.isfinite(label).all():
        raise DataError(f"its label is {label}, no number")


def whole(label: np.ndarray) -> np.ndarray:
    """Classes [N] as int32, or bits [N, C] as uint8.

    Raises:
        DataError: one is below 0, or beyond what there can be.
    """
    most, kind = (np.iinfo(np.int32).max, np.int32) if label.ndim == 1 else (1, np.uint8)
    wrong = np.argwhere((label < 0) | (label > most))
    if len(wrong):
        value = label[tuple(wrong[0])]
        what = "no class; they begin with 0" if label.ndim == 1 else "no bit; a label is there, 1, or not, 0"
        raise DataError(f"[{wrong[0][0]}]: {value} is {what}")
    return label.astype(kind)


def written(label: Any) -> str:
    """An answer in one column of a line: its numbers with spaces between them."""
    return " ".join(f"{number:.7g}" for number in np.atleast_1d(label))
