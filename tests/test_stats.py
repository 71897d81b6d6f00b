"""Intervals, against published values and their own definition."""

from __future__ import annotations

import math

import pytest

from lra_bench import stats


def test_wilsons_interval_of_a_textbook_case() -> None:
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662 by the score method."""
    interval = stats.proportion(81 / 263, 263)
    assert (interval.low, interval.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_students_interval_of_three_seeds() -> None:
    """t(0.975, 2) = 4.3027, the standard error of 1, 2, 3 is 1 / sqrt 3."""
    interval = stats.mean([1.0, 2.0, 3.0])
    assert interval.high - 2.0 == pytest.approx(4.3027 / 3**0.5, rel=1e-4)


def test_equal_seeds_have_an_interval_of_no_width() -> None:
    assert stats.mean([0.4, 0.4]) == stats.Interval(0.4, 0.4, 0.4)


def test_mcnemar_is_the_two_sided_sign_test_on_what_differs() -> None:
    assert stats.mcnemar(0, 0) == 1.0
    assert stats.mcnemar(3, 3) == 1.0
    tail = sum(math.comb(10, k) for k in (0, 1)) / 2**10
    assert stats.mcnemar(1, 9) == pytest.approx(2 * tail)
    assert stats.mcnemar(9, 1) == stats.mcnemar(1, 9)


def test_a_mean_over_examples_is_as_sure_as_they_are_many() -> None:
    """The examples 1, 2, 3 have a standard deviation of sqrt(2/3); the interval is that of three values."""
    assert stats.mean_of(2.0, (2 / 3) ** 0.5, 3) == pytest.approx(stats.mean([1.0, 2.0, 3.0]))
    assert stats.mean_of(2.0, 0.0, 3) == stats.Interval(2.0, 2.0, 2.0)
