"""In-context recall (MAD; Poli et al., arXiv 2403.17844, section 3.1): keys, each followed by its value, drawn anew for
each text; wherever a key comes again, which value was its? With `noise`, some pairs are symbols that mean nothing.

As in the authors' code (athms/mad-lab, mad/data/instances.py) half of the symbols are keys and half values, two keys
may have the same value, a pair is noise with a probability, and the last pair is of a key that came before, all of them
equally likely. There a decoder answers at the key and is then shown the value; here a sign stands in the value's place,
and is where the answer is asked for: an encoder would read it. There training asks for every next symbol, here for
these alone.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from lra_bench.config import Strict
from lra_bench.data import generated
from lra_bench.data.generated import Dice, first_equal
from lra_bench.data.words import KEY, MARK, VALUE, Words, keys_and_values, same_places
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

VERSION = 1

MOST = 128  # keys and values
NOISES = 16  # symbols that mean nothing
NOISE = 2 + MOST  # the first of them
WORDS = Words(*keys_and_values("?", 1 + MOST).symbols[1:], *(f"n{i}" for i in range(NOISES)))
PARTS = 1 << 20  # of a probability


class Args(Strict):
    """How much is to be remembered, and in how much noise."""

    vocab: Annotated[int, Field(ge=4, le=MOST, multiple_of=2)]  # symbols: keys and as many values
    noise: Annotated[float, Field(ge=0, lt=1)]  # the probability of a pair to be noise


def vocabulary(args: Args) -> int:
    """The symbols that can stand in a text: noise comes last, after all keys and values that there may be."""
    return 1 + args.vocab if args.noise == 0 else 1 + MOST + NOISES


def asked(args: Args, length: int) -> int:
    """All pairs but the first."""
    return length // 2 - 1


def fits(args: Args, length: int) -> None:
    """Raises TaskError: `length` is odd, or has no two pairs."""
    if length % 2 or length < 4:
        raise TaskError(f"length: {length}; pairs take an even number, 4 at least")


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's texts: keys and values, all equally likely; pairs of noise, but for one, and the last."""
    dice, n, pairs, count = Dice(seed, chunk), generated.chunk_of(length), length // 2, args.vocab // 2
    keys, values, each = dice.throw(count, (n, pairs)), dice.throw(count, (n, count)), np.arange(n)
    noise = dice.throw(PARTS, (n, pairs)) < round(args.noise * PARTS)
    noise[each, dice.throw(pairs - 1, (n,))] = noise[:, -1] = False
    keys[:, -1] = _some_key(dice, keys[:, :-1], noise[:, :-1], count)
    again = first_equal(np.where(noise, -1, keys)) < np.arange(pairs)
    answers = VALUE + 2 * np.take_along_axis(values, keys, axis=1)
    nothing = NOISE + dice.throw(NOISES, (n, pairs, 2))
    tokens, label = np.empty((n, length), np.int64), np.zeros((n, length), np.int64)
    tokens[:, ::2] = np.where(noise, nothing[..., 0], KEY + 2 * keys)
    tokens[:, 1::2] = np.where(noise, nothing[..., 1], np.where(again, MARK, answers))
    label[:, 1::2] = np.where(again & ~noise, answers, 0)
    return generated.whole(tokens, np.full(n, length), label)


def _some_key(dice: Dice, keys: np.ndarray, noise: np.ndarray, count: int) -> np.ndarray:
    """One of the different keys of each row that are no noise, all equally likely, int64 [N]."""
    rank, there = dice.order((len(keys), count)), np.zeros((len(keys), count), bool)
    row, place = np.nonzero(~noise)
    there[row, keys[row, place]] = True
    return np.where(there, rank, -1).argmax(axis=1)


def check(args: Args, tokens: np.ndarray, label: np.ndarray) -> None:
    """Hold a text, tokens [1, L], against `args`, and `label` [L] against what its pairs say.

    Raises:
        DataError: it is no such text, hides a value that was not shown, shows one again, or has another.
    """
    text = WORDS.decode(tokens[0]).split()
    known: dict[str, str] = {}
    derived: list[int] = []
    for one, other in zip(text[::2], text[1::2], strict=False):
        again = one in known
        if one[0] + other[0] not in ("nn" if args.noise else "", "k?" if again else "kv"):
            raise DataError(f"'{one} {other}' is no pair, hides what was not shown, or shows what was")
        if one[0] == "k":
            known.setdefault(one, other)
        derived += [0, WORDS.ids[known[one]] if again else 0]
    if len(text) % 2 or text[-1:] != ["?"]:
        raise DataError("it does not end with a key that it asks for")
    same_places(label, np.array(derived))
