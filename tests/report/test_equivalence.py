"""Equivalence of our score and a published one: by hand, at its limits, and how often it errs."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import scipy.stats
import simulate

from lra_bench import statistics
from lra_bench.report.summary import equivalence
from lra_bench.report.summary.equivalence import DIFFERS, EQUIVALENT, UNTOLD, Score, held

SPREAD = statistics.Spread(0.006**2, 20, 10)


def test_the_error_is_of_both_test_sets_and_of_both_sides_seeds() -> None:
    """By hand: 0.36 (1 - 0.36) / n twice (Wilson's, nearly), 0.006^2 (1/3 + 1/5) of 20 degrees of freedom."""
    found = held(Score(0.36, 20000, 3), Score(0.36, 20000, 5), SPREAD)
    examples, seeds = 2 * 0.36 * 0.64 / 20000, 0.006**2 * (1 / 3 + 1 / 5)
    freedom = (examples + seeds) ** 2 / (seeds**2 / 20)
    reach = float(scipy.stats.t.ppf(0.975, freedom)) * (examples + seeds) ** 0.5
    assert found.verdict == EQUIVALENT
    assert (found.low, found.high) == pytest.approx((-reach, reach), rel=1e-3)


def test_a_variance_of_its_own_has_its_own_degrees_of_freedom() -> None:
    """Two runs 20 points apart: one degree of freedom, and t(0.975, 1) = 12.7."""
    found = held(Score(0.5, 10**6, 2, 0.02), Score(0.36, math.inf, math.inf), SPREAD)
    assert found.verdict == UNTOLD
    assert found.high - found.difference == pytest.approx(12.7 * 0.1, rel=0.01)


def test_a_variance_of_its_own_counts_on_either_side() -> None:
    steady, unsteady = Score(0.5, 10**6, 3), Score(0.36, 10**6, 2, 0.02)
    one, other = held(steady, unsteady, SPREAD), held(unsteady, steady, SPREAD)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.verdict == UNTOLD


@pytest.mark.parametrize(("score", "said"), [(0.36, "equivalent"), (0.45, "differs by at least 7."), (0.25, "differs")])
def test_what_is_said(score: float, said: str) -> None:
    assert held(Score(score, 20000, 5), Score(0.36, 20000, 5), SPREAD).said.startswith(said)


def test_the_seeds_that_are_asked_for_tell_equal_scores_as_a_rule() -> None:
    """At the number asked for, nine in ten estimates' intervals lie within the margin; at one less, not."""
    theirs = Score(0.36, 50000, 10)
    wide = statistics.Spread(0.012**2, 60, 40)
    asked = held(Score(0.372, 50000, 1), theirs, wide)
    assert asked.said == f"cannot be told, needs {asked.more} more seeds"
    assert asked.more is not None
    for runs, enough in ((1 + asked.more, True), (asked.more, False)):
        error = (2 * 0.36 * 0.64 / 50000 + 0.012**2 * (1 / runs + 1 / 10)) ** 0.5
        chance = 2 * scipy.stats.norm.cdf((0.02 - 1.67 * error) / error) - 1
        assert bool(chance > 0.8) is enough


def test_where_the_published_number_alone_is_too_uncertain_no_number_of_seeds_tells() -> None:
    found = held(Score(0.37, 2000, 5), Score(0.36, 2000, 1), statistics.Spread(0.012**2, 60, 40))
    assert (found.verdict, found.more) == (UNTOLD, None)
    assert found.said == "cannot be told, no number of seeds tells"


@pytest.mark.parametrize(
    ("ours", "theirs", "examples", "said"),
    [
        (0.365, 0.36, 10_000, "cannot be told, needs 2 more seeds"),
        (0.30, 0.36, 2000, "cannot be told, needs 2 more seeds"),  # that they differ could be told
        (0.37, 0.36, 2000, "cannot be told, no number of seeds tells"),
    ],
)
def test_nothing_known_of_seeds_asks_for_the_runs_that_tell(
    ours: float, theirs: float, examples: int, said: str
) -> None:
    """Where examples alone leave it open, as of two sets of 2,000 that are nearly equal, no seeds are asked for."""
    found = held(Score(ours, examples, 1), Score(theirs, examples, 1), None)
    assert (found.said, math.isnan(found.low)) == (said, True)


@pytest.mark.slow
def test_more_seeds_make_the_right_answer_likelier_and_errors_stay_seldom() -> None:
    replicas, names = 400, list(simulate.SETS.values())
    chance = 2.6 * (0.05 * 0.95 / replicas) ** 0.5
    for theirs in names:
        for gap, right in ((0.0, EQUIVALENT), (0.02, DIFFERS), (0.04, DIFFERS), (0.08, DIFFERS)):
            found = [simulate.rates(gap, runs, theirs, replicas) for runs in (1, 2, 3, 5)]
            wrong = DIFFERS if right == EQUIVALENT else EQUIVALENT
            assert all(rate[wrong] <= 0.05 + chance for rate in found)
            rising = [rate[right] for rate in found]
            assert all(after >= before - 2 * chance for before, after in pairwise(rising))
            assert rising[-1] >= rising[0] - chance
    sure = simulate.SETS["five, 20,000, 0.6"]
    assert simulate.rates(0.0, 5, sure, replicas)[EQUIVALENT] > 0.8
    assert simulate.rates(0.04, 5, sure, replicas)[DIFFERS] > 0.95
    assert equivalence.MARGIN == 0.02
