"""The step, the schedules, the count of an evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from steps import batch, split

from lra_bench import sweeps
from lra_bench.config import Optimizer, Recipe, Run, Schedule
from lra_bench.errors import ConfigError, RunFailed
from lra_bench.measure.clocks import Stopwatch
from lra_bench.metrics import METRICS, Metric
from lra_bench.mixers.base import Dynamics
from lra_bench.runs import build
from lra_bench.sweeps import Request
from lra_bench.training import checkpoint
from lra_bench.training.objective import objective
from lra_bench.training.optimizer import learning_rate, optimizer
from lra_bench.training.program import Devices, Program, draw, sharing
from lra_bench.training.setup import TrainingSetup
from lra_bench.training.step import scoring
from lra_bench.training.trainer import Interrupted, Trainer, evaluate

OWN_LOSS = '''
from dataclasses import dataclass
import jax.numpy as jnp
from flax import nnx
from lra_bench.mixers.base import Auxiliary, MixerBase
from lra_bench.mixers.card import Card

CARD = Card(title="", family="memory", paper="", equation="", year=2026, time=1.0, memory=1.0,
            exact_when="", differs="")

@dataclass(frozen=True)
class Config:
    """None."""

class Mixer(MixerBase):
    def __init__(self, config, dims, *, rngs):
        self.extra, self.loss = nnx.Param(jnp.float32(1)), Auxiliary(jnp.float32(0))

    def __call__(self, x, mask, *, key):
        if key is not None:
            self.loss[...] = 100 * self.extra[...] ** 2
        return x
'''


@pytest.fixture(autouse=True)
def _stand_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def made(*settings: str) -> tuple[Run, Program]:
    run = sweeps.runs(Request("softmax", "short", "tiny", settings=("backbone.dropout=0.0", *settings)))[0]
    return run, build.built(run)


def lr(name: str, warmup: int, steps: int, lr: float = 2.0) -> list[float]:
    optimizer = Optimizer(lr=lr, b1=0.9, b2=0.98, eps=1e-9, weight_decay=0.0, clip=None)
    rate = learning_rate(optimizer, Schedule(name=name, warmup=warmup), steps)  # type: ignore[arg-type]
    return [float(rate(step)) for step in range(steps + 1)]


def test_long_range_arenas_schedule() -> None:
    """lra-benchmarks' factors: constant * min(1, s/w) / sqrt(max(s, w))."""
    expected = [0.05 * min(1, s / 4) / max(s, 4) ** 0.5 for s in range(11)]
    assert lr("rsqrt", 4, 10, 0.05) == pytest.approx(expected, rel=1e-6)


def test_schedules_rise_to_the_peak_and_fall_to_zero() -> None:
    assert lr("warmup-linear", 2, 6) == pytest.approx([0, 1, 2, 1.5, 1, 0.5, 0])
    assert lr("warmup-cosine", 2, 6) == pytest.approx([0, 1, 2, 1 + 0.5**0.5, 1, 1 - 0.5**0.5, 0])
    assert lr("constant", 2, 4) == pytest.approx([0, 1, 2, 2, 2])
    assert lr("constant", 0, 2) == pytest.approx([2, 2, 2])


@pytest.mark.slow
def test_slices_add_up_to_the_whole_batch() -> None:
    fed = batch(8)
    results = []
    for settings in ((), ("training.accumulate=4",)):
        _, program = made(*settings)
        state, loss = program.training.step(program.init, *program.feed(fed))
        results.append((float(loss), state.params))
    (whole, a), (sliced, b) = results
    assert sliced == pytest.approx(whole, rel=1e-5)
    assert all(jax.tree.leaves(jax.tree.map(lambda x, y: bool(jnp.allclose(x, y, atol=1e-6)), a, b)))


def test_a_step_is_adamw_on_the_clipped_gradient() -> None:
    """The golden step: the compiled one against the same step put together by hand from optax."""
    run, program = made(
        "optimizer.clip=0.1", "optimizer.weight_decay=0.1", "schedule.name=constant", "schedule.warmup=0"
    )
    fed = batch(8)
    model = draw(build.model_spec(run), run.seed)
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params: object) -> jax.Array:
        logits = nnx.merge(graph, params, rest)(jnp.asarray(fed.tokens), jnp.asarray(fed.mask), key=None)
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(fed.label)).mean()

    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    norm = optax.tree.norm(grads)
    o = run.recipe.optimizer

    def updated(p: jax.Array, g: jax.Array) -> jax.Array:
        g = g * jnp.minimum(1, 0.1 / norm)
        return p - o.lr * (g / (jnp.abs(g) + o.eps) + o.weight_decay * p)  # Adam's first step: m/sqrt(v) = g/|g|

    state, compiled = program.training.step(program.init, *program.feed(fed))
    assert float(compiled) == pytest.approx(float(value), rel=1e-5)
    close = jax.tree.map(
        lambda a, b: bool(jnp.allclose(a, b, atol=2e-5)), state.params, jax.tree.map(updated, params, grads)
    )
    assert all(jax.tree.leaves(close))


