"""How sure a number is: intervals over examples and over seeds; which of two models is the better one.

SciPy, a third of what a run's process would import, is opened by what asks for it: at the start no run does, and at the
end only `scipy.special`, of those whose score is no share of right answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

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
    p, z = round(share * n) / n, NormalDist().inv_cdf((1 + LEVEL) / 2)
    reach = z * (p * (1 - p) / n + (z / 2 / n) ** 2) ** 0.5
    low, high = ((p + z**2 / 2 / n + sign * reach) / (1 + z**2 / n) for sign in (-1, 1))
    return Interval(share, max(float(low), 0.0), min(float(high), 1.0))


def mean(values: Sequence[float]) -> Interval:
    """The mean over at least two seeds, with Student's t interval: what other seeds might say."""
    return _t_interval(float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5, len(values) - 1)


def _t_interval(center: float, error: float, freedom: int) -> Interval:
    """Student's t interval about `center`, whose standard error is `error`."""
    reach = students_quantile(freedom, (1 + LEVEL) / 2) * error
    return Interval(center, float(center - reach), float(center + reach))


def apart(first: np.ndarray, second: np.ndarray) -> Interval:
    """The second's mean less the first's, with Welch's interval (1947); not a number where one has a single value."""
    from scipy import stats

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
    return _t_interval(value, spread / (n - 1) ** 0.5, n - 1)


def median(values: Sequence[float]) -> Interval:
    """The median, between the order statistics that hold it whatever the distribution; not a number of fewer than 6."""
    ordered, (low, high) = sorted(map(float, values)), _around_median(len(values))
    ends = (np.nan, np.nan) if np.isnan(low + high) else (ordered[int(low)], ordered[int(high)])
    return Interval(float(np.median(values)), *ends)


@cache
def _around_median(n: int) -> tuple[float, float]:
    """Which of `n` values in their order hold the median between them, from 0; not a number if none do."""
    from scipy import stats

    low, high = stats.quantile_test(range(n), p=0.5).confidence_interval(LEVEL)
    return float(low), float(high)


