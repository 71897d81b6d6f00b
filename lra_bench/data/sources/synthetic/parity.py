"""Parity: is the number of ones odd? A text of zeros and ones, of any length up to L; one changed symbol changes the
label, so that all must be read (Hahn, arXiv 1906.06755, section 4, on what self-attention cannot compute)."""

from __future__ import annotations

import numpy as np

from lra_bench.config import Count, Strict
from lra_bench.data import generated
from lra_bench.data.generated import Dice
from lra_bench.data.words import Words, same
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

VERSION = 1

ZERO, ONE = 1, 2
WORDS = Words("0", "1")


class Args(Strict):
    """How long the texts are."""

    min_length: Count  # symbols; the most are L


def fits(args: Args, length: int) -> None:
    """Raises TaskError: `min_length` is more than `length`."""
    if args.min_length > length:
        raise TaskError(f"args.min_length: {args.min_length}, more than length {length}")


def beyond(args: Args, length: int) -> Args:
    """Of more than `length` symbols."""
    return args.model_copy(update={"min_length": length + 1})


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's texts: a length, and so many symbols, all equally likely."""
    dice, n = Dice(seed, chunk), generated.chunk_of(length)
    lengths = args.min_length + dice.throw(length + 1 - args.min_length, (n,))
    bits = dice.throw(2, (n, length))
    there = np.arange(length) < lengths[:, None]
    return generated.whole(np.where(there, ZERO + bits, 0), lengths, (bits * there).sum(1) % 2)


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold a text, tokens [1, L], against `args`, and `label` against its ones.

    Raises:
        DataError: it is too short, or of the other parity.
    """
    text = WORDS.decode(tokens[0]).split()
    if len(text) < args.min_length:
        raise DataError(f"{len(text)} symbols, fewer than {args.min_length}")
    same(label, text.count("1") % 2)