def test_evaluation_counts_every_example_once_whatever_the_batch() -> None:
    shown = split(21)
    hits = []
    for size in (8, 21, 32):
        _, program = made(f"training.batch={size}")
        hits.append(evaluate(program, program.init.params, program.init.rest, shown, lambda *_, **__: None, "here"))
    assert [len(h) for h in hits] == [21, 21, 21]
    assert (hits[0] == hits[1]).all()
    assert (hits[0] == hits[2]).all()


DUMB = OWN_LOSS.replace("return x", "return x if key is not None else x * jnp.inf")  # its logits, where it is evaluated


def test_logits_that_are_not_finite_are_a_failed_evaluation(tmp_path: Path) -> None:
    """Not an answer: the largest of ten nan is the first, class 0; and no nan is above 0, so no label is there."""
    (tmp_path / "dumb.py").write_text(DUMB)
    run = sweeps.runs(Request(str(tmp_path / "dumb.py"), "short", "tiny"))[0]
    program, shown = build.built(run), split(21)
    silent, never = (lambda *_, **__: None), (lambda _: False)
    with checkpoint.opened(tmp_path / "c", fresh=False) as checkpoints:
        fit = Trainer(program, [split(64)], [shown], run.recipe.training, 0, checkpoints, silent, never)
        with pytest.raises(RunFailed, match="val, after step 4: the logits of 21 of 21 examples") as failed:
            fit()
    assert failed.value.status == "nan"


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_by_any_metric_a_logit_that_is_not_finite_is_no_score(metric: Metric) -> None:
    classes, length = 4, 20
    goal = objective(metric, classes, length)
    logits = jnp.zeros((3, length, classes) if metric.everywhere else (3, classes))
    logits = logits.at[1, ..., 2].set(jnp.inf).at[2, ..., 1].set(jnp.nan)

    class Says(nnx.Module):
        def __call__(self, tokens: jax.Array, mask: jax.Array, *, key: None, places: None) -> jax.Array:
            return logits

    graph, params, rest = nnx.split(Says(), nnx.Param, ...)
    label = jnp.zeros((3, *goal.label.shape), goal.label.dtype)
    setup = TrainingSetup(lambda *, rngs: Says(), goal, (1, length))
    score = scoring(graph, setup)({}, params, rest, jnp.zeros((3, 1, length), jnp.int32), None, label)
    assert np.isfinite(score).tolist() == [True, False, False]


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path: Path) -> None:
    run, program = made("optimizer.lr=1e30", "schedule.warmup=0", "schedule.name=constant")
    with checkpoint.opened(tmp_path / "c", fresh=False) as checkpoints:
        silent, never = (lambda *_, **__: None), (lambda _: False)
        fit = Trainer(program, [split(64)], [split(8)], run.recipe.training, 0, checkpoints, silent, never)
        with pytest.raises(RunFailed, match=r"not finite at step \d+") as failed:
            fit()
    assert failed.value.status == "nan"


@pytest.mark.slow
def test_the_seconds_of_a_run_are_those_of_all_its_sessions_from_where_each_began(tmp_path: Path) -> None:
    """A session is not only its steps: here the first compiled for 100 s before it came to them, the second for 10."""
    run, program = made()
    first, second = Stopwatch(), Stopwatch()
    first.add(100.0)
    second.add(10.0)
    for watch, stops in ((first, lambda step: step >= 4), (second, lambda step: False)):
        begun = replace(program, init=jax.tree.map(jnp.copy, program.init))
        with checkpoint.opened(tmp_path / "c", fresh=False) as checkpoints:
            silent = lambda *_, **__: None  # noqa: E731
            fit = Trainer(begun, [split(64)], [split(8)], run.recipe.training, 0, checkpoints, silent, stops, watch)
            if watch is first:
                with pytest.raises(Interrupted):
                    fit()
            else:
                assert fit()[-1].sessions == 2
    assert 110 < second.seconds < 110 + first.seconds - 100 + 60
    assert fit._seconds_left() == 0


