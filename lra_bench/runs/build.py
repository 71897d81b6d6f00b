"""What a run is made into: its model, its program, and what has to be done so that a step fits in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from lra_bench import data, distributed, mixers
from lra_bench.config import Recipe, Run, TaskSpec
from lra_bench.conformance.implementations import Agreement
from lra_bench.conformance.trusted import refused
from lra_bench.errors import RunFailed
from lra_bench.launch.refusals import refuse
from lra_bench.measure.machine import where
from lra_bench.measure.memory import available_bytes, crowded
from lra_bench.mixers.base import Target
from lra_bench.model import Asked, Choice, ModelSpec, Reader, Shape, sizes
from lra_bench.runs.limits import limited
from lra_bench.shapes import Split
from lra_bench.techniques import applied
from lra_bench.techniques.base import NOTHING, Dependencies, ModelState
from lra_bench.training import precision
from lra_bench.training.bucketed import BucketedProgram
from lra_bench.training.multitask import MultitaskProgram
from lra_bench.training.objective import Objective, Units, of_task
from lra_bench.training.program import Devices, Program, abstract, count, cut, draw, parameters, sharing, step_flops
from lra_bench.training.setup import TrainingSetup


def examples(run: Run, tell: Callable[..., None]) -> tuple[dict[str, Split], str]:
    """The splits, of `limit` examples at most, and the hash of the whole data."""
    dataset = data.prepare(run.task, lambda what, done, total: tell("data", what=what, done=done, total=total))
    return limited(run.task, dataset.splits, run.limit), dataset.hash


def here() -> Target:
    """The device of this process."""
    return Target.of(jax.local_devices()[0])


def trusted(run: Run) -> Target:
    """The same, without the implementations of the run's mixers that are not what they ought to be on this device."""
    return replace(here(), refused=frozenset(name for name, _ in unlike(run)))


def unlike(run: Run) -> Iterator[tuple[str, Agreement]]:
    """Those, as an option calls them, and how far they are apart from their reference; held once for each device."""
    if here().platform == "cpu":
        return
    task, backbone = run.task, run.recipe.backbone
    dims = sizes(backbone, task.length, (task.grid[0], task.grid[1]) if task.grid else None)
    for one in run.mixer_specs:
        yield from refused(one.file, one.options, replace(dims, target=here()))


def left_out(run: Run) -> list[str]:
    """The same in words, a line for each."""
    return [f"{name} is left out on this device: {found.figures}" for name, found in unlike(run)]


def model_spec(run: Run, target: Target | None = None) -> ModelSpec:
    """What the run's model is made of, compiled for a target; None: this process's platform.

    Raises:
        ConfigError: the mixer's file cannot be imported, or an option's value is out of its range.
    """
    return applied.model_of(run, _plain(run, target or trusted(run)))


def reference_spec(run: Run) -> ModelSpec:
    """Full attention in the run's backbone, as that is before it is matched in size, without techniques."""
    backbone = run.recipe.backbone
    mlp = run.match.mlp if run.match else backbone.mlp
    attention = choice(mixers.reference(), {}, crosses=run.task.crosses)
    return replace(_plain(run, here()), mixers=[attention], backbone=backbone.model_copy(update={"mlp": mlp}))


def _plain(run: Run, target: Target) -> ModelSpec:
    """The run's model as it would be without techniques."""
    layers = [choice(one.file, one.options, crosses=run.task.crosses) for one in run.mixer_specs]
    each = [asked(one.task) for one in run.trains_on]
    if run.task.crosses and run.recipe.backbone.self_mixer == "full-attention":
        layers = [choice(mixers.reference(), {})._replace(reader=layer.reader) for layer in layers]
    return ModelSpec(layers, run.recipe.backbone, each, Shape(room=_room(run)), target)


def _room(run: Run) -> int | None:
    """The vectors of the longest task, where tasks with others share the backbone; None: all alike."""
    every = [(t.length, (t.grid[0], t.grid[1]) if t.grid else None) for t in run.tasks]
    dims = [sizes(run.recipe.backbone, *one) for one in every]
    return None if len({(one.length, one.grid) for one in dims}) == 1 else max(one.length for one in dims)


