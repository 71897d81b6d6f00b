"""Needle: which digit stands behind the one `#`? All else is noise, of letters and of other digits, and the last token
asks. The distance between the digit and the question is an option: what a mechanism finds from how far."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lra_bench.config import Strict
from lra_bench.data import generated
from lra_bench.data.generated import Dice
from lra_bench.data.words import Words, same
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

VERSION = 1

LETTERS, DIGITS, SIGN, QUESTION = 1, 27, 37, 38
WORDS = Words(*"abcdefghijklmnopqrstuvwxyz", *"0123456789", "#", "?")


class Args(Strict):
    """Where the needle lies."""

    distance: Annotated[int, Field(ge=1)] | None  # places from the digit to the question; null: any


def fits(args: Args, length: int) -> None:
    """Raises TaskError: `distance` does not fit `length`."""
    if length < 3 or (args.distance or 1) > length - 2:
        raise TaskError(f"args.distance: {args.distance}; in a text of length {length} it can be 1 to {length - 2}")


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's texts: noise, all symbols of it equally likely; the needle; the question."""
    dice, n = Dice(seed, chunk), generated.chunk_of(length)
    tokens = LETTERS + dice.throw(SIGN - LETTERS, (n, length))
    distance = 1 + dice.throw(length - 2, (n,)) if args.distance is None else np.full(n, args.distance)
    label, each = dice.throw(10, (n,)), np.arange(n)
    tokens[each, length - 1 - distance] = DIGITS + label
    tokens[each, length - 2 - distance] = SIGN
    tokens[:, -1] = QUESTION
    return generated.whole(tokens, np.full(n, length), label)


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold a text, tokens [1, L], against `args`, and `label` against its needle.

    Raises:
        DataError: it has not one needle and one question, the needle lies elsewhere, or is another digit.
    """
    text = WORDS.decode(tokens[0]).split()
    if text.count("#") != 1 or text.count("?") != 1 or text[-1] != "?":
        raise DataError("it does not hold one '#', and one '?' at its end")
    at = text.index("#") + 1
    if args.distance is not None and len(text) - 1 - at != args.distance:
        raise DataError(f"its needle lies {len(text) - 1 - at} from the question, not {args.distance}")
    if not text[at].isdigit():
        raise DataError(f"'{text[at]}' stands behind its '#', no digit")
    same(label, int(text[at]))
