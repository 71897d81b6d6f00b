"""Memorization (MAD; Poli et al., arXiv 2403.17844, section 3.1): keys, each followed by a sign; which value does each
have? No text says it: the value of a key is the same in all texts, of train and of test, and is learned by heart.

As in the authors' code (athms/mad-lab, mad/data/instances.py) a symbol of the vocabulary is the sign, half of the
others, rounded down, are keys, the rest values; no two keys have the same value, and keys of a text may repeat. The map
depends on the size of the vocabulary alone, on no seed.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated

import numpy as np
from pydantic import Field

from lra_bench.config import Strict
from lra_bench.data import generated
from lra_bench.data.generated import Dice
from lra_bench.data.words import KEY, MARK, VALUE, keys_and_values, same_places
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

VERSION = 1

MOST = 8192  # symbols
WORDS = keys_and_values("?", MOST)
MAP = 2**63  # the first of the streams that maps are drawn from, where no chunk of examples is


class Args(Strict):
    """How much is to be learned by heart."""

    vocab: Annotated[int, Field(ge=4, le=MOST)]  # symbols: the sign, keys and values


def vocabulary(args: Args) -> int:
    """The symbols that can stand in a text, or be asked for."""
    return args.vocab


def asked(args: Args, length: int) -> int:
    """The signs of a text."""
    return length // 2


def fits(args: Args, length: int) -> None:
    """Raises TaskError: `length` is odd."""
    if length % 2:
        raise TaskError(f"length: {length}; keys and signs take an even number")


@cache
def values_of_keys(vocab: int) -> np.ndarray:
    """The value's symbol of each key, int64 [keys]."""
    values = vocab // 2
    return VALUE + 2 * Dice(0, MAP + vocab).order((values,))[: (vocab - 1) // 2]


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's texts: keys, all equally likely, with a sign after each."""
    dice, n = Dice(seed, chunk), generated.chunk_of(length)
    known = values_of_keys(args.vocab)
    keys = dice.throw(len(known), (n, length // 2))
    tokens, label = np.full((n, length), MARK), np.zeros((n, length), np.int64)
    tokens[:, ::2], label[:, 1::2] = KEY + 2 * keys, known[keys]
    return generated.whole(tokens, np.full(n, length), label, WORDS.kind)


def check(args: Args, tokens: np.ndarray, label: np.ndarray) -> None:
    """Hold a text, tokens [1, L], against `args`, and `label` [L] against the map.

    Raises:
        DataError: it is not keys with a sign after each, or a value is another.
    """
    keys, signs = tokens[0, ::2].astype(int), tokens[0, 1::2]
    known = values_of_keys(args.vocab)
    if (signs != MARK).any() or len(keys) != len(signs) or ((keys - KEY) % 2 | (keys < KEY)).any():
        raise DataError("it is not keys, and a sign after each")
    if keys.max() >= KEY + 2 * len(known):
        raise DataError(f"it holds a key beyond the {len(known)} that there are")
    same_places(label, np.stack([np.zeros_like(keys), known[(keys - KEY) // 2]], 1).ravel())
