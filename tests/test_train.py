"""The step, the schedules, the count of an evaluation."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lra_bench import assembly, checkpoint, matrix
from lra_bench.config import Cell, Optimizer, Schedule
from lra_bench.errors import CellFailed, ConfigError
from lra_bench.matrix import Request
from lra_bench.mixers.base import Dynamics
from lra_bench.shapes import Batch, Split
from lra_bench.train.fit import Fit, evaluate
from lra_bench.train.optimiser import learning_rate, optimiser
from lra_bench.train.program import Devices, Program, draw

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


def made(*settings: str) -> tuple[Cell, Program]:
    cell = matrix.cells(Request("softmax", "short", "tiny", settings=("trunk.dropout=0.0", *settings)))[0]
    return cell, assembly.built(cell)


def split(n: int, length: int = 20) -> Split:
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, length, (n, 1)).astype(np.int32)
    tokens = draw.integers(1, 16, (n, 1, length)) * (np.arange(length) < lengths[..., None])
    return Split(tokens.astype(np.uint8), lengths, draw.integers(0, 10, n).astype(np.int32))


def batch(n: int) -> Batch:
    made = split(n)
    mask = np.arange(20) < made.lengths[..., None]
    return Batch(made.tokens.astype(np.int32), mask, made.label, np.ones(n, np.float32))


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
    cell, program = made(
        "optimizer.clip=0.1", "optimizer.weight_decay=0.1", "schedule.name=constant", "schedule.warmup=0"
    )
    fed = batch(8)
    model = draw(assembly.maker(cell), cell.seed)
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params: object) -> jax.Array:
        logits = nnx.merge(graph, params, rest)(jnp.asarray(fed.tokens), jnp.asarray(fed.mask), key=None)
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(fed.label)).mean()

    value, grads = jax.value_and_grad(loss)(params)
    norm = optax.tree.norm(grads)
    o = cell.recipe.optimizer

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
        hits.append(evaluate(program, program.init.params, program.init.rest, shown, lambda *_, **__: None))
    assert [len(h) for h in hits] == [21, 21, 21]
    assert (hits[0] == hits[1]).all()
    assert (hits[0] == hits[2]).all()


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path: Path) -> None:
    cell, program = made("optimizer.lr=1e30", "schedule.warmup=0", "schedule.name=constant")
    with checkpoint.opened(tmp_path / "c", fresh=False) as checkpoints:
        silent, never = (lambda *_, **__: None), (lambda _: False)
        fit = Fit(program, [split(64)], [split(8)], cell.recipe.training, 0, checkpoints, silent, never)
        with pytest.raises(CellFailed, match=r"not finite at step \d+") as failed:
            fit()
    assert failed.value.status == "nan"


def test_a_batch_that_devices_cannot_share_names_one_that_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "device_count", lambda: 3)
    with pytest.raises(ConfigError, match=r"8 examples cannot be shared by 3 devices; --set training\.batch=9"):
        Devices.all(8)


def test_dynamics_decay_not_and_move_at_most_at_1e_3() -> None:
    recipe = made("optimizer.lr=0.1", "optimizer.weight_decay=0.5", "schedule.name=constant", "schedule.warmup=0")[
        0
    ].recipe
    params = nnx.State({"A": Dynamics(jnp.ones(2)), "W": nnx.Param(jnp.ones(2))})
    rule = optimiser(recipe)
    update, _ = rule.update(jax.tree.map(jnp.ones_like, params), rule.init(params), params)
    np.testing.assert_allclose(update["A"][...], -1e-3, rtol=1e-4)
    np.testing.assert_allclose(update["W"][...], -0.1 * (1 + 0.5), rtol=1e-4)


def test_a_mixers_own_loss_is_trained_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(OWN_LOSS)
    steady = ("trunk.dropout=0.0", "schedule.name=constant", "schedule.warmup=0")
    cell = matrix.cells(Request(str(path), "short", "tiny", settings=steady))[0]
    program = assembly.built(cell)
    state, loss = program.training.step(program.init, *program.feed(batch(8)))
    plain = made()[1]
    _, without = plain.training.step(plain.init, *plain.feed(batch(8)))
    assert float(loss) > 50 > float(without)
    assert float(state.params["blocks"]["mixer"]["extra"][...][0]) < 1
