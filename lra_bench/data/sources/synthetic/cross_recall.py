"""Recall across two sequences: a source of keys, each followed by its value, in random places among blanks; a target of
the same keys in another order. Which value is each one's? Every place of the target is answered.

It is multi-query associative recall (Arora et al., arXiv 2312.04927, definition 3.1) with the queries in a sequence of
their own, so that it is the cross form that recalls. No key stands for two values, and no value for two keys. No answer
stands in the target: what is asked is the same whether it is whole or grows.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from lra_bench.config import Count, Strict
from lra_bench.data import generated
from lra_bench.data.generated import Dice
from lra_bench.data.words import KEY, MARK, VALUE, Words, keys_and_values, same_places
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

VERSION = 1

MOST = 8192  # symbols


class TwoTexts(Words):
    """Examples of a source and a target."""

    def row(self, tokens: np.ndarray, label: Any) -> str:
        """An example, tokens [2, L], as a line: source and target, with a bar between them, and the answers."""
        source, target = (self.decode(stream) for stream in tokens)
        return f"{source} | {target}\t{self.decode(label[label > 0])}"


WORDS = TwoTexts(*keys_and_values(".", MOST).symbols[1:])


class Args(Strict):
    """How much is to be remembered, and of how many symbols."""

    vocab: Annotated[int, Field(ge=8, le=MOST, multiple_of=2)]  # symbols; half of them values, the others but one keys
    pairs: Count  # of a key and its value, and as many queries


def vocabulary(args: Args) -> int:
    """The symbols that can stand in a text."""
    return args.vocab


def asked(args: Args, length: int) -> int:
    """The places of a target."""
    return args.pairs


def fits(args: Args, length: int) -> None:
    """Raises TaskError: the pairs do not fit `length`, or there are not so many keys."""
    if 2 * args.pairs > length:
        raise TaskError(f"args.pairs: {args.pairs}; they do not fit length {length}")
    if args.pairs >= args.vocab // 2:
        raise TaskError(f"args.pairs: {args.pairs}; of args.vocab {args.vocab} only {args.vocab // 2 - 1} are keys")


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk's examples: pairs, all equally likely, each at one of the source's even places; their keys in an order,
    which is the target."""
    dice, n, pairs = Dice(seed, chunk), generated.chunk_of(2 * length), args.pairs
    keys = KEY + 2 * dice.distinct(args.vocab // 2 - 1, (n, pairs))
    values = VALUE + 2 * dice.distinct(args.vocab // 2, (n, pairs))
    places, order = 2 * dice.order((n, length // 2))[:, :pairs], dice.order((n, pairs))
    tokens, label = np.zeros((n, 2, length), np.int64), np.zeros((n, length), np.int64)
    tokens[:, 0] = MARK
    np.put_along_axis(tokens[:, 0], places, keys, axis=1)
    np.put_along_axis(tokens[:, 0], places + 1, values, axis=1)
    tokens[:, 1, :pairs] = np.take_along_axis(keys, order, axis=1)
    label[:, :pairs] = np.take_along_axis(values, order, axis=1)
    tokens, label = tokens.astype(WORDS.kind), label.astype(WORDS.kind)
    lengths = np.tile(np.array([length, pairs], np.int32), (n, 1))
    digests = [hashlib.blake2b(one.tobytes(), digest_size=16).digest() for one in tokens]
    return Split(tokens, lengths, label), digests


def check(args: Args, tokens: np.ndarray, label: np.ndarray) -> None:
    """Hold a source and a target, tokens [2, L], against `args`, and `label` [L] against what the pairs say.

    Raises:
        DataError: the source has no such pairs, the target does not ask for each key once, or has another value.
    """
    source, target = (WORDS.decode(stream).split() for stream in tokens)
    each = [(key, value) for key, value in zip(source[::2], source[1::2], strict=False) if (key, value) != (".", ".")]
    known = dict(each)
    kinds = {key[0] + value[0] for key, value in each}
    if len(each) != args.pairs or len(set(known.values())) != args.pairs or kinds != {"kv"}:
        raise DataError(f"its source has no {args.pairs} pairs of a key and a value of its own, among blanks")
    if sorted(target) != sorted(known):
        raise DataError("its target does not ask for each of its keys once")
    derived = np.zeros_like(label)
    derived[: len(target)] = [WORDS.ids[known[key]] for key in target]
    same_places(label, derived)
