"""Each metric's loss and score against its definition, and what is got without a look."""

from __future__ import annotations

import json
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from samples import Lra

from lra_bench.config import TaskSpec
from lra_bench.metrics import ACCURACY, BITS, EXACT_MATCH, METRICS, SQUARED_ERROR, TOKEN_ACCURACY
from lra_bench.training.objective import Units, objective

LOGITS = np.array([[2.0, -1.0, 0.5], [-3.0, 1.0, 4.0]], np.float32)


def test_the_schema_knows_every_metric() -> None:
    assert set(get_args(TaskSpec.model_fields["metric"].annotation)) == set(METRICS)


def test_accuracy_is_cross_entropy_and_a_hit() -> None:
    goal, label = objective(ACCURACY, 3, 8), np.array([0, 1])
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    np.testing.assert_allclose(goal.loss(LOGITS, label), -np.log(p[[0, 1], label]), rtol=1e-5)
    assert goal.score(LOGITS, label).tolist() == [1, 0]
    assert ACCURACY.chance(np.array([2, 2, 1, 2])) == 0.75


def test_several_labels_are_all_right_or_not() -> None:
    goal, label = objective(EXACT_MATCH, 3, 8), np.array([[1, 0, 1], [1, 1, 1]])
    p = 1 / (1 + np.exp(-LOGITS))
    np.testing.assert_allclose(goal.loss(LOGITS, label), -np.log(np.where(label, p, 1 - p)).mean(1), rtol=1e-5)
    assert goal.score(LOGITS, label).tolist() == [1, 0]
    assert EXACT_MATCH.chance(np.array([[1, 0], [1, 0], [0, 0], [1, 1]], np.uint8)) == 0.5


def test_numbers_are_scored_in_their_own_units_and_learned_in_standard_deviations() -> None:
    train = np.array([[10.0, 5.0], [30.0, 5.0]], np.float32)
    goal = objective(SQUARED_ERROR, 2, 8, train)
    logits, label = np.array([[0.5, 0.0]], np.float32), np.array([[20.0, 6.0]], np.float32)
    np.testing.assert_allclose(goal.score(logits, label), [((20 + 0.5 * 10 - 20) ** 2 + (5 - 6) ** 2) / 2])
    np.testing.assert_allclose(goal.loss(logits, label), [(0.5**2 + 1) / 2], err_msg="a constant has no deviation")
    assert SQUARED_ERROR.chance(train) == pytest.approx(50)


def test_units_are_kept_to_the_last_bit() -> None:
    train = np.random.default_rng(0).normal(1e6, 3, (50, 2)).astype(np.float32)
    units = Units.of(train)
    again = Units.kept(json.loads(json.dumps(units.as_lists())))
    for one, other in zip(units, again, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype == np.float32
    logits = np.array([[0.5, -1.0]], np.float32)
    kept = objective(SQUARED_ERROR, 2, 8, np.zeros((2, 2)), again)
    np.testing.assert_array_equal(kept.answer(logits), objective(SQUARED_ERROR, 2, 8, train).answer(logits))


def test_bits_are_counted_where_a_symbol_is_asked_for() -> None:
    goal, logits = objective(BITS, 3, 2), np.stack([LOGITS, LOGITS])
    label = np.array([[0, 2], [1, 3]])
    bits = -np.log2(np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True))
    np.testing.assert_allclose(goal.score(logits, label), [bits[1, 1], (bits[0, 0] + bits[1, 2]) / 2], rtol=1e-5)
    np.testing.assert_allclose(goal.loss(logits, label), goal.score(logits, label) * np.log(2), rtol=1e-5)
    assert BITS.chance(np.array([[0, 1, 2], [0, 2, 1]])) == 1.0


def test_token_accuracy_is_the_mean_over_the_asked_places_of_each_example() -> None:
    goal, logits = objective(TOKEN_ACCURACY, 3, 3), np.stack([[*LOGITS, LOGITS[0]]] * 3)
    label = np.array([[1, 0, 2], [0, 3, 0], [0, 0, 0]])  # the model says 1, 3, 1
    np.testing.assert_allclose(goal.score(logits, label), [1 / 2, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(goal.loss(logits, label), objective(BITS, 3, 3).loss(logits, label))


def test_the_chance_of_token_accuracy_is_that_of_one_symbol_always_named() -> None:
    label = np.array([[1, 2, 2, 0], [0, 0, 0, 1], [2, 2, 1, 1]])
    assert TOKEN_ACCURACY.chance(label) == pytest.approx((1 / 3 + 1 + 1 / 2) / 3)
    always = np.broadcast_to([1.0, 0.0], (3, 4, 2))
    assert TOKEN_ACCURACY.chance(label) == pytest.approx(objective(TOKEN_ACCURACY, 2, 4).score(always, label).mean())
    assert TOKEN_ACCURACY.chance(np.zeros((2, 4), int)) == 0


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_the_loss_has_a_slope_and_a_label_the_shape_that_is_stated(metric: Any) -> None:
    goal = objective(metric, 3, 5)
    assert goal.label.shape == metric.shape(3, 5)
    logits = jnp.ones((2, 5, 3) if metric.everywhere else (2, 3))
    label = jnp.ones((2, *goal.label.shape), goal.label.dtype)
    loss, slope = jax.value_and_grad(lambda x: goal.loss(x, label).mean())(logits)
    assert np.isfinite(loss)
    assert np.isfinite(slope).all()
    assert goal.score(logits, label).shape == (2,)


def test_the_better_score() -> None:
    assert ACCURACY.better(0.6, 0.5)
    assert SQUARED_ERROR.better(0.5, 0.6)
    assert not BITS.better(0.6, 0.5)


@pytest.mark.slow
def test_a_task_that_asks_for_a_number_and_one_that_asks_at_each_symbol(lra: Lra, here: Any) -> None:
    """Through the command: trained, chosen by the lower score, shown as what they are."""
    (here / "texts").mkdir()
    words = np.random.default_rng(0).choice(["one ", "two ", "three ", "four "], 3000)
    (here / "texts/train.txt").write_text("".join(words))
    common = ("run", "-m", "linear", "-c", "tiny", "--set", "task.length=16", "--set", "task.splits.train=64")
    for task, more in (("adding", ()), ("masked-lm", ("--set", "task.folder=texts"))):
        few = ("--set", "task.splits.val=20", "--set", "task.splits.test=30")
        done = lra(*common, *few, *more, "-t", task)
        assert done.returncode == 0, done.stderr
        assert METRICS[{"adding": "mean-squared-error"}.get(task, "bits")].title in done.stdout
    compared = lra("compare", "results", "--metric", "accuracy")
    assert "the lower ↓ the better" in compared.stdout, compared.stderr