def choice(mixer: Path, options: Mapping[str, Any], *, crosses: bool = False) -> Choice:
    """The mixer in a file, and the options that are given, of its own `Config`; with its cross form, where it has one
    and it is asked for.

    Raises:
        ConfigError: the file cannot be imported, or a value is out of its range.
    """
    module, cross = mixers.load(mixer), mixers.load_cross(mixer) if crosses else None
    config = module.Config(**options)
    return Choice(module.Mixer, config, Reader(cross.Cross, config) if cross else None)


def asked(task: TaskSpec) -> Asked:
    """What the task asks of a model."""
    return Asked(
        vocab=len(data.vocabulary(task)),
        length=task.length,
        classes=task.classes,
        streams=task.streams,
        interaction=task.interaction,
        growing=task.growing,
        grid=(task.grid[0], task.grid[1]) if task.grid else None,
        everywhere=task.everywhere,
        answers=task.length if task.bottleneck else 1,
        values=data.values(task),
    )


def built(
    run: Run, train: Split | None = None, dependencies: Dependencies = NOTHING, units: Units | None = None
) -> Program:
    """The run's program; where answers are numbers, they are in `units`, or are standardized by those in `train`.

    `dependencies` are as they were trained; a teacher that is not there yet, as it is drawn, for all that can be known
    before.

    Raises:
        ConfigError: the devices cannot share a batch, or the backbone or a technique cannot do what is asked.
    """
    labels = None if train is None else train.label
    setup = _setup(run, of_task(run.task, labels, units), dependencies)
    kind = _kind(setup)
    if run.recipe.training.length_buckets > 1:
        kind = BucketedProgram
    return kind.build(setup, run.recipe, run.seed)


def planned(run: Run, device: jax.Device) -> Program:
    """The run's program to be compiled for a device that is not here, on which nothing can be run.

    Raises:
        ConfigError: as `built`.
    """
    setup = _setup(run, of_task(run.task), NOTHING, Target.of(device))
    return _kind(setup).planned(setup, run.recipe, run.seed, Devices.alone(device))


def _setup(run: Run, goal: Objective, dependencies: Dependencies, target: Target | None = None) -> TrainingSetup:
    refuse(run)
    if run.teacher is not None and dependencies.teacher is None:
        taught = draw(model_spec(run.teacher), run.seed)
        dependencies = replace(dependencies, teacher=ModelState(*nnx.split(taught, nnx.Param, ...)))
    shape = (run.task.streams, run.task.length)
    with precision.within(run.recipe.backbone.matmul):  # what it is judged by before training
        return applied.setup_of(run, _plain(run, target or trusted(run)), goal, shape, dependencies)


def _kind(setup: TrainingSetup) -> type[Program]:
    return MultitaskProgram if setup.tasks else Program


def work(run: Run, model: ModelSpec) -> float:
    """Floating-point operations of a training step of `model` on the run's task; nothing is compiled or drawn.

    Raises:
        ConfigError: an option or the batch does not fit.
    """
    setup = TrainingSetup(model, of_task(run.task), (run.task.streams, run.task.length))
    return step_flops(setup, run.recipe, run.seed)


def compiled(
    run: Run,
    train: Split | None = None,
    dependencies: Dependencies = NOTHING,
    *,
    infer: bool = False,
) -> tuple[Program, dict[str, Any]]:
    """The run's program, and what is known before it runs: the result's columns on size, cost and place.

    They are those of a training step, or, to `infer` or where there is no step to take, of the forward pass.

    Raises:
        ConfigError: an option or the batch does not fit.
    """
    program = built(run, train, dependencies)
    part = program.scoring if infer or not run.recipe.training.steps else program.training
    model = program.setup.model
    params = parameters(model)
    facts = {
        "impl": abstract(model).impl,
        "params": params,
        "trained_params": count(program.init.params),
        "params_ratio": params / parameters(reference_spec(run)),
        "compile_s": part.compile_s,
        "compiled_bytes": part.compiled_bytes,
        "flops_per_step": part.flops,
        **where(),
        "devices": program.devices.mesh.size,
        **precision.facts(run.recipe),
    }
    return program, facts


