"""Adding: what is the sum of the two numbers that are marked? Numbers of 0.00 to 0.99, one marked in each half of the
text (Hochreiter & Schmidhuber 1997, section 5.4, in the form of Arjovsky et al., arXiv 1511.06464, section 5.2). An
answer that does not look is wrong by 0.167, squared. The numbers have two digits here, so that each is a symbol.
"""

from __future__ import annotations

import numpy as np

from lra_bench.config import Strict
from lra_bench.data import generated
from lra_bench.data.generated import Dice
from lra_bench.data.words import Words, same
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

VERSION = 1

NUMBERS = 100
MARK = "*"
PLAIN = tuple(f"{n / NUMBERS:.2f}" for n in range(NUMBERS))
WORDS = Words(*PLAIN, *(MARK + number for number in PLAIN))


class Args(Strict):
    """There is nothing to choose."""


def values(args: Args) -> np.ndarray:
    """The number of each symbol, and 1 if it is marked: float32 [V, 2]."""
    numbers = np.tile(np.arange(NUMBERS) / NUMBERS, 2)
    marked = np.repeat([0, 1], NUMBERS)
    return np.concatenate([np.zeros((1, 2)), np.stack([numbers, marked], 1)]).astype(np.float32)


def fits(args: Args, length: int) -> None:
    """Raises TaskError: a half has no number."""
    if length < 2:
        raise TaskError(f"length: {length}; at least 2")


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's texts: numbers, all equally likely; a mark in each half."""
    dice, n = Dice(seed, chunk), generated.chunk_of(length)
    numbers, half, each = dice.throw(NUMBERS, (n, length)), length // 2, np.arange(n)
    marked = np.stack([dice.throw(half, (n,)), half + dice.throw(length - half, (n,))])
    total = numbers[each, marked].sum(0)
    numbers[each, marked] += NUMBERS
    return generated.whole(1 + numbers, np.full(n, length), (total[:, None] / NUMBERS).astype(np.float32))


def check(args: Args, tokens: np.ndarray, label: np.ndarray) -> None:
    """Hold a text, tokens [1, L], against its two marks, and `label` [1] against their sum.

    Raises:
        DataError: it has not one mark in each half, or the sum is another.
    """
    text = WORDS.decode(tokens[0]).split()
    half = len(text) // 2
    found = [[word for word in part if word.startswith(MARK)] for part in (text[:half], text[half:])]
    if [len(words) for words in found] != [1, 1]:
        raise DataError("it has not one marked number in each half")
    total = sum(round(NUMBERS * float(words[0].removeprefix(MARK))) for words in found)
    same(round(NUMBERS * float(label[0])), total)
