"""Copying: some digits, then blanks, then a number p; which was the p-th digit? With `selective` the digits stand
scattered among the blanks, in order. The copying task of arXiv 1511.06464, section 4.1, and selective copying of
2312.00752, section 4.1.1, of which a classifier is asked one place."""

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

MOST = 32  # digits
DIGITS, BLANK, PLACES = 1, 11, 12
WORDS = Words(*"0123456789", ".", *(f"p{place}" for place in range(1, MOST + 1)))


class Args(Strict):
    """What is to be copied."""

    digits: Annotated[int, Field(ge=1, le=MOST)]  # of a text
    selective: bool  # scattered among the blanks, instead of side by side at the beginning


def fits(args: Args, length: int) -> None:
    """Raises TaskError: the digits do not fit `length`."""
    if args.digits >= length:
        raise TaskError(f"args.digits: {args.digits}; with the question they do not fit length {length}")


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's texts: digits, all equally likely, in places, all equally likely where they are scattered."""
    dice, n = Dice(seed, chunk), generated.chunk_of(length)
    digits = dice.throw(10, (n, args.digits))
    places = np.broadcast_to(np.arange(args.digits), digits.shape)
    if args.selective:
        places = np.sort(dice.order((n, length - 1))[:, : args.digits])
    asked, each = dice.throw(args.digits, (n,)), np.arange(n)
    tokens = np.full((n, length), BLANK)
    tokens[each[:, None], places] = DIGITS + digits
    tokens[:, -1] = PLACES + asked
    return generated.whole(tokens, np.full(n, length), digits[each, asked])


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold a text, tokens [1, L], against `args`, and `label` against the digit that it asks for.

    Raises:
        DataError: it is no such text, or asks for another digit.
    """
    *text, asked = WORDS.decode(tokens[0]).split()
    digits = [word for word in text if word != "."]
    if len(digits) != args.digits or not all(word.isdigit() for word in digits) or not asked.startswith("p"):
        raise DataError(f"it is not {args.digits} digits among blanks, and a place")
    if not args.selective and text[: args.digits] != digits:
        raise DataError("its digits do not stand at its beginning")
    if int(asked[1:]) > args.digits:
        raise DataError(f"it asks for {asked}, beyond its {args.digits} digits")
    same(label, int(digits[int(asked[1:]) - 1]))
