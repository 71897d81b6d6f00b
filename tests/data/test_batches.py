"""Batches: every example once an epoch, resumed by the step alone, made ahead of the consumer."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lra_bench.data import batches
from lra_bench.shapes import Batch, Split


def numbered(n: int, streams: int = 1, length: int = 5) -> Split:
    """Example i has label i; its streams are 1 to `length` long."""
    lengths = (1 + np.arange(n * streams, dtype=np.int32) % length).reshape(n, streams)
    tokens = np.where(np.arange(length) < lengths[..., None], 7, 0).astype(np.uint8)
    return Split(tokens, lengths, np.arange(n, dtype=np.int32))


@given(n=st.integers(1, 40), size=st.integers(1, 50), seed=st.integers(0, 2**40))
@settings(deadline=None)
def test_every_example_once_an_epoch(n: int, size: int, seed: int) -> None:
    split, epochs = numbered(n), 3
    steps = -(-n * epochs // size)
    labels = np.concatenate([batches.batch_at(split, size, seed, step).label for step in range(steps)])
    for epoch in range(epochs):
        assert sorted(labels[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_a_batch_depends_on_its_step_alone() -> None:
    split = numbered(23)
    passed_through = [batches.batch_at(split, 4, 0, step) for step in range(20)]
    batches.of_one.cache_clear()
    assert same(batches.batch_at(split, 4, 0, 17), passed_through[17])


def test_seeds_and_epochs_have_their_own_order() -> None:
    split = numbered(64)
    orders = [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len({tuple(batches.batch_at(split, 64, seed, step).label) for seed, step in orders}) == 4


def test_each_of_many_tasks_is_put_in_order_once_an_epoch() -> None:
    splits, order = [numbered(n) for n in range(30, 37)], batches.remembered(7)
    for step in range(12):  # 60 examples of each, and the first batch that straddles two epochs is the seventh
        for split in splits:
            assert same(batches.batch_at(split, 5, 0, step, order=order), batches.batch_at(split, 5, 0, step))
    assert order.cache_info().misses == 2 * len(splits)  # type: ignore[attr-defined]


def test_the_order_is_the_same_for_ever() -> None:
    """If this fails, runs cannot be resumed or repeated: a step has another batch than it had."""
    assert batches.permutation(8, 0, 0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert batches.permutation(8, 3, 2).tolist() == [2, 4, 1, 3, 6, 5, 0, 7]


def same(one: Batch, other: Batch) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


def test_shapes_and_types() -> None:
    batch = batches.batch_at(numbered(9, streams=2), 4, 0, 0)
    assert (batch.tokens.shape, batch.tokens.dtype) == ((4, 2, 5), np.int32)
    assert (batch.mask.shape, batch.mask.dtype) == ((4, 2, 5), np.bool_)
    assert (batch.label.shape, batch.label.dtype) == ((4,), np.int32)
    assert (batch.weight.tolist(), batch.weight.dtype) == ([1, 1, 1, 1], np.float32)
    assert np.array_equal(batch.mask, batch.tokens > 0)


def test_the_mask_is_where_there_is_a_symbol_in_between_too() -> None:
    split = Split(np.array([[[3, 0, 1, 0]]], np.uint8), np.array([[2]], np.int32), np.array([0], np.int32))
    assert batches.batch_at(split, 1, 0, 0).mask.tolist() == [[[True, False, True, False]]]


@pytest.mark.parametrize(("given", "made"), [(np.int32, np.int32), (np.uint8, np.int32), (np.float32, np.float32)])
def test_labels_are_whole_or_real_numbers(given: type, made: type) -> None:
    split = Split(np.ones((2, 1, 4), np.uint8), np.full((2, 1), 4, np.int32), np.ones((2, 3), given))
    label = batches.batch_at(split, 2, 0, 0).label
    assert (label.dtype, label.shape) == (made, (2, 3))


@pytest.mark.parametrize(("n", "size", "last"), [(10, 4, [1, 1, 0, 0]), (8, 4, [1, 1, 1, 1]), (3, 5, [1, 1, 1, 0, 0])])
def test_in_order(n: int, size: int, last: list[int]) -> None:
    found = list(batches.in_order(numbered(n), size))
    assert found[-1].weight.tolist() == last
    assert all(len(batch.label) == size for batch in found)
    real = np.concatenate([batch.label[batch.weight > 0] for batch in found])
    assert real.tolist() == list(range(n))
    assert all(batch.mask.any(axis=(1, 2)).all() for batch in found), "filler is no empty row"


def test_take() -> None:
    assert batches.take(numbered(9), 4).label.tolist() == [0, 1, 2, 3]
    assert len(batches.take(numbered(9), 20)) == 9


@pytest.mark.parametrize("ahead", [0, 1, 3, 100])
def test_prefetch_makes_every_step_in_order(ahead: int) -> None:
    with batches.Prefetch(lambda step: step * step, 3, 9, ahead) as made:
        assert list(made) == [9, 16, 25, 36, 49, 64]


def test_prefetch_works_ahead_and_no_further() -> None:
    begun = threading.Semaphore(0)
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        begun.release()
        return step

    with batches.Prefetch(make, 0, 100, 3) as steps:
        next(steps)
        for _ in range(4):
            assert begun.acquire(timeout=10)
        assert not begun.acquire(timeout=0.05)
    assert made == [0, 1, 2, 3]


def test_what_is_raised_in_the_thread_reaches_the_consumer() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise ValueError("step 2")
        return step

    before = threading.active_count()
    got = []
    with pytest.raises(ValueError, match="step 2"), batches.Prefetch(make, 0, 5, 2) as steps:
        got.extend(steps)
    assert threading.active_count() == before


def test_leaving_early_ends_the_thread() -> None:
    before = threading.active_count()
    with batches.Prefetch(lambda step: step, 0, 10**9, 2) as steps:
        assert next(steps) == 0
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert list(steps) == []
