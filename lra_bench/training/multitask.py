"""One backbone, and several tasks with an embedding, positions and a head each, trained together.

A slice of a batch is shared out among the tasks, and a step's loss is the mean of theirs by the shares p_i, n_i^(1 / T)
over their sum, n_i a task's training examples (Arivazhagan et al., arXiv 1907.05019). A task's loss is
multiplied by p_i, whatever a slice of whole examples makes of the share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import Any

import jax
from flax import nnx

from lra_bench import config
from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Auxiliary
from lra_bench.model import Asked, Choice, Model, Shape
from lra_bench.shapes import Batch
from lra_bench.training.objective import Objective
from lra_bench.training.optimizer import Params
from lra_bench.training.program import LEAST_MEMORY, Compiled, Program, compiled, known, shapes
from lra_bench.training.step import Make, Question, Regime, State, of_the_task, training_step


class JointModel(Model):
    """The first task's model; those of the others have its blocks and its last norm.

    Raises:
        ConfigError: as `Model`.
    """

    def __init__(
        self,
        mixers: Sequence[Choice],
        backbone: config.Backbone,
        asked: Sequence[Asked],
        shape: Shape,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(mixers, backbone, asked[0], shape, rngs=rngs)
        self.others = nnx.List([Model(mixers, backbone, one, shape, rngs=rngs) for one in asked[1:]])
        for other in self.others:
            other.blocks, other.norm = self.blocks, self.norm

    def of(self, task: int) -> Model:
        """The model that answers a task, from 0."""
        return self if task == 0 else self.others[task - 1]


@dataclass(frozen=True)
class Lesson:
    """A task among those that are trained together."""

    shape: tuple[int, int]  # S, L of its examples
    objective: Objective
    share: float  # of the loss, and of a batch


def part(graph: nnx.GraphDef[Any], params: Params, rest: Params, task: int) -> tuple[Any, Params, Params]:
    """Of a model of several tasks, graph, parameters and the rest of one task's model."""
    model: Any = nnx.merge(graph, params, rest)
    return nnx.split(model.of(task), nnx.Param, ...)  # type: ignore[return-value]


def shared_out(shares: Sequence[float], size: int, unit: int) -> list[int]:
    """`size` examples by shares, in multiples of `unit`, one at least: largest remainders after that one.

    Raises:
        ConfigError: there are too few.
    """
    free = size // unit - len(shares)
    if free < 0:
        raise ConfigError(
            f"training.batch: slices of {size} examples cannot be shared by {len(shares)} tasks"
            + (f" on {unit} devices" if unit > 1 else "")
        )
    exact = [max(share * (size // unit) - 1, 0) for share in shares]
    exact = [free * one / (sum(exact) or 1) for one in exact]
    whole = [int(one) for one in exact]
    order = sorted(range(len(shares)), key=lambda i: whole[i] - exact[i])
    for i in order[: free - sum(whole)]:
        whole[i] += 1
    return [unit * (1 + one) for one in whole]


def mean_loss(lessons: Sequence[Lesson], model: Any, asked: Question, objective: Objective, given: Any) -> jax.Array:
    """The mean of the tasks' losses by their shares, and of what a mixer adds of its own; arrays are a tuple a task.

    `objective` is the first task's.
    """
    total, added = jax.numpy.float32(0), []
    goals = [objective, *(lesson.objective for lesson in lessons[1:])]
    for i, (lesson, goal) in enumerate(zip(lessons, goals, strict=True)):
        key = asked.key if i == 0 or asked.key is None else jax.random.fold_in(asked.key, i)
        own = Question(asked.tokens[i], asked.mask[i], asked.label[i], key)
        total += lesson.share * of_the_task(model.of(i), own, goal, given)
        added.append(jax.tree.map(lambda leaf, p=lesson.share: p * leaf, nnx.state(model.blocks, Auxiliary)))
    nnx.update(model.blocks, jax.tree.map(lambda *leaves: sum(leaves), *added))
    return total


@dataclass(frozen=True)
class JointProgram(Program):
    """What is compiled for several tasks: one training step for all, and a forward pass for each."""

    lessons: tuple[Lesson, ...]

    @classmethod
    def of(
        cls, make: Make, recipe: config.Recipe, lessons: Sequence[Lesson], seed: int, regime: Regime
    ) -> JointProgram:
        """With a model that `make` draws for the tasks of the lessons.

        Raises:
            ConfigError: the tasks, or the devices, cannot share a batch.
        """
        together = replace(regime, loss=partial(mean_loss, lessons))
        whole = Program.build(make, recipe, lessons[0].shape, lessons[0].objective, seed, together, len(lessons))
        program = cls(**{field.name: getattr(whole, field.name) for field in fields(whole)}, lessons=tuple(lessons))
        assert program.sizes
        return program

    @cached_property
    def sizes(self) -> list[int]:
        """Examples of a slice, by task."""
        return shared_out([lesson.share for lesson in self.lessons], self.size, self.devices.mesh.size)

    @cached_property
    def parts(self) -> tuple[Program, ...]:
        """The program of each task, to be asked with what `own` gives."""
        return tuple(self._part(task) for task in range(len(self.lessons)))

    def _part(self, task: int) -> Program:
        lesson, init = self.lessons[task], self.init
        graph, params, rest = part(self.graph, init.params, init.rest, task)
        return Program(
            State(params, rest, init.opt, init.step),
            self.given,
            graph,
            self.recipe,
            self.regime,
            self.seed,
            lesson.shape,
            lesson.objective,
            self.devices,
            self.slices,
            self.sizes[task],
        )

    def own(self, task: int, params: Params, rest: Params) -> tuple[Params, Params]:
        """A task's, of the parameters of all, and of the rest."""
        return part(self.graph, params, rest, task)[1:]

    @cached_property
    def training(self) -> Compiled:
        """The training step: (state, tokens, mask, label) -> state, loss, arrays a tuple with one for each task."""
        cut = self.devices.cut(1)
        each = [shapes((self.slices, p.size), p.shape, p.objective, cut) for p in self.parts]
        step = training_step(self.graph, self.recipe, self.objective, self.seed, self.regime)
        options = known(LEAST_MEMORY.get(jax.default_backend(), {}))
        arguments = (self.given, self.init, *zip(*each, strict=True))
        made = compiled(jax.jit(self.precisely(step), donate_argnums=1), arguments, options)
        return made._replace(step=partial(made.step, self.given))

    def feed(self, *batches: Batch) -> tuple[Any, ...]:
        """A training batch of each task on the devices."""
        each = [one.feed(batch) for one, batch in zip(self.parts, batches, strict=True)]
        return tuple(zip(*each, strict=True))
