"""Where an example asks at few of its places, the head answers at those alone, and nothing else is changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lra_bench import config, data, sweeps
from lra_bench.config import Run, tasks
from lra_bench.metrics import METRICS
from lra_bench.runs import build
from lra_bench.speed.bench import random_batch
from lra_bench.sweeps import Request
from lra_bench.techniques.distill import DistillationLoss
from lra_bench.training.objective import objective, of_task, where_asked
from lra_bench.training.setup import LossInputs, task_loss
from lra_bench.training.step import scoring

B, L, K, C = 8, 32, 4, 64


@pytest.fixture
def run(here: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(here)
    return sweeps.runs(Request("softmax", "mqar", "tiny", settings=("backbone.dropout=0.0",)))[0]


def asking(run: Run) -> LossInputs:
    """A batch whose first example asks at K places, and the others at fewer; the last at none."""
    batch = random_batch(run, B)
    draw = np.random.default_rng(0)
    label = np.zeros((B, L), np.int32)
    for row, count in enumerate([K, 3, 3, 2, 2, 1, 1, 0]):
        label[row, draw.permutation(L)[:count]] = draw.integers(1, C + 1, count)
    return LossInputs(jnp.asarray(batch.tokens), jnp.asarray(batch.mask), jnp.asarray(label), None)


def test_the_places_that_ask_come_first_and_the_others_ask_for_nothing() -> None:
    label = jnp.array([[0, 7, 0, 0, 9], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]])
    places, symbols = where_asked(label, 3)
    assert places.tolist() == [[1, 4, 0], [0, 0, 0], [0, 1, 2]]
    assert symbols.tolist() == [[7, 9, 0], [0, 0, 0], [1, 2, 3]]


@pytest.mark.slow
def test_loss_slope_and_score_are_those_of_a_head_that_answers_everywhere(run: Run) -> None:
    program, asked = build.built(run), asking(run)
    few, everywhere = program.objective, objective(METRICS[run.task.metric], C, L)
    assert (few.asked, everywhere.asked) == (K, None)
    distillation = config.Distill(teacher="any", soft=0.5, temperature=2.0, hidden=0.0, attention=0.0, layers="uniform")
    teacher = (jax.tree.map(lambda leaf: leaf + 0.1, program.init.params), program.init.rest)
    for loss in (task_loss, DistillationLoss(distillation, program.graph)):

        def valued(params: Any, goal: Any, loss: Any = loss) -> jax.Array:
            return loss(nnx.merge(program.graph, params, program.init.rest), asked, goal, {"teacher": teacher})

        ours, theirs = (jax.value_and_grad(valued)(program.init.params, goal) for goal in (few, everywhere))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5), ours, theirs)
    given = ({}, program.init.params, program.init.rest, asked.tokens, asked.mask, asked.label)
    scores = [scoring(program.graph, replace(program.setup, objective=goal))(*given) for goal in (few, everywhere)]
    np.testing.assert_array_equal(*scores)


def test_the_work_of_the_head_is_that_of_the_places_that_are_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    few = build.work(run, build.model_spec(run))
    monkeypatch.setattr(data, "asked", lambda task: task.length)
    everywhere = build.work(run, build.model_spec(run))
    backbone = run.recipe.backbone
    products = 3 * 2 * B * (L - K) * (backbone.width * backbone.mlp + backbone.mlp * C)  # forward, and both gradients
    assert 1 <= (everywhere - few) / products < 1.5


def test_a_task_that_asks_at_unknown_places_is_answered_everywhere() -> None:
    goal = of_task(tasks.load("masked-lm"))
    assert (goal.asked, goal.places(jnp.ones((2, 1024), int))) == (None, None)
