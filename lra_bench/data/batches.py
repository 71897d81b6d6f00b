"""Splits cut into batches: shuffled by step for training, in order for evaluation, ahead of the consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np

from lra_bench.data.splits import cut
from lra_bench.shapes import Batch, Split

T = TypeVar("T")
Rows = np.ndarray | slice  # of a batch
Order = Callable[[int, int, int], np.ndarray]  # as `permutation`
ALL = slice(None)


def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """An order of `count` examples, int64 [count], the same on every machine and with every version of NumPy."""
    words = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(count)
    order = np.argsort(words, kind="stable")
    order.setflags(write=False)
    return order


def remembered(splits: int) -> Order:
    """`permutation`, the last ones remembered: two for each of so many splits, as a batch may straddle two epochs."""
    return lru_cache(maxsize=2 * splits)(permutation)


of_one = remembered(1)


def batch_at(
    split: Split,
    size: int,
    seed: int,
    step: int,
    rows: Rows = ALL,
    order: Order = of_one,
) -> Batch:
    """The batch of a training step, or some rows of it: a function of its arguments alone, so that a run is resumed by
    its step.

    Every example comes once an epoch, in an order of that epoch's own. A batch may straddle two epochs; none is short.
    `order` is `permutation`; who asks for batches of several splits in turn has it remember so many.
    """
    index = drawn(split, size, seed, step, order)
    return _gathered(split, index[rows], np.ones(size, np.float32)[rows])


def drawn(split: Split, size: int, seed: int, step: int, order: Order) -> np.ndarray:
    """The examples of the batch of a training step, int64 [size]."""
    epoch, place = np.divmod(step * size + np.arange(size), len(split))
    index = np.empty(size, np.int64)
    for number in range(epoch[0], epoch[-1] + 1):
        here = epoch == number
        index[here] = order(len(split), seed, number)[place[here]]
    return index


def by_length(split: Split, index: np.ndarray, parts: int, lengths: Sequence[int]) -> list[tuple[np.ndarray, int]]:
    """So many equal parts of a batch, the shortest examples first, each with the least of `lengths` that holds it."""
    longest = split.lengths[index].max(axis=1)
    order = np.argsort(longest, kind="stable")
    return [(index[part], next(n for n in lengths if n >= longest[part[-1]])) for part in np.split(order, parts)]


def cut_to(split: Split, index: np.ndarray, length: int) -> Batch:
    """Those examples, padded to `length` alone, which holds them all."""
    batch = _gathered(split, index, np.ones(len(index), np.float32))
    return replace(batch, tokens=batch.tokens[..., :length], mask=batch.mask[..., :length])


def in_order(split: Split, size: int, rows: Rows = ALL) -> Iterator[Batch]:
    """Every example once, as they stand; of each batch, `rows`. A short last one is filled with the last example, at
    weight 0."""
    for first in range(0, len(split), size):
        index = np.arange(first, first + size)[rows]
        weight = (index < len(split)).astype(np.float32)
        yield _gathered(split, np.minimum(index, len(split) - 1), weight)


def take(split: Split, n: int) -> Split:
    """The first `n` examples, or all if there are fewer."""
    return cut(split, 0, n)


def _gathered(split: Split, index: np.ndarray, weight: np.ndarray) -> Batch:
    tokens, label = split.tokens[index].astype(np.int32), split.label[index]
    return Batch(tokens, tokens > 0, label if label.dtype == np.float32 else label.astype(np.int32), weight)


class Prefetch(Generic[T]):
    """`make(step)` for the steps from `first` up to, not including, `last`, made on a thread of the host.

    While the consumer has one, the thread is up to `ahead` further. What `make` raises is raised in the consumer, in
    the step's turn. Leaving the `with` block, early or not, ends the thread.
    """

    def __init__(self, make: Callable[[int], T], first: int, last: int, ahead: int) -> None:
        self._make = make
        self._steps = iter(range(first, last))
        self._thread = ThreadPoolExecutor(1, "prefetch")
        self._waiting: deque[Future[T]] = deque()
        self._submit(ahead)

    def _submit(self, count: int) -> None:
        self._waiting.extend(self._thread.submit(self._make, step) for step in islice(self._steps, count))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        self._submit(1)
        if not self._waiting:
            raise StopIteration
        return self._waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._steps = iter(range(0))
        self._waiting.clear()
        self._thread.shutdown(cancel_futures=True)
