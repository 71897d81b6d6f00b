"""Intervals, against published values and their own definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import simulate
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import first_slow
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from lra_bench import statistics
from lra_bench.metrics import ACCURACY, SQUARED_ERROR, TOKEN_ACCURACY, Metric


def test_wilsons_interval_of_a_textbook_case() -> None:
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662 by the score method."""
    interval = statistics.proportion(81 / 263, 263)
    assert (interval.low, interval.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_students_interval_of_three_seeds() -> None:
    """t(0.975, 2) = 4.3027, the standard error of 1, 2, 3 is 1 / sqrt 3."""
    interval = statistics.mean([1.0, 2.0, 3.0])
    assert interval.high - 2.0 == pytest.approx(4.3027 / 3**0.5, rel=1e-4)


def test_equal_seeds_have_an_interval_of_no_width() -> None:
    assert statistics.mean([0.4, 0.4]) == statistics.Interval(0.4, 0.4, 0.4)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_a_medians_interval_is_that_of_the_quantile_test(values: list[int]) -> None:
    """Equal values too: which of them in their order are the ends is a matter of how many there are."""
    low, high = scipy.stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    assert statistics.median(values) == pytest.approx((np.median(values), low, high), nan_ok=True)


def test_mcnemar_is_the_two_sided_sign_test_on_what_differs() -> None:
    assert statistics.mcnemar(0, 0) == 1.0
    assert statistics.mcnemar(3, 3) == 1.0
    tail = sum(math.comb(10, k) for k in (0, 1)) / 2**10
    assert statistics.mcnemar(1, 9) == pytest.approx(2 * tail)
    assert statistics.mcnemar(9, 1) == statistics.mcnemar(1, 9)


def test_a_mean_over_examples_is_as_sure_as_they_are_many() -> None:
    """The examples 1, 2, 3 have a standard deviation of sqrt(2/3); the interval is that of three values."""
    assert statistics.mean_of(2.0, (2 / 3) ** 0.5, 3) == pytest.approx(statistics.mean([1.0, 2.0, 3.0]))
    assert statistics.mean_of(2.0, 0.0, 3) == statistics.Interval(2.0, 2.0, 2.0)


def test_one_run_each_takes_mcnemar_for_bits_and_students_paired_test_for_numbers() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.random((2, 1, 60)) < np.array([0.7, 0.4])[:, None, None]
    found = statistics.paired(first, second)
    table = [[(first & second).sum(), (first & ~second).sum()], [(~first & second).sum(), (~first & ~second).sum()]]
    assert found.p == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert found.test == statistics.MCNEMAR
    rel = scipy.stats.ttest_rel(first[0].astype(float), second[0].astype(float))
    low, high = rel.confidence_interval(0.95)
    assert (found.difference, found.low, found.high) == pytest.approx((first.mean() - second.mean(), low, high))
    numbers = statistics.paired(first.astype(float), second.astype(float))
    assert (numbers.p, numbers.test) == (pytest.approx(rel.pvalue), statistics.ONE_RUN)
    assert statistics.paired(first.astype(float), first.astype(float)).p == 1.0


def test_a_paired_bootstrap_over_examples_gives_nearly_the_same_interval() -> None:
    draw = np.random.default_rng(3)
    first, second = draw.random((2, 1, 500)) < np.array([0.6, 0.5])[:, None, None]
    samples = (first[0].astype(float), second[0].astype(float))
    again = scipy.stats.bootstrap(
        samples, lambda a, b, axis: a.mean(axis) - b.mean(axis), paired=True, n_resamples=3000, method="basic", rng=draw
    ).confidence_interval
    assert statistics.paired(first, second)[1:3] == pytest.approx((again.low, again.high), abs=0.005)


def test_seeds_that_agree_leave_students_paired_test_over_examples() -> None:
    draw = np.random.default_rng(1)
    first, second = np.repeat(draw.normal(size=(2, 1, 40)), 3, axis=1)
    found = statistics.paired(first, second, statistics.Spread(0.0, 4, 2))
    rel = scipy.stats.ttest_rel(first[0], second[0])
    assert found.p == pytest.approx(rel.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(rel.confidence_interval(0.95)))


def test_examples_that_agree_leave_students_test_over_seeds() -> None:
    """A score that is the same for each example: the two-sample test with the pooled variance."""
    scores = [np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7])]
    first, second = (np.repeat(model[:, None], 10, axis=1) for model in scores)
    spread = statistics.pooled([first, second])
    assert spread == statistics.Spread(pytest.approx(0.01), pytest.approx(4), 2)
    assert statistics.paired(first, second, spread).p == pytest.approx(scipy.stats.ttest_ind(*scores).pvalue, rel=1e-3)


