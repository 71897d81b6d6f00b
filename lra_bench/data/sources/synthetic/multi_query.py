"""Multi-query associative recall (MQAR; Arora et al., arXiv 2312.04927, definition 3.1 and appendix E): keys, each
followed by its value, then each key once more, in places among blanks; which value was its? Every query is answered,
at its own place.

A query is the i-th of the places, every second one after the pairs, with a probability in proportion to i^(alpha - 1):
repetitions come soon, as in language. No key stands for two values, and no value for two keys. The numbers of symbols
and the places are those of HazyResearch/zoology, zoology/data/multiquery_ar.py; blanks are a symbol, as its zeros are.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import numpy as np
from pydantic import Field

from lra_bench.config import Count, Strict
from lra_bench.data import generated
from lra_bench.data.generated import UNIT, Dice
from lra_bench.data.words import KEY, MARK, VALUE, keys_and_values, same_places
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

VERSION = 1

MOST = 8192  # symbols
WORDS = keys_and_values(".", MOST)


class Args(Strict):
    """How much is to be remembered, and for how long."""

    vocab: Annotated[int, Field(ge=8, le=MOST, multiple_of=2)]  # symbols; half of them values, the others but one keys
    pairs: Count  # of a key and its value, and as many queries
    alpha: Annotated[float, Field(gt=0, le=1)]  # of the power law of the queries' places; 1: all are equally likely


def vocabulary(args: Args) -> int:
    """The symbols that can stand in a text."""
    return args.vocab


def asked(args: Args, length: int) -> int:
    """The queries of a text."""
    return args.pairs


def fits(args: Args, length: int) -> None:
    """Raises TaskError: the pairs and their queries do not fit `length`, or there are not so many keys."""
    if 4 * args.pairs > length:
        raise TaskError(f"args.pairs: {args.pairs}; with their queries they do not fit length {length}")
    if args.pairs >= args.vocab // 2:
        raise TaskError(f"args.pairs: {args.pairs}; of args.vocab {args.vocab} only {args.vocab // 2 - 1} are keys")


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's texts: pairs of keys and values, all equally likely; queries by the power law."""
    dice, n = Dice(seed, chunk), generated.chunk_of(length)
    keys = KEY + 2 * dice.distinct(args.vocab // 2 - 1, (n, args.pairs))
    values = VALUE + 2 * dice.distinct(args.vocab // 2, (n, args.pairs))
    tokens, label = np.full((n, length), MARK), np.zeros((n, length), np.int64)
    tokens[:, 0 : 2 * args.pairs : 2], tokens[:, 1 : 2 * args.pairs : 2] = keys, values
    places = 2 * args.pairs + 2 * gaps(dice, power_law((length - 2 * args.pairs) // 2, args.alpha), (n, args.pairs))
    np.put_along_axis(tokens, places, keys, axis=1)
    np.put_along_axis(label, places, values, axis=1)
    return generated.whole(tokens, np.full(n, length), label, WORDS.kind)


def power_law(places: int, alpha: float) -> np.ndarray:
    """Integers in proportion to i^(alpha - 1) for i from 1 to `places`, of a sum of at most 2^30.

    Made of decimal numbers, whose logarithms are the same on every machine.
    """
    exact = [(Decimal(i).ln() * Decimal(str(alpha - 1))).exp() for i in range(1, places + 1)]
    unit = Decimal(int(UNIT) - places) / sum(exact, Decimal())
    return np.array([max(1, int(unit * one)) for one in exact], np.int64)


def gaps(dice: Dice, weights: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Different places in each row, int64: one after another, each by the weights of those that are left."""
    rows, count = shape
    left, found = np.tile(weights, (rows, 1)), np.empty((rows, count), np.int64)
    for query in range(count):
        below = left.cumsum(axis=1)
        number = dice.throw(below[:, -1], (rows,))
        found[:, query] = (below <= number[:, None]).sum(axis=1)
        np.put_along_axis(left, found[:, query, None], 0, axis=1)
    return found


def check(args: Args, tokens: np.ndarray, label: np.ndarray) -> None:
    """Hold a text, tokens [1, L], against `args`, and `label` [L] against what the pairs say.

    Raises:
        DataError: it is no such text, does not ask for each key once, or has another value.
    """
    text = WORDS.decode(tokens[0]).split()
    known = dict(zip(text[: 2 * args.pairs : 2], text[1 : 2 * args.pairs : 2], strict=False))
    kinds = {key[0] + value[0] for key, value in known.items()}
    if len(known) != args.pairs or len(set(known.values())) != args.pairs or kinds != {"kv"}:
        raise DataError(f"it does not begin with {args.pairs} pairs of a key and a value of its own")
    queries = [word for word in text[2 * args.pairs :] if word != "."]
    if sorted(queries) != sorted(known):
        raise DataError("it does not ask for each of its keys once, among blanks")
    derived = np.zeros_like(label)
    for place, word in enumerate(text[2 * args.pairs :], 2 * args.pairs):
        derived[place] = WORDS.ids[known[word]] if word != "." else 0
    same_places(label, derived)
