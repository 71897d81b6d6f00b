"""Associative recall: keys, each followed by its value, then a gap, and one of the keys; which value was its? One
question of multi-query associative recall (MQAR, Arora et al., arXiv 2312.04927, definition 3.1), which asks many."""

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

KEYS = tuple(a + b for a in "abcdefghijklm" for b in "abcdefghijklm")
VALUES = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
GAP = 1 + len(KEYS) + len(VALUES)
WORDS = Words(*KEYS, *VALUES, ".")


class Args(Strict):
    """How much is to be remembered."""

    pairs: Annotated[int, Field(ge=1, le=len(KEYS))]  # of a key and its value; no key stands twice
    values: Annotated[int, Field(ge=2, le=len(VALUES))]  # that there are, and as many classes


def fits(args: Args, length: int) -> None:
    """Raises TaskError: the pairs do not fit `length`."""
    if 2 * args.pairs >= length:
        raise TaskError(f"args.pairs: {args.pairs}; with the question they do not fit length {length}")


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's texts: keys and values, all equally likely, the gap, and the question."""
    dice, n = Dice(seed, chunk), generated.chunk_of(length)
    keys = dice.order((n, len(KEYS)))[:, : args.pairs]
    values = dice.throw(args.values, (n, args.pairs))
    asked, each = dice.throw(args.pairs, (n,)), np.arange(n)
    tokens = np.full((n, length), GAP)
    tokens[:, 0 : 2 * args.pairs : 2] = 1 + keys
    tokens[:, 1 : 2 * args.pairs : 2] = 1 + len(KEYS) + values
    tokens[:, -1] = 1 + keys[each, asked]
    return generated.whole(tokens, np.full(n, length), values[each, asked])


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold a text, tokens [1, L], against `args`, and `label` against what the pairs say.

    Raises:
        DataError: it is no such text, asks for a key that is not there, or has another value.
    """
    text = WORDS.decode(tokens[0]).split()
    pairs, gap = text[: 2 * args.pairs], text[2 * args.pairs : -1]
    known = dict(zip(pairs[::2], pairs[1::2], strict=False))
    if (
        len(pairs) < 2 * args.pairs
        or len(known) != args.pairs
        or set(gap) - {"."}
        or not set(known.values()) <= set(VALUES[: args.values])
    ):
        raise DataError(f"it is not {args.pairs} pairs of a key of its own and a value, and a gap")
    if text[-1] not in known:
        raise DataError(f"it asks for '{text[-1]}', which is no key of its")
    same(label, VALUES.index(known[text[-1]]))