def test_a_score_that_is_enough_ends_training_once(tmp_path: Path) -> None:
    """Who takes up what was killed after that trains no further."""
    run, program = made("training.stop_at=0.0")
    silent, never = (lambda *_, **__: None), (lambda _: False)
    for _ in range(2):
        begun = replace(program, init=jax.tree.map(jnp.copy, program.init))
        with checkpoint.opened(tmp_path / "c", fresh=False) as checkpoints:
            *_, progress = Trainer(begun, [split(64)], [split(8)], run.recipe.training, 0, checkpoints, silent, never)()
        assert (progress.step, len(progress.history)) == (4, 1)


def test_devices_that_cannot_share_a_batch_evenly_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [sharing(32, 1, local) for local in (1, 2, 3, 6, 7, 8, 48)] == [1, 2, 2, 4, 4, 8, 32]
    assert sharing(8, 2, 3) == 2, "of each of two processes"
    assert sharing(8, 1, 8, tasks=3) == 2, "one example of each task on each device"
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    with pytest.raises(
        ConfigError, match=r"training\.batch: micro-batches of 8 examples cannot be shared by 3 processes$"
    ):
        Devices.sharing(8)


SCHEDULES = ("rsqrt", "warmup-cosine", "warmup-linear", "constant")


def recipe(name: str, warmup: int, steps: int, peak: float) -> Recipe:
    lr = peak * warmup**0.5 if name == "rsqrt" else peak
    settings = (f"schedule.name={name}", f"schedule.warmup={warmup}", f"training.steps={steps}", f"optimizer.lr={lr!r}")
    return sweeps.runs(Request("softmax", "short", "tiny", settings=settings))[0].recipe


def rates(of: Recipe) -> np.ndarray:
    rate = learning_rate(of.optimizer, of.schedule, of.training.steps)
    return np.array([float(rate(step)) for step in range(of.training.steps)])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("peak", [1e-2, 1.6e-3, 2e-4])
def test_dynamics_decay_not_and_move_at_most_at_1e_3(name: str, peak: float) -> None:
    """The rate itself is capped, under each schedule: with gradients of ones, Adam's step is the rate."""
    asked = recipe(name, 4, 12, peak)
    rule = optimizer(asked.model_copy(update={"optimizer": asked.optimizer.model_copy(update={"weight_decay": 0.5})}))
    params = nnx.State({"A": Dynamics(jnp.ones(2)), "W": nnx.Param(jnp.ones(2))})
    state, ones, moved = rule.init(params), jax.tree.map(jnp.ones_like, params), []
    for _ in range(asked.training.steps):
        update, state = rule.update(ones, state, params)
        moved.append((-update["A"][0], -update["W"][0]))
    expected = rates(asked)
    np.testing.assert_allclose(np.array(moved), np.stack([np.minimum(expected, 1e-3), 1.5 * expected], 1), rtol=1e-3)
    assert expected.max() == pytest.approx(peak)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("warmup", "steps", "now"), [(20, 100, 10), (20, 100, 400), (20, 100, 3), (160, 100, 25)])
def test_a_schedule_over_other_steps_has_the_same_peak(name: str, warmup: int, steps: int, now: int) -> None:
    """And the same rates at the same shares of the steps, a warmup that is longer than them among those."""
    whole = recipe(name, warmup, steps, 0.01)
    other = whole.over(now)
    assert other.training.steps == now
    assert rates(other).max() == pytest.approx(rates(whole).max(), rel=0.05 if warmup > steps else 1e-5)
    if now * warmup % steps == 0:
        rate, shorter = (learning_rate(r.optimizer, r.schedule, r.training.steps) for r in (whole, other))
        shares = np.linspace(0, 1, 11)
        expected = [float(rate(share * steps)) for share in shares]
        np.testing.assert_allclose([float(shorter(share * now)) for share in shares], expected, rtol=1e-4, atol=1e-9)
    assert whole.over(steps) == whole
    assert whole.over(0).schedule == whole.schedule
    assert rates(whole.over(1))[0] > 0 or warmup > steps


@pytest.mark.slow
def test_a_mixers_own_loss_is_trained_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN_LOSS)
    steady = ("backbone.dropout=0.0", "schedule.name=constant", "schedule.warmup=0")
    run = sweeps.runs(Request(str(path), "short", "tiny", settings=steady))[0]
    program = build.built(run)
    state, loss = program.training.step(program.init, *program.feed(batch(8)))
    plain = made()[1]
    _, without = plain.training.step(plain.init, *plain.feed(batch(8)))
    assert float(loss) > 50 > float(without)
    assert float(state.params["blocks"]["mixer"]["extra"][...][0]) < 1