def power(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> Interval:
    """p of the least-squares fit of y = c x^p, on logarithms, with Student's interval of the slope.

    Not a number of fewer than two points; of two, the interval is not.
    """
    from scipy import stats

    if len(x) < 2:
        return Interval(np.nan, np.nan, np.nan)
    fit = stats.linregress(np.log(x), np.log(y))
    reach = students_quantile(len(x) - 2, (1 + LEVEL) / 2) * fit.stderr if len(x) > 2 else np.nan
    return Interval(float(fit.slope), float(fit.slope - reach), float(fit.slope + reach))


def over_examples(metric: Metric, score: float, n: int, spread: float | None) -> Interval:
    """One run's score on `n` examples of test, with what another test set of that size might say.

    `spread`: the standard deviation over them, of a score that is no share.
    """
    return proportion(score, n) if metric.binary else mean_of(score, spread or 0.0, n)


def over_runs(metric: Metric, scores: Sequence[float], n: int, spread: float | None) -> Interval:
    """The mean score of one model's runs, with its interval: over seeds or over examples, whichever reaches farther.

    Seeds that agree, as of a model that always says the commonest class, say nothing of other examples; so the interval
    is nowhere narrower than that of one run. A share's stays within 0 and 1. `spread` is that of `over_examples`.
    """
    over = over_examples(metric, float(np.mean(scores)), n, spread)
    if len(scores) > 1:
        seeds = mean(scores)
        over = Interval(over.value, min(over.low, seeds.low), max(over.high, seeds.high))
    return Interval(over.value, max(over.low, 0.0), min(over.high, 1.0)) if metric.share else over


def learned(metric: Metric, score: Interval, chance: float) -> bool:
    """Is the score better than chance level, as far as its examples can tell?"""
    return metric.better(score.low if metric.higher else score.high, chance)


def mcnemar(lost: int, gained: int) -> float:
    """p of McNemar's exact test: could two models that err on different examples be equally good?

    `lost` are the examples that only the first gets right, `gained` those that only the second does.
    """
    from scipy import stats

    return float(stats.binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


class Paired(NamedTuple):
    """How much better the first of two models is than the second, on the same examples; in the score's unit."""

    difference: float  # of mean scores
    low: float  # its two-sided interval at `LEVEL`
    high: float
    p: float  # of no difference; not a number where nothing is known of seeds
    test: str  # which test it is


MCNEMAR = "McNemar's exact test (of these trained models, not of others from other seeds)"
ONE_RUN = "Student's paired test over examples (of these trained models, not of others from other seeds)"
SEEDS = "Student's test, paired over examples, with a variance over seeds"
UNTOLD = "none: nothing is known of other seeds; the interval is of these runs on other examples"
LEAST_RUNS = 3  # of a model from which a variance over seeds is taken: two that agree tell too little, see `every_two`


class Spread(NamedTuple):
    """How much a model's mean score varies from seed to seed: a variance, its degrees of freedom, and whose it is."""

    variance: float
    freedom: float
    models: int


def spread_of(variances: Sequence[float], runs: Sequence[int], least: int = LEAST_RUNS) -> Spread | None:
    """What several models say together of how seeds vary, from each one's variance over its runs; None if none says it.

    Asked are models of `least` runs. Their variances are pooled: one over three seeds is too uncertain to test with. If
    all vary alike, the result is the pooled variance with nearly all degrees of freedom. If they do not, as where some
    learn in one run and not in another, it is the variance that a unit of what varies comes from, sum v^2 / sum v (less
    chance's part in v^2), which is nearer to the largest, with few degrees of freedom, (sum d v)^2 / sum d v^2
    (Satterthwaite 1946): then no model that looks steady is taken at its word.
    """
    asked = [(variance, count - 1) for variance, count in zip(variances, runs, strict=True) if count >= least]
    if not asked:
        return None
    own, each = np.array(asked, float).T
    total = float(each @ own)
    if total == 0:
        return Spread(0.0, float(each.sum()), len(asked))
    by_size = float(each @ (own**2 / (1 + 2 / each))) / total
    return Spread(max(total / float(each.sum()), by_size), float(total**2 / (each @ own**2)), len(asked))


def spread(scores: Iterable[Sequence[float] | np.ndarray], least: int = LEAST_RUNS) -> Spread | None:
    """`spread_of`, from each model's scores, a run each."""
    several = [np.asarray(one, float) for one in scores if len(one) > 1]
    return spread_of([float(np.var(one, ddof=1)) for one in several], [len(one) for one in several], least)


def pooled(models: Iterable[np.ndarray], least: int = LEAST_RUNS) -> Spread | None:
    """`spread_of`, from each model's scores [seeds, examples]."""
    return spread([scores.mean(axis=1) for scores in models], least)


def paired(first: np.ndarray, second: np.ndarray, spread: Spread | None = None) -> Paired:
    """Compare two models by their scores on the same examples, each [seeds, examples], bits or numbers.

    With a `spread` it is of other examples and other seeds: see `every_two`. Without one, of one run each, it is of
    these trained models on other examples: bits take McNemar's exact test (1947), other scores Student's. That is no
    verdict between two models: of results/quick's 41 models, each against itself under another seed, 25% have p < 0.05.

    Raises:
        ValueError: the examples are not as many, or fewer than two; several seeds come without a spread.
    """
    if first.shape[1] != second.shape[1] or first.shape[1] < 2:
        raise ValueError(f"scores of the same examples, two at least, are compared: {first.shape}, {second.shape}")
    if spread is None and (len(first) != 1 or len(second) != 1):
        raise ValueError("several seeds are compared with their spread")
    if spread is not None:
        return every_two([first, second], spread)[0]
    apart = first[0].astype(float) - second[0].astype(float)
    found = _student(float(apart.mean()), _squared_error(apart), len(apart) - 1, ONE_RUN)
    if first.dtype == bool:
        p = mcnemar(int((first & ~second).sum()), int((second & ~first).sum()))
        return found._replace(p=p, test=MCNEMAR)
    return found


def every_two(models: Sequence[np.ndarray], spread: Spread | None) -> list[Paired]:
    """Every two of several models, the first with each that comes after, and so on; scores [seeds, examples] each.

    Student's test of the difference between two means over examples, which are the same, and seeds, which are not. The
    squared error is that over examples (of differences, runs averaged) and those over each one's seeds. A model's
    variance over seeds is that of `spread`, or its own where that is larger; what its own has more has its own n - 1
    degrees of freedom, and those of the sum are Satterthwaite's (1946). What chance does to one run on one example
    is in both parts: cautious. Without a `spread` there is no p, and the interval is of these runs on other examples.

    How often a table of equally good models tells any two apart, Holm over its pairs; % of 2,000 tables of 10 models
    and of 1,000 of 41, of three and five runs each (`python tests/simulate.py ranks`; of fewer runs none is told):

        seeds vary               10 models   41 models
        alike                      0.4 0.3     0.0 0.0
        each in its own way        1.7 1.0     2.2 1.0
        half little, half much     0.7 0.4     0.4 0.7
        two models fail            5.2 0.6     5.8 0.2
        five models fail           0.1 0.3     0.1 0.0

    Who fails does so in every second run, and in the others is as far above the mean. All errors but 0.3% of the last
    two lines are of tables in which no such model shows it: of two, (1/4)^2 = 6.25% of three runs, in which no test can
    see it. Of two runs that is 25%, hence `LEAST_RUNS`; of a single such model it is 25% of three runs and 6% of five.
    """
    means = np.stack([scores.mean(axis=0) for scores in models])
    count, examples = means.shape
    first, second = np.triu_indices(count, 1)
    value = means.mean(axis=1)
    difference = value[first] - value[second]
    over_examples = [np.var(means[k] - means[k + 1 :], axis=1, ddof=1) for k in range(count - 1)]
    squared = np.concatenate(over_examples) / examples
    below = squared**2 / (examples - 1)
    if spread is not None:
        runs = np.array([len(scores) for scores in models])
        common, more, freedom = spread.variance / runs, _beyond(models, spread) / runs, np.maximum(runs - 1, 1)
        below += (common[first] + common[second]) ** 2 / spread.freedom
        below += more[first] ** 2 / freedom[first] + more[second] ** 2 / freedom[second]
        squared = squared + common[first] + common[second] + more[first] + more[second]
    freedom = np.divide(squared**2, below, out=np.ones_like(squared), where=below > 0)
    return _students(difference, squared, freedom, SEEDS if spread is not None else UNTOLD)


def _beyond(models: Sequence[np.ndarray], spread: Spread) -> np.ndarray:
    """How much more than the common variance each model's own is, over its seeds [seeds, examples]; 0 of one run."""
    own = [np.var(scores.mean(axis=1), ddof=1) if len(scores) > 1 else 0.0 for scores in models]
    return np.maximum(np.array(own) - spread.variance, 0)


def _students(value: np.ndarray, squared: np.ndarray, freedom: np.ndarray, test: str) -> list[Paired]:
    """Student's test of each difference and its interval, by the t distribution of SciPy's `special`, which is fast."""
    from scipy import special

    error = np.sqrt(squared)
    reach = special.stdtrit(freedom, (1 + LEVEL) / 2) * error
    ratio = np.divide(np.abs(value), error, out=np.where(value == 0, 0.0, np.inf), where=error > 0)
    p = 2 * special.stdtr(freedom, -ratio) if test != UNTOLD else np.full(len(value), np.nan)
    columns = (value, value - reach, value + reach, p)
    lines = zip(*(column.tolist() for column in columns), strict=True)
    return [Paired(apart, low, high, chance, test) for apart, low, high, chance in lines]


def _student(value: float, squared_error: float, freedom: float, test: str) -> Paired:
    return _students(np.array([value]), np.array([squared_error]), np.array([freedom]), test)[0]


def students_quantile(freedom: float, share: float) -> float:
    """Of Student's t distribution."""
    from scipy import special

    return float(special.stdtrit(freedom, share))


def _squared_error(values: np.ndarray) -> float:
    """Of the mean of a sample."""
    return float(np.var(values, ddof=1)) / len(values)


def holm(ps: Sequence[float]) -> np.ndarray:
    """Each p of a family of tests, so raised that one below `ALPHA` holds beside all others (Holm 1979).

    What is not a number was not tested: it stays so, and counts for nothing.
    """
    raised = np.array(ps, float)
    order = np.argsort(raised, kind="stable")[: int((~np.isnan(raised)).sum())]
    times = np.arange(len(order), 0, -1)
    raised[order] = np.minimum(np.maximum.accumulate(raised[order] * times), 1.0)
    return raised