def test_models_that_vary_alike_have_their_pooled_variance() -> None:
    """Variances 1, 1 and 1; runs fewer than three add nothing, and alone they say nothing."""
    steady, two, one = [1.0, 2.0, 3.0], [0.0, 4.0], [9.0]
    assert statistics.spread([steady, steady, steady, two, one]) == statistics.Spread(1.0, pytest.approx(6), 3)
    assert statistics.spread([two, one]) is None
    assert statistics.spread([two, one], least=2) == statistics.Spread(8.0, pytest.approx(1), 1)
    assert statistics.spread([[0.25] * 3, [0.5] * 3]) == statistics.Spread(0.0, 4, 2)


def test_one_model_that_fails_at_times_makes_all_uncertain() -> None:
    """Variances of 1 nine times and of 181 once: by hand, (9 + 181^2 / 2) / 190 and (2 * 190)^2 / (2 (9 + 181^2))."""
    wild = [20.0 - 181**0.5, 20.0, 20.0 + 181**0.5]
    found = statistics.spread([[1.0, 2.0, 3.0]] * 9 + [wild])
    assert found == statistics.Spread(
        pytest.approx((9 + 181**2) / 2 / 190), pytest.approx(2 * 190**2 / (9 + 181**2)), 10
    )
    assert found.variance > 4 * 19, "far beyond the pooled variance"
    assert found.freedom < 3, "not 20"


def test_a_model_whose_seeds_vary_more_than_others_is_told_apart_with_more_care() -> None:
    steady = np.repeat(np.array([[0.50], [0.51], [0.49]]), 50, axis=1)
    worse, wild = steady - 0.1, np.repeat(np.array([[0.2], [0.4], [0.6]]), 50, axis=1)
    spread = statistics.Spread(1e-4, 80, 40)
    assert statistics.paired(steady, worse, spread).p < 1e-6
    assert statistics.paired(steady, wild, spread).p > 0.1


def test_a_variance_of_its_own_has_its_own_degrees_of_freedom() -> None:
    """By hand: squared errors of 1e-6 / 3 twice with 80 degrees of freedom, and of (0.04 - 1e-6) / 3 with 2."""
    steady = np.repeat(np.array([[0.50], [0.501], [0.499]]), 50, axis=1)
    wild = np.repeat(np.array([[-0.6], [-0.4], [-0.2]]), 50, axis=1)
    found = statistics.paired(steady, wild, statistics.Spread(1e-6, 80, 40))
    assert found.difference / 0.04**0.5 * 3**0.5 == pytest.approx(7.79, abs=0.01)
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(0.9 / (0.04 / 3) ** 0.5, 2), rel=1e-3)


def test_nothing_known_of_seeds_is_no_p_and_an_interval_over_examples() -> None:
    draw = np.random.default_rng(5)
    bits = draw.random((3, 1, 60)) < 0.5
    pairs = statistics.every_two(list(bits), None)
    assert all(np.isnan(pair.p) and pair.test == statistics.UNTOLD for pair in pairs)
    for pair, (a, b) in zip(pairs, [(0, 1), (0, 2), (1, 2)], strict=True):
        assert pair[1:3] == pytest.approx(statistics.paired(bits[a], bits[b])[1:3])
    assert np.isnan(statistics.holm([np.nan, 0.01])[0])
    assert statistics.holm([np.nan, 0.01])[1] == 0.01, "what was not tested does not count"


