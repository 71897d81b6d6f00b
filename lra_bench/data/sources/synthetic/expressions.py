"""Random ListOps expressions, thousands at once.

The trees of a chunk grow level by level, and a tree that can no longer fit is not grown further. Values and sizes are
folded from the leaves up, positions laid out from the root down. The process is that of LRA's generator
(google-research/long-range-arena, lra_benchmarks/data/listops.py), drawn from another stream of random numbers:

- a node above `max_depth` is an operator with probability 1/4, else a digit; at `max_depth` it is a digit;
- operators, digits, and numbers of arguments (2 to `max_args`) are uniform, to within 1 in 10^8;
- an expression is as long as its digits and twice its operators: one token to open, one to close.

One 64-bit word of the stream decides a node. The words come from Philox's `random_raw`, which NumPy keeps the same in
every version; the methods of its Generator it does not.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from lra_bench.shapes import Split

PADDING = "<pad>"
SYMBOLS = (PADDING, *"0123456789", "[MAX", "[MED", "[MIN", "[SM", "]")
ZERO = SYMBOLS.index("0")
MAX, MED, MIN, SM, CLOSE = range(SYMBOLS.index("[MAX"), len(SYMBOLS))

MOST_TREES, TOKENS = 1 << 14, 1 << 23  # of a chunk
UNIT_BITS = np.uint64(30)
UNIT = np.uint64((1 << 30) - 1)


class Level(NamedTuple):
    """The nodes of all trees at one depth; the children of a node stand together, in the order of their parents."""

    tree: np.ndarray  # int64  [nodes]   the tree that a node belongs to
    symbol: np.ndarray  # int64  [nodes]   its token
    children: np.ndarray  # int64  [nodes]   how many; 0 for a digit


def sample(
    chunk: int, *, seed: int, least: int, most: int, max_depth: int, max_args: int, length: int
) -> tuple[Split, list[bytes]]:
    """Draw the chunk numbered `chunk` and keep the expressions of `least` to `most` tokens, padded to `length`.

    With them come 128 bits of each, by which it is told from others.
    """
    stream = np.random.Philox(key=np.array([seed, chunk], np.uint64))
    trees = max(1, min(MOST_TREES, TOKENS // most))
    levels, sizes = _grow(stream, trees, most, max_depth, max_args)
    kept = (sizes >= least) & (sizes <= most)
    levels = _kept(levels, kept)
    values, spans = _fold(levels)
    tokens = _laid_out(levels, spans, length)
    lengths = sizes[kept].astype(np.int32)
    digests = [hashlib.blake2b(row[:n], digest_size=16).digest() for row, n in zip(tokens, lengths, strict=True)]
    return Split(tokens[:, None], lengths[:, None], values[0].astype(np.int32)), digests


def _grow(
    stream: np.random.Philox, trees: int, most: int, max_depth: int, max_args: int
) -> tuple[list[Level], np.ndarray]:
    """Draw the trees of a chunk, and count the tokens of each; one is left unfinished once it has more than `most`."""
    levels = []
    tree = np.arange(trees)
    sizes = np.ones(trees, np.int64)
    for depth in range(1, max_depth + 1):
        word = stream.random_raw(len(tree))
        symbol = (ZERO + _uniform(word >> np.uint64(4), 10)).astype(np.int64)
        children = np.zeros(len(tree), np.int64)
        if depth < max_depth:
            at = np.flatnonzero(word % np.uint64(4) == 0)
            symbol[at] = MAX + (word[at] >> np.uint64(2)) % np.uint64(4)
            children[at] = 2 + _uniform(word[at] >> np.uint64(34), max_args - 1)
            sizes += np.bincount(tree[at], children[at] + 1, trees).astype(np.int64)
        levels.append(Level(tree, symbol, children))
        tree = np.repeat(tree, np.where(sizes[tree] <= most, children, 0))
        if not len(tree):
            break
    return levels, sizes


def _uniform(word: np.ndarray, below: int) -> np.ndarray:
    """Integers from 0 to `below` - 1, from the lowest bits of each word."""
    return (word & UNIT) * np.uint64(below) >> UNIT_BITS


def _kept(levels: list[Level], kept: np.ndarray) -> list[Level]:
    """The levels of the trees that are kept, which are numbered again."""
    number = np.cumsum(kept) - 1
    result = []
    for level in levels:
        nodes = np.flatnonzero(kept[level.tree])
        result.append(Level(number[level.tree[nodes]], level.symbol[nodes], level.children[nodes]))
    return result


def _fold(levels: list[Level]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The value of each node, and how many tokens it spans with all below it, level by level."""
    values: list[np.ndarray] = []
    spans: list[np.ndarray] = []
    for level in reversed(levels):
        value, span = level.symbol - ZERO, np.ones(len(level.symbol), np.int64)
        at = np.flatnonzero(level.children)
        if len(at):
            counts = level.children[at]
            value[at] = _applied(level.symbol[at], values[-1], counts)
            span[at] = 2 + np.add.reduceat(spans[-1], np.cumsum(counts) - counts)
        values.append(value)
        spans.append(span)
    return values[::-1], spans[::-1]


def _applied(operator: np.ndarray, arguments: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The value of each operator, whose `counts` arguments stand one operator's after the other's."""
    starts = np.cumsum(counts) - counts
    owner = np.repeat(np.arange(len(counts)) * 10, counts)
    ordered = np.sort(owner + arguments) - owner
    results = {
        MAX: ordered[starts + counts - 1],
        MED: (ordered[starts + (counts - 1) // 2] + ordered[starts + counts // 2]) // 2,
        MIN: ordered[starts],
        SM: np.add.reduceat(arguments, starts) % 10,
    }
    return np.select([operator == symbol for symbol in results], list(results.values()))


def _laid_out(levels: list[Level], spans: list[np.ndarray], length: int) -> np.ndarray:
    """The expressions as tokens, uint8 [n, `length`]: an operator, its arguments in order, and what closes it."""
    tokens = np.zeros((len(levels[0].tree), length), np.uint8)
    position = np.zeros(len(tokens), np.int64)
    for level, span, below in zip(levels, spans, [*spans[1:], spans[-1][:0]], strict=True):
        tokens[level.tree, position] = level.symbol
        at = np.flatnonzero(level.children)
        tokens[level.tree[at], position[at] + span[at] - 1] = CLOSE
        counts = level.children[at]
        before = np.cumsum(below) - below
        position = np.repeat(position[at] + 1 - before[np.cumsum(counts) - counts], counts) + before
    return tokens
