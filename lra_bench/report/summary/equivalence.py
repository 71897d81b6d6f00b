"""Is our score the published one? A test of equivalence, which more evidence makes more decided, not less.

Two one-sided tests (Schuirmann 1987): equivalent is what differs by less than a margin, as far as both numbers' own
uncertainty can tell (5% a side). What surely differs from nothing is said to differ, by at least the near end of its
95% interval. All else cannot be told, and how many seeds would tell it is computed.

How often each is said, % of 2,000 replicas a number (`python tests/simulate.py against`), by the true gap in points and
our seeds; margin 2 points, seeds vary as ten other models of three runs each say:

    published: one run on 2,000 examples, seeds vary by 1.2 points; equivalent / differs
        gap   1 seed   2 seeds  3 seeds  5 seeds
        0      0/  5    0/  4    0/  3    0/  4    the published number alone is too uncertain: no seeds tell
        2      0/ 13    0/ 12    0/ 13    0/ 16
        4      0/ 39    0/ 39    0/ 43    0/ 50
        8      0/ 91    0/ 93    0/ 96    0/ 97
    published: the mean of five runs on 20,000, seeds vary by 0.6 points
        0     52/  5   64/  3   78/  4   86/  4
        2      5/ 64    4/ 70    4/ 81    4/ 87    not within the margin
        4      0/100    0/ 98    0/100    0/100
        8      0/100    0/100    0/100    0/100
"""

from __future__ import annotations

import bisect
import math
from typing import NamedTuple

from lra_bench import statistics

VERDICTS = EQUIVALENT, DIFFERS, UNTOLD = ("equivalent", "differs", "cannot be told")
MARGIN = 0.02  # a share of test: 2 points
POWER = 0.8  # with which the seeds that are asked for tell equal scores from some that are a margin apart
MOST = 1000  # seeds: as good as any number
NORMAL = 10**9  # degrees of freedom of what is known


class Score(NamedTuple):
    """A share of right answers, and what its uncertainty is to be computed from."""

    value: float
    examples: float  # of the test set; infinite where it is no estimate
    runs: float  # whose mean it is; infinite where seeds do not move it
    variance: float = 0.0  # over the runs; 0 of one, or where it is not known


class Equivalence(NamedTuple):
    """Our score against a published one."""

    verdict: str
    difference: float  # ours less theirs
    low: float  # its 95% interval; not a number where nothing is known of seeds
    high: float
    more: int | None  # seeds that would tell; None where it is told, or no number would

    @property
    def said(self) -> str:
        """The verdict in words."""
        if self.verdict == DIFFERS:
            return f"{DIFFERS} by at least {100 * min(abs(self.low), abs(self.high)):.1f}"
        if self.verdict == EQUIVALENT:
            return EQUIVALENT
        seeds = (
            f"needs {self.more} more seed{'s' if self.more != 1 else ''}" if self.more else "no number of seeds tells"
        )
        return f"{UNTOLD}, {seeds}"


def held(ours: Score, theirs: Score, spread: statistics.Spread | None, margin: float = MARGIN) -> Equivalence:
    """Is our score within `margin` of theirs? `spread`: how seeds vary; None: not known, and nothing can be told.

    Test sets are taken as drawn independently, theirs and ours, and their seeds to vary as ours. A side's own variance,
    where it is larger than the common one, stands in its place, with its own degrees of freedom, as in
    `statistics.every_two`.
    """
    difference = ours.value - theirs.value
    if spread is None:
        return Equivalence(UNTOLD, difference, math.nan, math.nan, _least(ours, theirs, margin))
    error, freedom = _error(ours, theirs, spread, _over_examples(ours) + _over_examples(theirs))
    reach = statistics.students_quantile(freedom, (1 + statistics.LEVEL) / 2) * error
    low, high = difference - reach, difference + reach
    if abs(difference) + statistics.students_quantile(freedom, 1 - statistics.ALPHA) * error < margin:
        return Equivalence(EQUIVALENT, difference, low, high, None)
    if low > 0 or high < 0:
        return Equivalence(DIFFERS, difference, low, high, None)
    return Equivalence(UNTOLD, difference, low, high, _more(ours, theirs, spread, margin))


def _least(ours: Score, theirs: Score, margin: float) -> int | None:
    """How many runs more say how seeds vary; None if nothing would be told even if they did not vary at all."""
    steady = held(ours, theirs, statistics.Spread(0.0, NORMAL, 0), margin)
    return None if steady.verdict == UNTOLD else max(1, statistics.LEAST_RUNS - int(ours.runs))


def _more(ours: Score, theirs: Score, spread: statistics.Spread, margin: float) -> int | None:
    """How many runs more would tell equal scores from some that are a margin apart, as a rule; None if none would."""
    examples = _over_examples(ours) + _over_examples(theirs)

    def tells(runs: int) -> bool:
        error, freedom = _error(ours._replace(runs=runs), theirs, spread, examples)
        reach = sum(statistics.students_quantile(freedom, share) for share in (1 - statistics.ALPHA, (1 + POWER) / 2))
        return reach * error <= margin

    now = int(ours.runs)
    if not tells(MOST):
        return None
    return max(1, bisect.bisect_left(range(now, MOST), True, key=tells))


def _error(ours: Score, theirs: Score, spread: statistics.Spread, examples: float) -> tuple[float, float]:
    """The standard error of the difference, from the squared one over examples, and its degrees of freedom
    (Satterthwaite 1946)."""
    common = spread.variance * (1 / ours.runs + 1 / theirs.runs)
    more = [max(one.variance - spread.variance, 0) / one.runs for one in (ours, theirs)]
    squared = examples + common + sum(more)
    own = sum(error**2 / max(one.runs - 1, 1) for error, one in zip(more, (ours, theirs), strict=True))
    below = common**2 / spread.freedom + own
    return squared**0.5, min(squared**2 / below, NORMAL) if below else NORMAL


def _over_examples(score: Score) -> float:
    """The squared error of a share of examples: of Wilson's interval, which has a width at 0 and 1 too."""
    if math.isinf(score.examples):
        return 0.0
    over = statistics.proportion(score.value, int(score.examples))
    return ((over.high - over.low) / 2 / statistics.students_quantile(NORMAL, (1 + statistics.LEVEL) / 2)) ** 2