def test_the_interval_of_several_runs_is_nowhere_narrower_than_that_of_one() -> None:
    """Seeds that agree say nothing of other examples; a share stays a share."""
    wilson = statistics.proportion(0.377, 2000)
    assert statistics.over_runs(ACCURACY, [0.377, 0.377], 2000, None) == wilson
    apart = statistics.over_runs(ACCURACY, [0.3, 0.4, 0.5], 2000, None)
    assert apart == pytest.approx(statistics.mean([0.3, 0.4, 0.5]))
    assert statistics.over_runs(ACCURACY, [0.99, 0.8], 2000, None).high == 1.0
    assert statistics.over_runs(ACCURACY, [0.01, 0.2], 2000, None).low == 0.0
    assert statistics.over_runs(SQUARED_ERROR, [0.1, 9.9], 2000, 0.1).low < 0, "an error's interval is Student's"


@pytest.mark.slow
@pytest.mark.parametrize(("models", "tables"), [(10, 150), (41, 50)])
@pytest.mark.parametrize("kind", first_slow(*simulate.KINDS))
def test_equal_models_are_seldom_told_apart(kind: str, models: int, tables: int) -> None:
    """Of tables of 1, 2, 3 and 5 runs a model: at most 6%, but where models that fail at times cannot be seen to.

    Of two that fail in every second run, (1/4)^2 = 6.25% of tables of three runs show nothing of it, give or take what
    chance does to a few tables.
    """
    most = scipy.stats.binom.ppf(0.999, tables, 0.0625) / tables
    for runs in (1, 2):
        assert simulate.errors(kind, models, runs, 3) == (0, 0), "no ranks at all"
    for runs in (3, 5):
        wrong, unseen = simulate.errors(kind, models, runs, tables)
        assert wrong - unseen <= 0.06
        assert unseen <= most


def test_scores_that_cannot_be_paired_are_refused() -> None:
    bits = np.ones((1, 5), bool)
    for other in (np.ones((1, 4), bool), np.ones((2, 5), bool)):
        with pytest.raises(ValueError, match="compared"):
            statistics.paired(bits, other)
    with pytest.raises(ValueError, match="two at least"):
        statistics.paired(bits[:, :1], bits[:, :1])


def test_holms_correction_of_a_textbook_case() -> None:
    """Smallest first, times 4, 3, 2, 1, and none below the one before."""
    assert list(statistics.holm([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert list(statistics.holm([])) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_lowers_no_p(ps: list[float]) -> None:
    raised = statistics.holm(ps)
    assert all(p <= q <= 1 for p, q in zip(ps, raised, strict=True))
    order = np.argsort(ps, kind="stable")
    assert (np.diff(raised[order]) >= 0).all()
    np.testing.assert_allclose(raised, multipletests(ps, method="holm")[1])


@pytest.mark.parametrize(
    ("metric", "score", "n", "spread", "chance", "learned"),
    [
        (ACCURACY, 0.20, 2000, None, 0.175, True),
        (ACCURACY, 0.20, 200, None, 0.175, False),
        (ACCURACY, 0.10, 2000, None, 0.175, False),
        (SQUARED_ERROR, 0.10, 2000, 0.2, 0.167, True),
        (SQUARED_ERROR, 0.16, 2000, 0.2, 0.167, False),
        (SQUARED_ERROR, 0.30, 2000, 0.2, 0.167, False),
        (TOKEN_ACCURACY, 0.52, 400, 0.1, 0.5, True),  # of a share of examples it would be False
        (TOKEN_ACCURACY, 0.52, 400, 0.5, 0.5, False),
    ],
)
def test_who_learned_is_better_than_the_chance_as_far_as_the_examples_can_tell(
    metric: Metric, score: float, n: int, spread: float | None, chance: float, learned: bool
) -> None:
    assert statistics.learned(metric, statistics.over_examples(metric, score, n, spread), chance) is learned
