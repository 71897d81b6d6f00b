"""Compression (MAD; Poli et al., arXiv 2403.17844, section 3.1): random symbols and a sign at the end; which symbols
were they, in order? The task has all answers read from one vector, that of the text (`bottleneck: true`).

As in the authors' code (athms/mad-lab, mad/data/instances.py) the sign is one of the vocabulary, and is asked for too.
There a decoder reads the last symbol's vector and a position, symbol after symbol; here the head has an output for each
symbol of each place.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lra_bench.config import Strict
from lra_bench.data import generated
from lra_bench.data.generated import Dice
from lra_bench.data.words import Words, same_places
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

VERSION = 1

MOST = 128  # symbols
SIGN, SYMBOL = 1, 2  # the first of each
WORDS = Words("=", *(f"s{i}" for i in range(MOST - 1)))


class Args(Strict):
    """What is to be kept."""

    vocab: Annotated[int, Field(ge=3, le=MOST)]  # symbols, the sign among them


def vocabulary(args: Args) -> int:
    """The symbols that can stand in a text."""
    return args.vocab


def fits(args: Args, length: int) -> None:
    """Raises TaskError: `length` has no room for a symbol."""
    if length < 2:
        raise TaskError(f"length: {length}; at least 2")


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's texts: symbols, all equally likely, and the sign."""
    dice, n = Dice(seed, chunk), generated.chunk_of(length)
    tokens = SYMBOL + dice.throw(args.vocab - 1, (n, length))
    tokens[:, -1] = SIGN
    return generated.whole(tokens, np.full(n, length), tokens)


def check(args: Args, tokens: np.ndarray, label: np.ndarray) -> None:
    """Hold a text, tokens [1, L], against `args`, and `label` [L] against its symbols.

    Raises:
        DataError: it does not end with its only sign, has a symbol too many, or asks for others.
    """
    text = tokens[0].astype(int)
    if text[-1] != SIGN or (text[:-1] < SYMBOL).any() or text.max() > args.vocab:
        raise DataError(f"it is not symbols of {args.vocab}, and a sign at the end")
    same_places(label, text)
