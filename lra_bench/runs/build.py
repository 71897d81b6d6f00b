"""What a run is made into: its model, its program, and what has to be done so that a step fits in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from lra_bench import data, distributed, mixers
from lra_bench.config import Recipe, Run, TaskSpec, Techniques
from lra_bench.errors import RunFailed
from lra_bench.measure.machine import where
from lra_bench.measure.memory import available_bytes, crowded
from lra_bench.metrics import METRICS
from lra_bench.model import Asked, Choice, Model
from lra_bench.shapes import Split
from lra_bench.techniques import training_setup
from lra_bench.techniques.training_setup import Learned, Stock
from lra_bench.training import precision
from lra_bench.training.multitask import JointModel, JointProgram, Lesson
from lra_bench.training.objective import Units, objective
from lra_bench.training.program import Program, abstract, count, cut, draw, parameters, sharing, step_flops
from lra_bench.training.step import Make

NOTHING = Stock()  # is trained yet that a run stands on


def examples(cell: Run, tell: Callable[..., None]) -> tuple[dict[str, Split], str]:
    """The splits, of `limit` examples at most, and the hash of the whole data."""
    dataset = data.prepare(cell.task, lambda what, done, total: tell("data", what=what, done=done, total=total))
    return data.limited(cell.task, dataset.splits, cell.limit), dataset.hash


def maker(cell: Run, *, reference: bool = False) -> Make:
    """What draws the run's model; `reference` puts full attention into the same backbone.

    Raises:
        ConfigError: the mixer's file cannot be imported, or an option's value is out of its range.
    """
    named = [(mixers.reference(), {})] if reference else [(Path(one.mixer), one.options) for one in cell.mechanisms]
    layers = list(starmap(choice, named))
    techniques = Techniques() if reference else cell.techniques
    backbone = training_setup.backbone(cell.recipe, techniques)
    if reference and cell.match:
        backbone = backbone.model_copy(update={"mlp": cell.match.mlp})
    shape = training_setup.shape(cell, techniques)
    if cell.pulls("joint"):
        return partial(JointModel, layers, backbone, [asked(task) for task in cell.tasks], shape)
    return partial(Model, layers, backbone, asked(cell.task), shape)


def choice(mixer: Path, options: Mapping[str, Any]) -> Choice:
    """The mixer in a file, and the options that are given, of its own `Config`.

    Raises:
        ConfigError: the file cannot be imported, or a value is out of its range.
    """
    module = mixers.load(mixer)
    return Choice(module.Mixer, module.Config(**options))


def asked(task: TaskSpec) -> Asked:
    """What the task asks of a model."""
    return Asked(
        vocab=len(data.vocabulary(task)),
        length=task.length,
        classes=task.classes,
        streams=task.streams,
        interaction=task.interaction,
        grid=(task.grid[0], task.grid[1]) if task.grid else None,
        everywhere=METRICS[task.metric].everywhere,
        values=data.values(task),
    )


def built(cell: Run, train: Split | None = None, stock: Stock = NOTHING, units: Units | None = None) -> Program:
    """The run's program; where answers are numbers, they are in `units`, or are standardized by those in `train`.

    `stock` is what the run stands on, as it was trained; where it is not there yet, as it is drawn, for all that can
    be known before.

    Raises:
        ConfigError: the devices cannot share a batch, or the backbone or a technique cannot do what is asked.
    """
    task = cell.task
    labels = None if train is None else train.label
    goal = objective(METRICS[task.metric], task.classes, task.length, labels, units)
    make = maker(cell)
    if cell.teacher is not None and stock.teacher is None:
        stock = replace(stock, teacher=Learned(*nnx.split(draw(maker(cell.teacher), cell.seed), nnx.Param, ...)))
    with precision.within(cell.recipe.backbone.matmul):  # what it is judged by before training
        regime = training_setup.regime(cell, stock, goal, make)
    if cell.pulls("joint"):
        return JointProgram.of(make, cell.recipe, lessons(cell), cell.seed, regime)
    return Program.build(make, cell.recipe, (task.streams, task.length), goal, cell.seed, regime)


def lessons(cell: Run) -> list[Lesson]:
    """The tasks that the run is trained on at once."""
    assert cell.techniques.joint is not None
    shares = cell.techniques.joint.shares([min(t.splits["train"], cell.limit or t.splits["train"]) for t in cell.tasks])
    goals = [objective(METRICS[task.metric], task.classes, task.length) for task in cell.tasks]
    each = zip(cell.tasks, goals, shares, strict=True)
    return [Lesson((task.streams, task.length), goal, share) for task, goal, share in each]


def work(cell: Run, *, reference: bool = False) -> float:
    """Floating-point operations of a training step; nothing is compiled or drawn.

    Raises:
        ConfigError: an option or the batch does not fit.
    """
    task = cell.task
    goal = objective(METRICS[task.metric], task.classes, task.length, None)
    return step_flops(maker(cell, reference=reference), cell.recipe, (task.streams, task.length), goal, cell.seed)


def compiled(
    cell: Run,
    train: Split | None = None,
    stock: Stock = NOTHING,
    *,
    infer: bool = False,
) -> tuple[Program, dict[str, Any]]:
    """The run's program, and what is known before it runs: the result's columns on size, cost and place.

    They are those of a training step, or, to `infer` or where there is no step to take, of the forward pass.

    Raises:
        ConfigError: an option or the batch does not fit.
    """
    make = maker(cell)
    program = built(cell, train, stock)
    part = program.scoring if infer or not cell.recipe.training.steps else program.training
    params = parameters(make)
    facts = {
        "impl": abstract(make).impl,
        "params": params,
        "trained_params": count(program.init.params),
        "params_ratio": params / parameters(maker(cell, reference=True)),
        "compile_s": part.compile_s,
        "compiled_bytes": part.compiled_bytes,
        "flops_per_step": part.flops,
        **where(),
        "devices": program.devices.mesh.size,
        **precision.facts(cell.recipe),
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


def _sharing(cell: Run) -> int:
    """The devices that share a slice, as asked."""
    processes = jax.process_count()
    each = sharing(cut(cell.recipe)[1], processes, jax.local_device_count(), len(cell.trains_on))
    return max(1, processes * each)


class Rung(NamedTuple):
    """What is done so that a step fits: the same batch in more slices, and each layer computed again."""

    accumulate: int
    remat: bool

    def of(self, recipe: Recipe) -> Recipe:
        """The recipe so changed."""
        training = recipe.training.model_copy(update={"accumulate": self.accumulate})
        backbone = recipe.backbone.model_copy(update={"remat": self.remat})
        return recipe.model_copy(update={"training": training, "backbone": backbone})

    def said(self, asked: Rung) -> str | None:
        """In words, if it is not what was asked."""
        words = [f"accumulate {self.accumulate}"] if self.accumulate != asked.accumulate else []
        words += ["remat"] if self.remat != asked.remat else []
        return ", ".join(words) or None


def ladder(recipe: Recipe, devices: int, tasks: int = 1) -> Iterator[Rung]:
    """As asked; then twice as many slices, and again, while devices and tasks can share one; then, with those, layers
    computed again, where there are several."""
    training, remat = recipe.training, recipe.backbone.remat
    slices = training.accumulate
    yield Rung(slices, remat)
    while training.batch % (2 * slices) == 0 and (half := training.batch // (2 * slices)) % devices == 0:
        if half < devices * tasks:
            break
        slices *= 2
        yield Rung(slices, remat)
    if not remat and recipe.backbone.layers > 1:
        yield Rung(slices, True)


def fitting(
    cell: Run,
    train: Split | None,
    first: Rung | None,
    tell: Callable[..., None],
    stock: Stock = NOTHING,
) -> tuple[Program, dict[str, Any], Rung]:
    """The run's program on the first rung of the ladder, from `first` on, on which its step fits; and that rung.

    Raises:
        ConfigError: an option or the batch does not fit.
        RunFailed: it fits on none; the message is of the last.
    """
    asked, needed, short = Rung(cell.recipe.training.accumulate, cell.recipe.backbone.remat), 0.0, None
    for rung in ladder(cell.recipe, _sharing(cell), len(cell.trains_on)):
        if (first is not None and rung < first) or (not rung.remat and rung.accumulate < needed):
            continue  # slices save no more than their number
        program, facts = compiled(cell.model_copy(update={"recipe": rung.of(cell.recipe)}), train, stock)
        short = lacking(facts["compiled_bytes"])
        if short is None:
            for note in (program.devices.said, crowded(facts["compiled_bytes"], jax.local_devices()[0])):
                if note:
                    tell("note", said=note)
            return program, facts | {"accumulate": rung.accumulate, "fallback": rung.said(asked)}, rung
        needed = rung.accumulate * facts["compiled_bytes"] / short.there
        tell("short", why=str(short))
    raise RunFailed(f"{short}; nor do more slices of the batch help", "oom")
