"""One backbone on several tasks: alone, one trains as without; with others, by its share, with a head of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from samples import SHORT, Lra, first_slow
from steps import batch, learned, same, split, stepped

from lra_bench import config, sweeps
from lra_bench.config import Overlay, Run
from lra_bench.errors import ConfigError, LraError
from lra_bench.mixers.base import Auxiliary
from lra_bench.model import Shape
from lra_bench.runs import build
from lra_bench.shapes import Batch
from lra_bench.speed.bench import Bench
from lra_bench.sweeps import Request
from lra_bench.techniques.base import Dependencies
from lra_bench.training import checkpoint
from lra_bench.training.multitask import MultitaskProgram, mean_loss, shared_out
from lra_bench.training.program import Program
from lra_bench.training.setup import LossInputs, task_loss
from lra_bench.training.trainer import Interrupted, Trainer, evaluate

BOTH = "multitask.tasks=[short, longer]"
LONGER = SHORT.replace("length: 20", "length: 28").replace("max_length: 20", "max_length: 28")


@pytest.fixture(autouse=True)
def _stand_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "tasks/longer.yaml").write_text(LONGER.replace("train: 64", "train: 576"))
    monkeypatch.chdir(here)


def run_of(model: str = "softmax", *settings: str, task: str = "short") -> Run:
    two = ("backbone.layers=2", "backbone.dropout=0.0")
    return sweeps.runs(Request(model, task, "tiny", settings=(*two, *settings)))[0]


def joint_of(of: Run) -> Run:
    assert of.start is not None
    return of.start


def together(model: str = "softmax", *settings: str) -> MultitaskProgram:
    program = build.built(joint_of(run_of(model, BOTH, *settings)))
    assert isinstance(program, MultitaskProgram)
    return program


def long_batch(n: int) -> Batch:
    made = split(n, 28)
    mask = np.arange(28) < made.lengths[..., None]
    return Batch(made.tokens.astype(np.int32), mask, made.label, np.ones(n, np.float32))


def question(*batches: Batch) -> LossInputs:
    each = [[jnp.asarray(array) for array in (b.tokens, b.mask, b.label)] for b in batches]
    return LossInputs(*zip(*each, strict=True), None)  # type: ignore[arg-type]


def loss(program: MultitaskProgram, asked: LossInputs, shares: Sequence[float] | None = None) -> Any:
    lessons = [one._replace(share=p) for one, p in zip(program.setup.tasks, shares, strict=True)] if shares else None

    def of(params: Any) -> jax.Array:
        model = nnx.merge(program.graph, params, program.init.rest)
        return mean_loss(lessons or program.setup.tasks, model, asked, program.objective, {})

    return of


def test_shares_by_temperature() -> None:
    def shares(temperature: float) -> list[float]:
        technique = config.techniques(
            (), [Overlay("test", {"multitask": {"tasks": ["a"], "temperature": temperature}})]
        ).multitask
        assert technique is not None
        return technique.shares([900, 100])

    assert shares(1.0) == pytest.approx([0.9, 0.1])
    assert shares(2.0) == pytest.approx([0.75, 0.25])
    assert shares(1e6) == pytest.approx([0.5, 0.5], abs=1e-5)
    assert shares(1e-3) == pytest.approx([1.0, 0.0])


def test_a_slice_is_shared_out_and_every_task_has_an_example() -> None:
    assert shared_out([0.75, 0.25], 8, 1) == [6, 2]
    assert shared_out([0.999, 0.001], 8, 1) == [7, 1]
    assert shared_out([0.5, 0.3, 0.2], 10, 1) == [5, 3, 2]
    assert shared_out([0.75, 0.25], 16, 4) == [12, 4]
    assert shared_out([1.0], 8, 1) == [8]
    for size in range(3, 40):
        assert sum(shared_out([0.61, 0.28, 0.11], size, 1)) == size
    with pytest.raises(ConfigError, match=r"training\.batch: micro-batches of 4 examples .* by 3 tasks on 2 devices"):
        shared_out([0.5, 0.3, 0.2], 4, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "micro_batches"), first_slow(("routing", 2), ("softmax", 1), ("linformer", 2), ("performer", 1))
)
def test_one_task_alone_trains_as_without(model: str, micro_batches: int) -> None:
    several = f"training.accumulate={micro_batches}"
    plain, joint = run_of(model, several), joint_of(run_of(model, several, "multitask.tasks=[short]"))
    alone, program = (build.built(one) for one in (plain, joint))
    losses = [one.training.step(jax.tree.map(jnp.copy, one.init), *one.feed(batch(8)))[1] for one in (alone, program)]
    assert float(losses[0]) == float(losses[1])
    assert same(stepped(alone), stepped(program))


@pytest.mark.sweep
@pytest.mark.parametrize("model", ["routing[decay=1.0]", "softmax"])
def test_the_loss_is_the_mean_of_the_tasks_losses_by_their_shares(model: str) -> None:
    program = together(model)
    assert [lesson.share for lesson in program.setup.tasks] == pytest.approx([0.25, 0.75])
    assert program.sizes == [2, 6]
    batches = (batch(2), long_batch(6))
    expected = 0.0
    for task, (part, one) in enumerate(zip(program.parts, batches, strict=True)):
        params, rest = program.own(task, program.init.params, program.init.rest)
        model_of: Any = nnx.merge(part.graph, params, rest, copy=True)
        asked = jax.tree.map(lambda a: a[0], question(one), is_leaf=lambda a: isinstance(a, tuple) and len(a) == 1)
        value = task_loss(model_of, asked._replace(key=jax.random.key(0)), part.objective, {})
        own = sum(leaf.sum() for leaf in jax.tree.leaves(nnx.state(model_of, Auxiliary)))
        expected += program.setup.tasks[task].share * float(value + own)
    _, found = program.training.step(jax.tree.map(jnp.copy, program.init), *program.feed(*batches))
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.sweep
@pytest.mark.parametrize("task", first_slow(1, 0))
def test_a_head_learns_of_its_own_task_alone(task: int) -> None:
    program = together("linformer")
    shares = [float(task == 0), float(task == 1)]
    grads = jax.grad(loss(program, question(batch(4), long_batch(4)), shares))(program.init.params)
    first = {name: part for name, part in grads.items() if name not in ("blocks", "norm", "others")}
    norms = [float(sum(jnp.abs(leaf).sum() for leaf in jax.tree.leaves(g))) for g in (first, grads["others"])]
    assert norms[task] > 0.1
    assert norms[1 - task] == 0
    assert all(bool(jnp.abs(leaf).sum() > 0) for leaf in jax.tree.leaves(grads["blocks"]["mixer"]))


def test_the_backbone_is_there_once() -> None:
    params = together().init.params
    assert {"blocks", "embed", "head", "norm", "others"} <= set(params)
    assert set(params["others"][0]) == set(params) - {"blocks", "norm", "others"}


@pytest.mark.slow
@pytest.mark.parametrize("model", first_slow("softmax+linear", "linformer", "performer"))
def test_a_run_on_one_of_the_tasks_answers_as_the_backbone_with_its_head(model: str) -> None:
    program = together(model)
    moved = jax.tree.map(lambda leaf: leaf + 0.05 * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape)), program.init)
    start = learned(program)._replace(params=moved.params)
    for task, (name, shown) in enumerate((("short", batch(8)), ("longer", long_batch(8)))):
        own = build.built(run_of(model, BOTH, task=name), None, Dependencies(start, same_symbols=False))
        expected, _ = program.own(task, moved.params, program.init.rest)
        assert same(own.init.params, nnx.State({k: v for k, v in expected.items() if k != "others"}))
        ours = own.forward(own.init.params, own.init.rest, *own.show(shown))
        part = replace(program.parts[task], size=8)
        theirs = part.forward(*program.own(task, moved.params, program.init.rest), *part.show(shown))
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pool", "everywhere"), first_slow(("cls", True), ("mean", False), ("cls", False), ("mean", True))
)
def test_what_a_text_is_filled_up_with_changes_no_answer(pool: str, everywhere: bool) -> None:
    made = build.model_spec(run_of("softmax", f"backbone.pool={pool}", "backbone.positions=none"))
    made = replace(made, asked=[replace(made.asked[0], everywhere=everywhere)])
    one, other = (replace(made, shape=shape)(rngs=nnx.Rngs(0)) for shape in (Shape(), Shape(room=33)))
    shown = batch(4)
    tokens, mask = jnp.asarray(shown.tokens), jnp.asarray(shown.mask)
    plain, filled = (model(tokens, mask, key=None) for model in (one, other))
    assert plain.shape == filled.shape
    np.testing.assert_allclose(plain, filled, atol=1e-5)
    states: list[jax.Array] = []
    other(tokens, mask, key=None, states=states)
    assert {state.shape[1] for state in states} == {other.there(tokens, mask).shape[1]} == {33}


@pytest.mark.slow
def test_a_step_of_several_tasks_can_be_timed() -> None:
    joint = joint_of(run_of("linear", BOTH))
    bench = Bench(joint, build.built(joint))
    for _ in range(5):
        bench.once()
    assert min(bench.laps.ms) > 0


def test_all_tasks_have_one_joint_training() -> None:
    every = sweeps.runs(Request("softmax", "short,longer", "tiny", settings=(BOTH,)))
    assert [one.task.name for one in every] == ["short", "longer"]
    joint = joint_of(every[0])
    assert joint_of(every[1]).id == joint.id
    assert [one.id for one in sweeps.with_needs(every)] == [joint.id, *(one.id for one in every)]
    assert joint.folder.startswith("softmax-short+longer-tiny-s0-")
    assert [one.recipe.training.steps for one in (joint, *every)] == [12, 0, 0]
    assert Run.model_validate(json.loads(every[1].model_dump_json())).id == every[1].id
    warmer = sweeps.runs(Request("softmax", "short", "tiny", settings=(BOTH, "multitask.temperature=3.0")))[0]
    assert joint_of(warmer).id != joint.id
    quantized = run_of("softmax", BOTH, "quantize.weights=8")
    assert next(one.techniques.words for one in quantized.needs) == "multi-task with short, longer, T 2"
    assert [one.applies("multitask") for one in (*quantized.needs, quantized)] == [True, False, False]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("multitask.tasks=[adding]",), r"multitask\.tasks: adding: mean-squared-error is no share"),
        (("multitask.tasks=[nowhere]",), r"task 'nowhere': not found"),
        ((BOTH, "pretrain.steps=2"), r"multitask and pretrain: one of the two"),
        ((BOTH, "distill.teacher=softmax"), r"multitask and distill: one of the two"),
        ((BOTH, "multitask.temperature=0.0"), r"multitask\.temperature: .*greater than 0"),
    ],
)
def test_what_cannot_be_trained_together_is_one_line(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(LraError, match=message):
        run_of("linformer", *settings)


def test_slices_stay_large_enough_for_all_tasks() -> None:
    recipe = run_of().recipe
    assert [fallback.accumulate for fallback in build.ladder(recipe, 1, 2)] == [1, 2, 4, 4]
    assert [fallback.accumulate for fallback in build.ladder(recipe, 2, 2)] == [1, 2, 2]
    with pytest.raises(ConfigError, match=r"micro-batches of 1 examples cannot be shared by 2 tasks"):
        together("softmax", "training.accumulate=8")


@contextmanager
def fitted(program: Program, folder: Path, stop_at: int | None = None) -> Iterator[Trainer]:
    with checkpoint.opened(folder, fresh=False) as checkpoints:
        stops = lambda step: step == stop_at  # noqa: E731
        trains, vals = [split(64), split(96, 28)], [split(13), split(30, 28)]
        yield Trainer(program, trains, vals, program.recipe.training, 0, checkpoints, lambda *_, **__: None, stops)


@pytest.mark.sweep
def test_an_interrupted_joint_training_ends_as_a_whole_one(tmp_path: Path) -> None:
    program = together("performer", "backbone.dropout=0.1")
    another, last = (replace(program, init=jax.tree.map(jnp.copy, program.init)) for _ in range(2))
    with fitted(program, tmp_path / "whole") as fit:
        whole = fit()
    sizes, steps = [part.micro_batches * part.size for part in program.parts], program.recipe.training.steps
    epochs = sum(-(-steps * size // len(train)) for size, train in zip(sizes, fit.train, strict=True))
    assert fit.order.cache_info().misses == epochs, "an epoch of a task is put in order once, not at every step"
    means = []
    for task, count in enumerate((13, 30)):
        params, rest = program.own(task, *whole[:2])
        scores = evaluate(program.parts[task], params, rest, fit.val[task], fit.tell, "here")
        means.append(scores.mean(dtype=np.float64))
        assert len(fit.val[task]) == count
    assert whole[2].val_score == pytest.approx(np.mean(means), abs=1e-9)
    with pytest.raises(Interrupted), fitted(another, tmp_path / "cut", stop_at=5) as fit:
        fit()
    with fitted(last, tmp_path / "cut") as fit:
        again = fit()
    assert same(whole[:2], again[:2])
    assert whole[2].history == again[2].history


@pytest.mark.sweep
def test_joint_training_through_the_command(lra: Lra, here: Path) -> None:
    asked = ("-m", "linformer", "-t", "short,longer", "-c", "tiny", "--set", BOTH)
    ran = lra("run", *asked, "--json")
    assert ran.returncode == 0, ran.stderr
    rows = json.loads(ran.stdout)
    assert [row["task"] for row in rows] == ["short", "longer"]
    (folder,) = (here / "results/runs").glob(f"linformer-short+longer-tiny-s0-{rows[0]['start']}")
    joint = json.loads((folder / "result.json").read_text())
    assert rows[1]["start"] == joint["run"]
    assert (joint["task"], joint["metric"], joint["steps"], joint["test_n"]) == ("short+longer", "hits", 12, 42)
    for score in ("val_score", "test_score"):
        assert joint[score] == pytest.approx(np.mean([row[score] for row in rows]), abs=1e-6)
    assert joint["params"] > rows[1]["params"] > joint["params"] / 2
    refused = lra("quantize", folder.name)
    assert refused.returncode == 2
    assert "has the backbone of several tasks; open a run that began with it" in refused.stderr
    shown = lra("compare", "results", "--format", "md")
    assert "mean of 2" in shown.stdout
    assert "hits over the examples of several tasks" in shown.stdout
