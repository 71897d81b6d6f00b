"""Patterns of blocks: which keys a query may see, as whole blocks first and token by token inside them.

A pattern is static and hashable. `table` lists the blocks of keys that each block of queries meets, so that what it
leaves out is never computed; `bias` says of the tokens in them who sees whom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lra_bench.kernels.softmax_attention import LOWEST

SIZE = 64  # tokens of a block where the mechanism leaves it open; with 128 neighbors on each side faster than 128


class Pattern(Protocol):
    """What `block_attention` asks of a pattern."""

    @property
    def size(self) -> int:
        """Tokens of a block, of queries and of keys."""

    def table(self, queries: int, keys: int) -> np.ndarray:
        """The blocks, of `keys`, that each of `queries` blocks meets: [queries, R] int32, -1 where it has fewer."""

    def bias(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        """What is added to the logit of the query at place i and the key at place j; `LOWEST`: it does not see it."""


@dataclass(frozen=True)
class Blocks:
    """A query meets its own block, and so many blocks before and after it (arXiv 1911.02972; 2001.04451); with -1 after
    it, only those before. A causal one sees no key after its place."""

    size: int
    before: int = 0
    after: int = 0
    causal: bool = False

    def table(self, queries: int, keys: int) -> np.ndarray:
        own = np.arange(queries, dtype=np.int32)[:, None]
        return _inside(own + np.arange(-self.before, self.after + 1, dtype=np.int32), keys)

    def bias(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        return _behind(i, j) if self.causal else jnp.zeros(jnp.broadcast_shapes(i.shape, j.shape))


@dataclass(frozen=True)
class Pairs:
    """A query meets its own two blocks of keys, of which there are twice as many as of queries. A causal one sees no
    key after its place."""

    size: int
    causal: bool = False

    def table(self, queries: int, keys: int) -> np.ndarray:
        return _inside(np.arange(2 * queries, dtype=np.int32).reshape(queries, 2), keys)

    def bias(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        return _behind(i, j) if self.causal else jnp.zeros(jnp.broadcast_shapes(i.shape, j.shape))


@dataclass(frozen=True)
class Cells:
    """A query meets the cells, so many to a segment, of the segments from the nearest to the furthest before its own
    (arXiv 1911.05507, section 3.1). Places are numbers of segments."""

    size: int
    cells: int
    nearest: int
    furthest: int

    def table(self, queries: int, keys: int) -> np.ndarray:
        own = np.arange(queries, dtype=np.int32)[:, None]
        first = (own - self.furthest) * self.cells // self.size
        last = ((own - self.nearest + 1) * self.cells - 1) // self.size
        blocks = first + np.arange((last - first).max() + 1, dtype=np.int32)
        return _inside(np.where(blocks <= last, blocks, -1), keys)

    def bias(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        seen = (i - j >= self.nearest) & (i - j <= self.furthest)
        return jnp.where(seen, 0, LOWEST).astype(jnp.float32)


@dataclass(frozen=True)
class Summaries:
    """Keys stand for spans of the text, so many `cells` for each. A query sees those whose place, in their span or
    right behind it, is its own or before it."""

    span: int
    cells: int = 1
    size: int = SIZE

    def table(self, queries: int, keys: int) -> np.ndarray:
        last = (np.arange(queries)[:, None] + 1) * self.size - 1
        blocks = np.arange(keys, dtype=np.int32)
        return np.where(blocks * self.size // self.cells * self.span <= last, blocks, -1)

    def bias(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        return _behind(i, j)


@dataclass(frozen=True)
class Everything:
    """A query meets all blocks; a causal one none after its own, and no key after its place."""

    size: int = SIZE
    causal: bool = False

    def table(self, queries: int, keys: int) -> np.ndarray:
        blocks = np.tile(np.arange(keys, dtype=np.int32), (queries, 1))
        return np.where(blocks <= np.arange(queries)[:, None], blocks, -1) if self.causal else blocks

    def bias(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        return _behind(i, j) if self.causal else jnp.zeros(jnp.broadcast_shapes(i.shape, j.shape))


@dataclass(frozen=True)
class Window:
    """A query at i sees the keys j with nearest <= |i - j| <= width (arXiv 2004.05150, section 3.1), and the first. A
    causal one sees none of them after its place."""

    width: int
    first: int = 0
    size: int = SIZE
    nearest: int = 0
    causal: bool = False

    def table(self, queries: int, keys: int) -> np.ndarray:
        reach = -(-self.width // self.size)
        near = Blocks(self.size, reach, 0 if self.causal else reach).table(queries, keys)
        heads = np.arange(min(-(-self.first // self.size), keys), dtype=np.int32)
        return _once(np.concatenate([np.tile(heads, (queries, 1)), near], axis=1))

    def bias(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        distance = abs(i - j)
        near = distance <= self.width
        near = near & (distance >= self.nearest) if self.nearest else near
        hidden = jnp.where(near | (j < self.first), 0, LOWEST).astype(jnp.float32)
        return jnp.minimum(hidden, _behind(i, j)) if self.causal else hidden


@dataclass(frozen=True)
class RandomBlocks:
    """A query meets its own block, `near` blocks on each side, `random` others, each row's drawn once from `seed`, and
    the last few of all (arXiv 2007.14062, appendix D). The random ones are drawn for `blocks` blocks, which do not
    count the last few: of a shorter text the same, as far as they are there.
    """

    size: int
    near: int
    random: int
    blocks: int
    seed: int = 0
    last: int = 0  # blocks of keys that stand behind the text's, and that all meet
    spare_ends: bool = False  # the text's first and last block are not among the drawn ones

    def table(self, queries: int, keys: int) -> np.ndarray:
        draw = np.random.default_rng(self.seed)
        near = Blocks(self.size, self.near, self.near).table(self.blocks, self.blocks)
        ends = {0, self.blocks - 1} if self.spare_ends else set()
        drawn = np.full((self.blocks, self.random), -1, np.int32)
        for row, own in zip(drawn, near, strict=True):
            others = sorted(set(range(self.blocks)) - ends - set(own.tolist()))
            some = draw.permutation(others)[: self.random]
            row[: len(some)] = some
        text = keys - self.last
        table = _inside(np.concatenate([near, drawn], axis=1)[:queries], text)
        return _once(np.concatenate([table, np.tile(np.arange(text, keys), (len(table), 1))], axis=1))

    def bias(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        return jnp.zeros(jnp.broadcast_shapes(i.shape, j.shape))


def _behind(i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
    """What is added to a logit: the lowest where the key stands after the query."""
    return jnp.where(j > i, LOWEST, 0).astype(jnp.float32)


def _inside(table: np.ndarray, keys: int) -> np.ndarray:
    """-1 for the blocks that are none."""
    return np.where((table >= 0) & (table < keys), table, -1).astype(np.int32)


def _once(table: np.ndarray) -> np.ndarray:
    """Each block once in a row, whatever stands more than once; no wider than the fullest row needs."""
    rows = [list(dict.fromkeys(int(block) for block in row if block >= 0)) for row in table]
    width = max(map(len, rows))
    return np.array([row + [-1] * (width - len(row)) for row in rows], np.int32)
