"""How sure a number is: intervals over examples and over seeds; which of two models is the better one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from lra_bench.metrics import Metric

LEVEL = 0.95
ALPHA = 0.05  # the chance that any of a family of tests sees a difference where there is none


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


def apart(first: np.ndarray, second: np.ndarray) -> Interval:
    """The second's mean less the first's, with Welch's interval (1947); not a number where one has a single value."""
    difference = float(np.mean(second) - np.mean(first))
    if min(len(first), len(second)) < 2:
        return Interval(difference, np.nan, np.nan)
    if np.var(first) == np.var(second) == 0:
        return Interval(difference, difference, difference)
    low, high = stats.ttest_ind(second, first, equal_var=False).confidence_interval(LEVEL)
    return Interval(difference, float(low), float(high))


def mean_of(value: float, spread: float, n: int) -> Interval:
    """The mean of `n` examples whose standard deviation is `spread`, with Student's t interval."""
    if spread == 0 or n < 2:
        return Interval(value, value, value)
    low, high = stats.t.interval(LEVEL, n - 1, value, spread / np.sqrt(n - 1))
    return Interval(value, float(low), float(high))


def median(values: Sequence[float]) -> Interval:
    """The median, between the order statistics that hold it whatever the distribution; not a number of fewer than 6."""
    low, high = stats.quantile_test(values, p=0.5).confidence_interval(LEVEL)
    return Interval(float(np.median(values)), float(low), float(high))


def power(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> Interval:
    """p of the least-squares fit of y = c x^p, on logarithms, with Student's interval of the slope.

    Not a number of fewer than two points; of two, the interval is not.
    """
    if len(x) < 2:
        return Interval(np.nan, np.nan, np.nan)
    fit = stats.linregress(np.log(x), np.log(y))
    reach = stats.t.ppf((1 + LEVEL) / 2, len(x) - 2) * fit.stderr if len(x) > 2 else np.nan
    return Interval(float(fit.slope), float(fit.slope - reach), float(fit.slope + reach))


def over_examples(metric: Metric, score: float, n: int, spread: float | None) -> Interval:
    """One run's score on `n` examples of test, with what another test set of that size might say.

    `spread`: the standard deviation over them, of a score that is no share.
    """
    return proportion(score, n) if metric.share else mean_of(score, spread or 0.0, n)


def learnt(metric: Metric, score: Interval, floor: float) -> bool:
    """Is the score better than an answer without a look, as far as its examples can tell?"""
    return metric.better(score.low if metric.higher else score.high, floor)


def mcnemar(lost: int, gained: int) -> float:
    """p of McNemar's exact test: could two models that err on different examples be equally good?

    `lost` are the examples that only the first gets right, `gained` those that only the second does.
    """
    return float(stats.binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


class Paired(NamedTuple):
    """How much better the first of two models is than the second, on the same examples; in the score's unit."""

    difference: float  # of mean scores
    low: float  # its two-sided interval at `LEVEL`
    high: float
    p: float  # of no difference
    test: str  # which test it is


MCNEMAR = "McNemar's exact test (of these runs: other seeds may differ)"
ONE_RUN = "Student's paired test over examples (of these runs: other seeds may differ)"
SEEDS = "Student's test, paired over examples, with the variance over seeds pooled over models"


class Spread(NamedTuple):
    """How much one model's mean score varies from seed to seed: a variance, and the degrees of freedom it has."""

    variance: float
    freedom: int


def pooled(models: Sequence[np.ndarray]) -> Spread | None:
    """What several models say together of how seeds vary, from their scores [seeds, examples]; None if none has two.

    The variance over three seeds of one model is itself too uncertain to test with; that of forty models is not.
    """
    freedom = sum(len(scores) - 1 for scores in models)
    if not freedom:
        return None
    squares = sum(np.var(scores.mean(axis=1)) * len(scores) for scores in models)
    return Spread(float(squares / freedom), freedom)


def paired(first: np.ndarray, second: np.ndarray, spread: Spread | None = None) -> Paired:
    """Compare two models by their scores on the same examples, each [seeds, examples], bits or numbers.

    With a `spread` it is of other examples and other seeds: see `_over_seeds`. Without one, of one run each, it is
    of these trained models on other examples: bits take McNemar's exact test (1947), other scores Student's.

    Raises:
        ValueError: the examples are not as many, or fewer than two; several seeds come without a spread.
    """
    if first.shape[1] != second.shape[1] or first.shape[1] < 2:
        raise ValueError(f"scores of the same examples, two at least, are compared: {first.shape}, {second.shape}")
    if spread is not None:
        return _over_seeds(first, second, spread)
    if len(first) != 1 or len(second) != 1:
        raise ValueError("several seeds are compared with their spread")
    apart = first[0].astype(float) - second[0].astype(float)
    found = _student(float(apart.mean()), _squared_error(apart), len(apart) - 1, ONE_RUN)
    if first.dtype == bool:
        p = mcnemar(int((first & ~second).sum()), int((second & ~first).sum()))
        return found._replace(p=p, test=MCNEMAR)
    return found


def _over_seeds(first: np.ndarray, second: np.ndarray, spread: Spread) -> Paired:
    """Student's test of the difference between two means over examples, which are the same, and seeds, which are not.

    The squared error is that over examples (of differences, runs averaged) and those over each one's seeds. A model's
    variance over seeds is the pooled one, or its own where that is larger: some learn in one run and not in another.
    The degrees of freedom are those of such a sum (Satterthwaite 1946). What chance does to one run on one example is
    in both parts: cautious. To resample three seeds, as a bootstrap does, would be too sure of them.
    """
    apart = first.mean(axis=0) - second.mean(axis=0)
    over_examples, over_seeds = _squared_error(apart), _seeds_error(first, spread) + _seeds_error(second, spread)
    squared = over_examples + over_seeds
    if squared == 0:
        return _student(float(apart.mean()), 0.0, 1, SEEDS)
    freedom = squared**2 / (over_examples**2 / (len(apart) - 1) + over_seeds**2 / spread.freedom)
    return _student(float(apart.mean()), squared, freedom, SEEDS)


def _student(value: float, squared_error: float, freedom: float, test: str) -> Paired:
    """Student's test of a difference and its interval, by the t distribution of SciPy's `special`: for many pairs."""
    if squared_error == 0:
        return Paired(value, value, value, float(value == 0), test)
    error = squared_error**0.5
    reach = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * error
    return Paired(value, value - reach, value + reach, float(2 * special.stdtr(freedom, -abs(value) / error)), test)


def _squared_error(values: np.ndarray) -> float:
    """Of the mean of a sample."""
    return float(np.var(values, ddof=1)) / len(values)


def _seeds_error(scores: np.ndarray, spread: Spread) -> float:
    """The squared error of a model's mean score that its seeds [seeds, examples] bring."""
    own = float(np.var(scores.mean(axis=1), ddof=1)) if len(scores) > 1 else 0.0
    return max(own, spread.variance) / len(scores)


def holm(ps: Sequence[float]) -> np.ndarray:
    """Each p of a family of tests, so raised that one below `ALPHA` holds beside all others (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    return multipletests(ps, ALPHA, method="holm")[1] if len(ps) else np.zeros(0)
