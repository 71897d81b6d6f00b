"""Copying: some symbols, then blanks, then a sign and as many blanks; at those, which symbols were they, in order? With
`selective` the symbols stand scattered among the blanks before the sign.

The copying memory task of arXiv 1511.06464, section 4.1, and selective copying of 2312.00752, section 4.1.1, and of MAD
(2403.17844, section 3.1), where symbols, blank and sign together are the vocabulary. Scattered places are all equally
likely here; in MAD's code (athms/mad-lab, mad/data/instances.py) the last symbol stands right before the sign.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lra_bench.config import Count, Strict
from lra_bench.data import generated
from lra_bench.data.generated import Dice
from lra_bench.data.words import Words, same_places
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

VERSION = 2

MOST = 128  # symbols, blank and sign among them
BLANK, SIGN, SYMBOL = 1, 2, 3  # the first of each
WORDS = Words(".", ">", *(f"s{i}" for i in range(MOST - 2)))


class Args(Strict):
    """What is to be copied."""

    vocab: Annotated[int, Field(ge=3, le=MOST)]  # symbols, blank and sign among them
    symbols: Count  # to be copied
    selective: bool  # scattered among the blanks, instead of side by side at the beginning


def vocabulary(args: Args) -> int:
    """The symbols that can stand in a text."""
    return args.vocab


def asked(args: Args, length: int) -> int:
    """The places after the sign."""
    return args.symbols


def fits(args: Args, length: int) -> None:
    """Raises TaskError: the symbols, twice, and the sign do not fit `length`."""
    if 2 * args.symbols + 1 > length:
        raise TaskError(f"args.symbols: {args.symbols}; twice, with the sign, they do not fit length {length}")


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's texts: symbols, all equally likely, in places, all equally likely where they are scattered."""
    dice, n, room = Dice(seed, chunk), generated.chunk_of(length), length - args.symbols - 1
    symbols = SYMBOL + dice.throw(args.vocab - 2, (n, args.symbols))
    places = np.broadcast_to(np.arange(args.symbols), symbols.shape)
    if args.selective:
        places = np.sort(dice.order((n, room))[:, : args.symbols])
    tokens, label = np.full((n, length), BLANK), np.zeros((n, length), np.int64)
    np.put_along_axis(tokens, places, symbols, axis=1)
    tokens[:, room], label[:, room + 1 :] = SIGN, symbols
    return generated.whole(tokens, np.full(n, length), label)


def check(args: Args, tokens: np.ndarray, label: np.ndarray) -> None:
    """Hold a text, tokens [1, L], against `args`, and `label` [L] against the symbols that it shows.

    Raises:
        DataError: it is no such text, or asks for other symbols.
    """
    text = WORDS.decode(tokens[0]).split()
    shown, sign, blanks = text[: -args.symbols - 1], text[-args.symbols - 1 : -args.symbols], text[-args.symbols :]
    symbols = [word for word in shown if word != "."]
    if sign != [">"] or set(blanks) != {"."} or ">" in symbols or len(symbols) != args.symbols:
        raise DataError(f"it is not {args.symbols} symbols among blanks, a sign and as many blanks")
    if not args.selective and shown[: args.symbols] != symbols:
        raise DataError("its symbols do not stand at its beginning")
    same_places(label, np.array([0] * (len(shown) + 1) + [WORDS.ids[word] for word in symbols]))
