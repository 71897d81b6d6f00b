"""One backbone, and several tasks with an embedding, positions and a head each, trained together.

A micro-batch is shared out among the tasks, and a step's loss is the mean of theirs by the shares p_i, n_i^(1 / T)
over their sum, n_i a task's training examples (Arivazhagan et al., arXiv 1907.05019). A task's loss is multiplied by
p_i, whatever a micro-batch of whole examples makes of the share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Auxiliary
from lra_bench.shapes import Batch
from lra_bench.training.objective import Objective
from lra_bench.training.optimizer import Params
from lra_bench.training.program import LEAST_MEMORY, Compiled, Program, compiled, known, shapes
from lra_bench.training.setup import LossInputs, TaskShare, task_loss
from lra_bench.training.step import State, training_step


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
            f"training.batch: micro-batches of {size} examples cannot be shared by {len(shares)} tasks"
            + (f" on {unit} devices" if unit > 1 else "")
        )
    exact = [max(share * (size // unit) - 1, 0) for share in shares]
    exact = [free * one / (sum(exact) or 1) for one in exact]
    whole = [int(one) for one in exact]
    order = sorted(range(len(shares)), key=lambda i: whole[i] - exact[i])
    for i in order[: free - sum(whole)]:
        whole[i] += 1
    return [unit * (1 + one) for one in whole]


def mean_loss(tasks: Sequence[TaskShare], model: Any, asked: LossInputs, objective: Objective, given: Any) -> jax.Array:
    """The mean of the tasks' losses by their shares, and of what a mixer adds of its own; arrays are a tuple a task.

    `objective` is the first task's.
    """
    total, added = jax.numpy.float32(0), []
    goals = [objective, *(task.objective for task in tasks[1:])]
    for i, (task, goal) in enumerate(zip(tasks, goals, strict=True)):
        key = asked.key if i == 0 or asked.key is None else jax.random.fold_in(asked.key, i)
        own = LossInputs(asked.tokens[i], asked.mask[i], asked.label[i], key)
        total += task.share * task_loss(model.of(i), own, goal, given)
        added.append(jax.tree.map(lambda leaf, p=task.share: p * leaf, nnx.state(model.blocks, Auxiliary)))
    nnx.update(model.blocks, jax.tree.map(lambda *leaves: sum(leaves), *added))
    return total


@dataclass(frozen=True)
class MultitaskProgram(Program):
    """What is compiled for several tasks: one training step for all, and a forward pass for each.

    Raises:
        ConfigError: the tasks cannot share a batch.
    """

    def __post_init__(self) -> None:
        assert self.sizes

    @cached_property
    def sizes(self) -> list[int]:
        """Examples of a micro-batch, by task."""
        return shared_out([task.share for task in self.setup.tasks], self.size, self.devices.mesh.size)

    @cached_property
    def parts(self) -> tuple[Program, ...]:
        """The program of each task, to be asked with what `own` gives."""
        return tuple(self._part(task) for task in range(len(self.setup.tasks)))

    def _part(self, task: int) -> Program:
        own, init = self.setup.tasks[task], self.init
        graph, params, rest = part(self.graph, init.params, init.rest, task)
        return Program(
            State(params, rest, init.opt, init.step),
            self.given,
            graph,
            self.recipe,
            replace(self.setup, objective=own.objective, shape=own.shape, tasks=()),
            self.seed,
            self.devices,
            self.micro_batches,
            self.sizes[task],
        )

    def own(self, task: int, params: Params, rest: Params) -> tuple[Params, Params]:
        """A task's, of the parameters of all, and of the rest."""
        return part(self.graph, params, rest, task)[1:]

    @cached_property
    def training(self) -> Compiled:
        """The training step: (state, tokens, mask, label) -> state, loss, arrays a tuple with one for each task."""
        cut = self.devices.cut(1)
        each = [shapes((self.micro_batches, p.size), p.shape, p.objective, cut) for p in self.parts]
        step = training_step(self.graph, self.recipe, self.setup, self.seed)
        options = known(LEAST_MEMORY.get(self.devices.platform, {}))
        arguments = (self.given, self.init, *zip(*each, strict=True))
        made = compiled(jax.jit(self.precisely(step), donate_argnums=1), arguments, options)
        return made._replace(step=partial(made.step, self.given))

    def feed(self, *batches: Batch) -> tuple[Any, ...]:
        """A training batch of each task on the devices."""
        each = [one.feed(batch) for one, batch in zip(self.parts, batches, strict=True)]
        return tuple(zip(*each, strict=True))