class Short(NamedTuple):
    """More bytes than there are."""

    planned: int
    there: int

    def __str__(self) -> str:
        needs, has = self.planned / 2**30, self.there / 2**30
        return f"the step needs {needs:.1f} GiB as planned, of {has:.1f} GiB there"


def lacking(planned: int) -> Short | None:
    """Did the compiler plan more than the device has? Such a step is refused before it takes the machine down."""
    ours = available_bytes(jax.local_devices()[0])
    there = distributed.numbers(np.inf if ours is None else ours).min()  # for all to take the same way
    return Short(planned, int(there)) if planned > there else None


def _sharing(run: Run) -> int:
    """The devices that share a micro-batch, as asked."""
    processes = jax.process_count()
    each = sharing(cut(run.recipe)[1], processes, jax.local_device_count(), len(run.trains_on))
    return max(1, processes * each)


class Fallback(NamedTuple):
    """What is done so that a step fits: the same batch in more micro-batches, and each layer computed again."""

    accumulate: int
    remat: bool

    def of(self, recipe: Recipe) -> Recipe:
        """The recipe so changed."""
        training = recipe.training.model_copy(update={"accumulate": self.accumulate})
        backbone = recipe.backbone.model_copy(update={"remat": self.remat})
        return recipe.model_copy(update={"training": training, "backbone": backbone})

    def said(self, asked: Fallback) -> str | None:
        """In words, if it is not what was asked."""
        words = [f"accumulate {self.accumulate}"] if self.accumulate != asked.accumulate else []
        words += ["remat"] if self.remat != asked.remat else []
        return ", ".join(words) or None


def ladder(recipe: Recipe, devices: int, tasks: int = 1) -> Iterator[Fallback]:
    """As asked; then twice as many micro-batches, and again, while devices and tasks can share one; then, with those,
    layers computed again, where there are several."""
    training, remat = recipe.training, recipe.backbone.remat
    micro_batches = training.accumulate
    yield Fallback(micro_batches, remat)
    while training.batch % (2 * micro_batches) == 0 and (half := training.batch // (2 * micro_batches)) % devices == 0:
        if half < devices * tasks:
            break
        micro_batches *= 2
        yield Fallback(micro_batches, remat)
    if not remat and recipe.backbone.layers > 1:
        yield Fallback(micro_batches, True)


def fitting(
    run: Run,
    train: Split | None,
    first: Fallback | None,
    tell: Callable[..., None],
    dependencies: Dependencies = NOTHING,
) -> tuple[Program, dict[str, Any], Fallback]:
    """The run's program with the first fallback of the ladder, from `first` on, with which its step fits; and that one.

    Raises:
        ConfigError: an option or the batch does not fit.
        RunFailed: it fits on none; the message is of the last.
    """
    asked, needed, short = Fallback(run.recipe.training.accumulate, run.recipe.backbone.remat), 0.0, None
    for fallback in ladder(run.recipe, _sharing(run), len(run.trains_on)):
        if (first is not None and fallback < first) or (not fallback.remat and fallback.accumulate < needed):
            continue  # micro-batches save no more than their number
        program, facts = compiled(run.model_copy(update={"recipe": fallback.of(run.recipe)}), train, dependencies)
        short = lacking(facts["compiled_bytes"])
        if short is None:
            crowd = crowded(facts["compiled_bytes"], jax.local_devices()[0])
            for note in (*left_out(run), program.devices.said, crowd):
                if note:
                    tell("note", said=note)
            return program, facts | {"accumulate": fallback.accumulate, "fallback": fallback.said(asked)}, fallback
        needed = fallback.accumulate * facts["compiled_bytes"] / short.there
        tell("short", why=str(short))
    raise RunFailed(f"{short}; nor do more micro-batches help", "oom")
