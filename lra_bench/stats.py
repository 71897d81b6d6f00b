"""How sure a number is: intervals over examples and over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95


class Interval(NamedTuple):
    """An estimate and its two-sided interval at `LEVEL`."""

    value: float
    low: float
    high: float


def proportion(share: float, n: int) -> Interval:
    """A share of `n` examples, with Wilson's score interval (1927): what another test set of that size might say."""
    low, high = stats.binomtest(round(share * n), n).proportion_ci(LEVEL, method="wilson")
    return Interval(share, float(low), float(high))


def mean(values: Sequence[float]) -> Interval:
    """The mean over at least two seeds, with Student's t interval: what other seeds might say."""
    centre, error = float(np.mean(values)), float(stats.sem(values))
    if error == 0:
        return Interval(centre, centre, centre)
    low, high = stats.t.interval(LEVEL, len(values) - 1, centre, error)
    return Interval(centre, float(low), float(high))


def mean_of(value: float, spread: float, n: int) -> Interval:
    """The mean of `n` examples whose standard deviation is `spread`, with Student's t interval."""
    if spread == 0 or n < 2:
        return Interval(value, value, value)
    low, high = stats.t.interval(LEVEL, n - 1, value, spread / np.sqrt(n - 1))
    return Interval(value, float(low), float(high))


def mcnemar(lost: int, gained: int) -> float:
    """p of McNemar's exact test: could two models that err on different examples be equally good?

    `lost` are the examples that only the first gets right, `gained` those that only the second does.
    """
    return float(stats.binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
