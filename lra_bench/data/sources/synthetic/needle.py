"""Needle: which digit stands behind the one `#`? All else is noise, of letters, or of letters and other digits, and the
last token asks. The distance between the digit and the question is an option: what a mechanism finds from how far."""

from __future__ import annotations

import re

import numpy as np
from pydantic import field_validator

from lra_bench.config import Strict
from lra_bench.data import generated
from lra_bench.data.generated import Dice
from lra_bench.data.words import Words, same
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

VERSION = 1

PLACES = re.compile(r"[1-9]\d*(-[1-9]\d*)?")

LETTERS, DIGITS, SIGN, QUESTION = 1, 27, 37, 38
WORDS = Words(*"abcdefghijklmnopqrstuvwxyz", *"0123456789", "#", "?")


class Args(Strict):
    """Where the needle lies."""

    distance: int | str | None  # places from the digit to the question; 4-16: any of these; null: any
    decoys: bool  # the noise has digits too, and the sign alone tells which is asked for

    @field_validator("distance", mode="before")
    @classmethod
    def _counted(cls, distance: object) -> object:
        if distance is not None and not PLACES.fullmatch(str(distance)):
            raise ValueError("a number of places as 16, or two as 1-16, or null")
        return distance

    def bounds(self, length: int) -> tuple[int, int]:
        """The least and the greatest distance."""
        if self.distance is None:
            return 1, length - 2
        least, *greatest = map(int, str(self.distance).split("-"))
        return least, greatest[0] if greatest else least


def fits(args: Args, length: int) -> None:
    """Raises TaskError: `distance` does not fit `length`, or begins beyond its end."""
    least, greatest = args.bounds(length)
    if length < 3 or greatest > length - 2:
        raise TaskError(f"args.distance: {greatest}; in a text of length {length} it can be 1 to {length - 2}")
    if least > greatest:
        raise TaskError(f"args.distance: from {least} to {greatest}; the first is the least")


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's texts: noise, all symbols of it equally likely; the needle; the question."""
    dice, n = Dice(seed, chunk), generated.chunk_of(length)
    tokens = LETTERS + dice.throw((SIGN if args.decoys else DIGITS) - LETTERS, (n, length))
    least, greatest = args.bounds(length)
    distance = np.full(n, least) if isinstance(args.distance, int) else least + dice.throw(greatest + 1 - least, (n,))
    label, each = dice.throw(10, (n,)), np.arange(n)
    tokens[each, length - 1 - distance] = DIGITS + label
    tokens[each, length - 2 - distance] = SIGN
    tokens[:, -1] = QUESTION
    return generated.whole(tokens, np.full(n, length), label)


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold a text, tokens [1, L], against `args`, and `label` against its needle.

    Raises:
        DataError: it has not one needle and one question, the needle lies elsewhere or is another digit, or the noise
            has digits where there are to be none.
    """
    text = WORDS.decode(tokens[0]).split()
    if text.count("#") != 1 or text.count("?") != 1 or text[-1] != "?":
        raise DataError("it does not hold one '#', and one '?' at its end")
    at, (least, greatest) = text.index("#") + 1, args.bounds(len(text))
    if not least <= len(text) - 1 - at <= greatest:
        raise DataError(f"its needle lies {len(text) - 1 - at} from the question, not {least} to {greatest}")
    if not text[at].isdigit():
        raise DataError(f"'{text[at]}' stands behind its '#', no digit")
    if not args.decoys and sum(symbol.isdigit() for symbol in text) > 1:
        raise DataError("it holds more digits than its needle")
    same(label, int(text[at]))
