"""Fuzzy in-context recall (MAD; Poli et al., arXiv 2403.17844, section 3.1): keys of several symbols, each followed by
its value of several symbols, drawn anew for each text; wherever a key comes again, which value was its?

As in the authors' code (athms/mad-lab, mad/data/instances.py): one symbol of the vocabulary is a sign, half of the
others, rounded down, are of keys, the rest of values; no symbol stands twice in a key or a value; values have 1 to
`motif` symbols, and so have the keys of train, while those of val and test have `motif`. The last pair is one that came
before. There a decoder answers symbol after symbol and is then shown each; here signs stand in their places, and are
where the answer is asked for: an encoder would read it. There training asks for every next symbol, here for these
alone; and what is over at the end is padding, not at the beginning.
"""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import numpy as np
from pydantic import Field

from lra_bench.config import Strict
from lra_bench.data import generated
from lra_bench.data.generated import Dice, first_equal
from lra_bench.data.words import KEY, MARK, VALUE, keys_and_values, same_places
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

VERSION = 1

MOST = 128  # symbols
WORDS = keys_and_values("?", MOST)
HELD_OUT = 2**62  # the first chunk of val and test, whose keys are not as those of train


class Args(Strict):
    """How much is to be remembered."""

    vocab: Annotated[int, Field(ge=4, le=MOST)]  # symbols: the sign, and those of keys and values
    motif: Annotated[int, Field(ge=1, le=8)]  # symbols of a key or value, at the most
    shorter: bool  # keys of train may have fewer


def vocabulary(args: Args) -> int:
    """The symbols that can stand in a text."""
    return args.vocab


def held_out(args: Args) -> Args:
    """Those of val and test: their keys are long."""
    return args.model_copy(update={"shorter": False})


def fits(args: Args, length: int) -> None:
    """Raises TaskError: a key cannot be of different symbols, or two pairs do not fit `length`."""
    if args.motif > (args.vocab - 1) // 2:
        raise TaskError(
            f"args.motif: {args.motif}; of args.vocab {args.vocab} only {(args.vocab - 1) // 2} are of keys"
        )
    if 4 * args.motif > length:
        raise TaskError(f"args.motif: {args.motif}; two pairs do not fit length {length}")


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's texts: keys and values, all of a size equally likely, and all sizes."""
    dice, n = Dice(seed, chunk if args.shorter else HELD_OUT + chunk), generated.chunk_of(length)
    least = 2 if args.shorter else 1 + args.motif
    shape, each = (n, length // least + 1), np.arange(n)
    keys, key_sizes = _motifs(dice, (args.vocab - 1) // 2, args.motif, shape, varied=args.shorter)
    values, value_sizes = _motifs(dice, args.vocab // 2, args.motif, shape, varied=True)
    first = first_equal((np.where(_within(key_sizes, args.motif), keys + 1, 0) * MOST ** np.arange(args.motif)).sum(-1))
    sizes = key_sizes + np.take_along_axis(value_sizes, first, axis=1)
    count = (sizes.cumsum(axis=1) <= length - 2 * args.motif).sum(axis=1)
    last = dice.throw(count, (n,))
    for of_each in (first, key_sizes, keys):
        of_each[each, count] = of_each[each, last]
    values = np.take_along_axis(values, first[..., None], axis=1)
    value_sizes = np.take_along_axis(value_sizes, first, axis=1)
    there = np.arange(shape[1]) <= count[:, None]
    return _laid_out(length, keys, key_sizes, values, value_sizes, first < np.arange(shape[1]), there)


def _motifs(
    dice: Dice, below: int, motif: int, shape: tuple[int, int], *, varied: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Different integers `below` a number, int64 [N, S, motif]; and how many of them count, [N, S]: any, or all."""
    numbers = dice.distinct(below, (shape[0] * shape[1], motif)).reshape(*shape, motif)
    return numbers, 1 + dice.throw(motif, shape) if varied else np.full(shape, motif)


def _within(sizes: np.ndarray, motif: int) -> np.ndarray:
    return np.arange(motif) < sizes[..., None]


def _laid_out(
    length: int,
    keys: np.ndarray,
    key_sizes: np.ndarray,
    values: np.ndarray,
    value_sizes: np.ndarray,
    again: np.ndarray,
    there: np.ndarray,
) -> tuple[Split, list[bytes]]:
    """Texts of the pairs that are `there`, [N, S], one after another; values that stand `again` are asked for."""
    motif, ends = keys.shape[-1], ((key_sizes + value_sizes) * there).cumsum(axis=1)
    tokens, label = (np.zeros((len(keys), length), np.int64) for _ in range(2))
    begins = ends - key_sizes - value_sizes
    for part, (sizes, offset) in enumerate(((key_sizes, 0), (value_sizes, key_sizes))):
        row, pair, place = np.nonzero(_within(sizes, motif) & there[..., None])
        at = (begins + offset)[row, pair] + place
        symbol = KEY + 2 * keys[row, pair, place] if part == 0 else VALUE + 2 * values[row, pair, place]
        hidden = again[row, pair] & (part == 1)
        tokens[row, at] = np.where(hidden, MARK, symbol)
        label[row, at] = np.where(hidden, symbol, 0)
    return generated.whole(tokens, ends[:, -1], label)


def check(args: Args, tokens: np.ndarray, label: np.ndarray) -> None:
    """Hold a text, tokens [1, L], against `args`, and `label` [L] against what its pairs say.

    Raises:
        DataError: it is no such text, hides a value that was not shown, shows one again, or has another.
    """
    runs = [list(run) for _, run in groupby(WORDS.decode(tokens[0]).split(), key=lambda word: word[0])]
    known: dict[tuple[str, ...], list[str]] = {}
    derived: list[int] = []
    for key, value in zip(map(tuple, runs[::2]), runs[1::2], strict=False):
        again = key in known
        shown = known.setdefault(key, value)
        if key[0][0] != "k" or value[0][0] != ("?" if again else "v") or len(shown) != len(value):
            raise DataError(f"'{' '.join([*key, *value])}' is no pair, hides what was not shown, or shows what was")
        if max(len(key), len(value)) > args.motif:
            raise DataError(f"'{' '.join([*key, *value])}' has more than {args.motif} symbols of a kind")
        derived += [0] * len(key) + [WORDS.ids[word] if again else 0 for word in shown]
    if len(runs) % 2 or runs[-1][0] != "?":
        raise DataError("it does not end with a key that it asks for")
    same_places(label, np.array(derived + [0] * (len(label) - len(derived))))
