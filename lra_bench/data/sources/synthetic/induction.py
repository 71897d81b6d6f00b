"""Induction heads: the last token is a sign that stood in the text once before; which letter followed it there? All
else is letters. After arXiv 2209.11895; as a task of its own in 2212.14052, section 3.1, and 2312.00752, 4.1.2."""

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

SIGN = 27
WORDS = Words(*"abcdefghijklmnopqrstuvwxyz", "*")


class Args(Strict):
    """The noise."""

    letters: Annotated[int, Field(ge=2, le=26)]  # that there are, and as many classes


def fits(args: Args, length: int) -> None:
    """Raises TaskError: `length` is below 3."""
    if length < 3:
        raise TaskError(f"length: {length}; at least 3")


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's texts: letters, all equally likely, and the sign, at the end and before."""
    dice, n = Dice(seed, chunk), generated.chunk_of(length)
    tokens = 1 + dice.throw(args.letters, (n, length))
    at, each = dice.throw(length - 2, (n,)), np.arange(n)
    label = tokens[each, at + 1] - 1
    tokens[each, at] = tokens[:, -1] = SIGN
    return generated.whole(tokens, np.full(n, length), label)


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold a text, tokens [1, L], against `args`, and `label` against what follows the first sign.

    Raises:
        DataError: it has not the sign twice, once at its end, or a letter too many, or another one follows.
    """
    text = WORDS.decode(tokens[0]).split()
    if text.count("*") != 2 or text[-1] != "*":
        raise DataError("it does not hold two '*', one at its end")
    alphabet = WORDS.symbols[1 : 1 + args.letters]
    strange = next((word for word in text if word not in (*alphabet, "*")), None)
    if strange:
        raise DataError(f"'{strange}' is none of its {args.letters} letters")
    same(label, alphabet.index(text[text.index("*") + 1]))
