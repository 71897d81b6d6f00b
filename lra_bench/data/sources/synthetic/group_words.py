"""State tracking: a word of a group's elements x_1 x_2 ...; at each place t, which element is x_1 x_2 ... x_t?

The word problems of arXiv 2404.08819, section 5, and 2411.12537, section 5: of the cyclic group of two elements, where
that is the parity of ones; of five, addition modulo 5; of the permutations of three and of five things, S3 and S5; and
of the even ones of five, A5. x_1 x_2 is the permutation x_1 after x_2.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations
from typing import Literal

import numpy as np

from lra_bench.config import Count, Strict
from lra_bench.data import generated
from lra_bench.data.generated import Dice
from lra_bench.data.words import Words, same_places
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

VERSION = 1

MOST = 120  # elements of S5
WORDS = Words(*(f"g{i}" for i in range(MOST)))

Group = Literal["Z2", "Z5", "S3", "A5", "S5"]


class Args(Strict):
    """Whose words, and how long they are."""

    group: Group
    min_length: Count  # elements of a word; the most are L


@cache
def elements(group: Group) -> np.ndarray:
    """Each element as a permutation of things, int64 [elements, things]; the first changes nothing."""
    kind, things = group[0], int(group[1:])
    if kind == "Z":
        return (np.arange(things)[:, None] + np.arange(things)) % things
    every = np.array(list(permutations(range(things))))
    first, second = np.triu_indices(things, 1)
    inversions = (every[:, first] > every[:, second]).sum(axis=1)
    return every[inversions % 2 == 0] if kind == "A" else every


@cache
def products(group: Group) -> np.ndarray:
    """The number of the element a b, for numbers a and b of elements, int64 [elements, elements]."""
    each = elements(group)
    number = {one.tobytes(): i for i, one in enumerate(each)}
    return np.array([[number[a[b].tobytes()] for b in each] for a in each])


def vocabulary(args: Args) -> int:
    """The elements."""
    return len(elements(args.group))


def fits(args: Args, length: int) -> None:
    """Raises TaskError: `min_length` is more than `length`."""
    if args.min_length > length:
        raise TaskError(f"args.min_length: {args.min_length}, more than length {length}")


def beyond(args: Args, length: int) -> Args:
    """Of more than `length` elements."""
    return args.model_copy(update={"min_length": length + 1})


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's words: a length, and so many elements, all equally likely."""
    dice, n, table = Dice(seed, chunk), generated.chunk_of(length), products(args.group)
    lengths = args.min_length + dice.throw(length + 1 - args.min_length, (n,))
    word = dice.throw(len(table), (n, length))
    state, states = np.zeros(n, np.int64), np.empty_like(word)
    for place in range(length):
        states[:, place] = state = table[state, word[:, place]]
    there = np.arange(length) < lengths[:, None]
    return generated.whole(np.where(there, 1 + word, 0), lengths, np.where(there, 1 + states, 0))


def check(args: Args, tokens: np.ndarray, label: np.ndarray) -> None:
    """Hold a word, tokens [1, L], against `args`, and `label` [L] against the permutations multiplied one by one.

    Raises:
        DataError: it is too short, holds an element of another group, or a state is another.
    """
    word, each = tokens[0][tokens[0] > 0].astype(int) - 1, elements(args.group)
    if len(word) < args.min_length:
        raise DataError(f"{len(word)} elements, fewer than {args.min_length}")
    if word.max() >= len(each):
        raise DataError(f"element {word.max()} is none of the {len(each)}")
    state, derived = each[0], np.zeros_like(label)
    for place, element in enumerate(word):
        state = state[each[element]]
        derived[place] = 1 + np.flatnonzero((each == state).all(axis=1))[0]
    same_places(label, derived)
