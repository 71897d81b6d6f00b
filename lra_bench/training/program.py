"""What is compiled for a run: the training step, and the forward pass where it is evaluated.

A step is one jitted function over all devices, those of other processes too: the parameters are replicated, the batch
is cut along B, and the same code runs on one device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lra_bench import config
from lra_bench.data.batches import Order, batch_at
from lra_bench.errors import ConfigError
from lra_bench.measure.clocks import Stopwatch
from lra_bench.measure.flops import flops
from lra_bench.measure.memory import compiled_bytes
from lra_bench.shapes import Batch, Split
from lra_bench.training import xla_flags
from lra_bench.training.greedy import greedy
from lra_bench.training.objective import Objective
from lra_bench.training.optimizer import Params
from lra_bench.training.precision import precisely
from lra_bench.training.setup import Make, TrainingSetup, as_trained
from lra_bench.training.step import State, answers, cast, initial, scoring, training_step

F = TypeVar("F", bound=Callable[..., Any])
Options = dict[str, str | bool]  # of XLA's compiler

# For the parameters' first values: half the time to compile. Another level may round them otherwise.
DRAWN: Options = {"xla_backend_optimization_level": "1"}
# For what is not run again: a quarter of the time to compile.
RUNS_ONCE: Options = {"xla_backend_optimization_level": "0", "xla_cpu_use_fusion_emitters": False}
# By platform: the same time, 3 to 9 % less memory.
LEAST_MEMORY: dict[str, Options] = {"cpu": {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}}


def known(options: Options) -> Options:
    """Those of the options that the installed XLA's compiler has: it raises at others. What XLA_FLAGS sets stands."""
    return {name: value for name, value in options.items() if not xla_flags.given(name) and _has(name, value)}


def runs_once(function: Callable[..., Any]) -> Any:
    """The function, jitted in a quarter of the time: for what is not run again."""
    return jax.jit(function, compiler_options=known(RUNS_ONCE))


@cache
def _has(name: str, value: str | bool) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile({name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


@dataclass(frozen=True)
class Devices:
    """The devices of all processes that share a batch, as one axis of data parallelism."""

    mesh: jax.sharding.Mesh

    @classmethod
    def alone(cls, device: jax.Device) -> Devices:
        """One."""
        return cls(jax.sharding.Mesh(np.array([device]), ("data",), axis_types=(AxisType.Auto,)))

    @classmethod
    def sharing(cls, micro_batch_size: int, tasks: int = 1) -> Devices:
        """As many as can share a micro-batch evenly, with an example of each task at least; as many of each process.

        Raises:
            ConfigError: not even one of each process can.
        """
        processes, local = jax.process_count(), jax.local_device_count()
        each = sharing(micro_batch_size, processes, local, tasks)
        if not each:
            words = [f"{n} {what}" for n, what in ((tasks, "tasks"), (processes, "processes")) if n > 1]
            raise ConfigError(
                f"training.batch: micro-batches of {micro_batch_size} examples cannot be shared by {' on '.join(words)}"
            )
        if each == local:
            return cls(jax.make_mesh((processes * local,), ("data",), axis_types=(AxisType.Auto,)))
        by_process = [[d for d in jax.devices() if d.process_index == p] for p in range(processes)]
        used = [device for devices in by_process for device in devices[:each]]
        return cls(jax.sharding.Mesh(np.array(used), ("data",), axis_types=(AxisType.Auto,)))

    @property
    def platform(self) -> str:
        """cpu, gpu or tpu."""
        return str(self.mesh.devices.flat[0].platform)

    @property
    def said(self) -> str | None:
        """In words, where some are left out."""
        count, there = self.mesh.size, jax.device_count()
        return None if count == there else f"{count} of {there} devices are used: all cannot share a batch evenly"

    @property
    def everywhere(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def cut(self, axis: int) -> NamedSharding:
        """Cut along `axis`."""
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, "data"))

    def rows(self, count: int) -> np.ndarray:
        """Those of so many that lie on this process's devices, in order."""
        places = self.cut(0).addressable_devices_indices_map((count,)).values()
        return np.sort(np.concatenate([np.arange(count)[place] for place in places if place is not None]))


def sharing(micro_batch_size: int, processes: int, local: int, tasks: int = 1) -> int:
    """How many of each process's `local` devices can share a micro-batch evenly, with an example of each task."""
    fair = (n for n in range(local, 0, -1) if micro_batch_size % (n * processes) == 0)
    return next((n for n in fair if micro_batch_size // (n * processes) >= tasks), 0)


class Compiled(NamedTuple):
    """A function, and what compiling it showed."""

    step: Callable[..., Any]
    flops: float
    compiled_bytes: int
    compile_s: float
    executable: jax.stages.Compiled


@dataclass(frozen=True)
class Program:
    """What is compiled for one run, when it is first asked for: the training step and the forward pass."""

    init: State
    given: dict[str, Any]  # what a step is given beside its state and its batch
    graph: nnx.GraphDef[Any]
    recipe: config.Recipe
    setup: TrainingSetup
    seed: int
    devices: Devices
    micro_batches: int
    size: int  # examples a micro-batch

    @classmethod
    def build(
        cls,
        setup: TrainingSetup,
        recipe: config.Recipe,
        seed: int,
    ) -> Program:
        """With the parameters drawn from `seed`, or as the setup has them begin.

        Raises:
            ConfigError: the devices cannot share a batch.
        """
        micro_batches, size = cut(recipe)
        devices = Devices.sharing(size, max(1, len(setup.tasks)))
        graph = nnx.graphdef(abstract(setup.model))
        drawn = jax.jit(partial(initial, setup, recipe, seed), out_shardings=devices.everywhere)
        state, given = drawn.lower().compile(known(DRAWN))()
        return cls(state, given, graph, recipe, setup, seed, devices, micro_batches, size)

    @classmethod
    def planned(cls, setup: TrainingSetup, recipe: config.Recipe, seed: int, devices: Devices) -> Program:
        """With shapes for parameters, to be compiled for devices that are not here."""
        graph = nnx.graphdef(abstract(setup.model))
        drawn = jax.eval_shape(partial(initial, setup, recipe, seed))
        state, given = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=devices.everywhere), drawn
        )
        return cls(state, given, graph, recipe, setup, seed, devices, *cut(recipe))

    def of(self, model: Make) -> Program:
        """The same with a model of other implementations, whose parameters are the same."""
        return replace(self, setup=replace(self.setup, model=model), graph=nnx.graphdef(abstract(model)))

    @property
    def shape(self) -> tuple[int, int]:
        """S, L of an example."""
        return self.setup.shape

    @property
    def objective(self) -> Objective:
        """What it is trained by, and scored."""
        return self.setup.objective

    @cached_property
    def training(self) -> Compiled:
        """The training step: (state, tokens, mask, label) -> state, loss; the state is donated."""
        batch = shapes((self.micro_batches, self.size), self.shape, self.objective, self.devices.cut(1))
        step = training_step(self.graph, self.recipe, self.setup, self.seed)
        options = known(LEAST_MEMORY.get(self.devices.platform, {}))
        made = compiled(jax.jit(self.precisely(step), donate_argnums=1), (self.given, self.init, *batch), options)
        return made._replace(step=partial(made.step, self.given))

    @cached_property
    def scoring(self) -> Compiled:
        """The forward pass: (kept, rest, tokens, mask, label) -> the score of each example [B]."""
        state = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.devices.everywhere),
            (self.given, jax.eval_shape(self.setup.keep, self.init.params, self.given), self.init.rest),
        )
        batch = shapes((self.size,), self.shape, self.objective, self.devices.cut(0))
        score = self.precisely(scoring(self.graph, self.setup))
        made = compiled(jax.jit(score, out_shardings=self.devices.everywhere), (*state, *batch))
        return made._replace(step=partial(made.step, self.given))

    def kept(self, params: Params) -> Any:
        """What is kept of trained parameters to answer with: rounded, merged, as the techniques have it."""
        if self.setup.keep is as_trained:
            return params
        return self._serve(params, self.given)

    @cached_property
    def _serve(self) -> Callable[[Params, Any], Any]:
        return jax.jit(self.precisely(self.setup.keep), out_shardings=self.devices.everywhere)

    @property
    def answers(self) -> Callable[..., jax.Array]:
        """(given, kept, rest, tokens, mask) -> the logits of each example [B, ...], not compiled."""
        return self.precisely(answers(self.graph, self.setup))

    @property
    def precisely(self) -> Callable[[F], F]:
        """What has a function traced with products of the precision that is asked for."""
        return partial(precisely, self.recipe.backbone.matmul)

    def weights(self, params: Params) -> Params:
        """The model's parameters as they answer, float32."""
        return cast(self.setup.restore(self.kept(params), self.given), jnp.float32)

    @property
    def forward(self) -> Callable[..., jax.Array]:
        """(kept, rest, tokens, mask, label) -> the score of each example [B]."""
        return self.scoring.step

    @property
    def answering(self) -> Callable[..., jax.Array]:
        """What an example is scored by: `forward`, or `writing` where texts are scored."""
        return self.forward if self.objective.texts is None else self.writing

    @cached_property
    def writing(self) -> Callable[..., jax.Array]:
        """Greedy decoding: (kept, rest, tokens, mask, label) -> the text that is written for each example [B, L]."""
        assert self.objective.texts is not None
        write = greedy(self.graph, self.setup, self.objective.texts.end)
        return partial(jax.jit(self.precisely(write), out_shardings=self.devices.everywhere), self.given)

    def computed(self, splits: Sequence[Split], steps: int) -> dict[str, float]:
        """What a result says of so many training steps besides, where they do not compute all that is padded."""
        return {}

    @property
    def parts(self) -> tuple[Program, ...]:
        """The program of each task that it is for: itself."""
        return (self,)

    def own(self, task: int, params: Params, rest: Params) -> tuple[Params, Params]:
        """What the part of a task, from 0, has of the parameters, and of the rest."""
        return {0: (params, rest)}[task]

    def at(self, step: int, splits: Sequence[Split], order: Order) -> tuple[Any, ...]:
        """The batch of a training step on the devices, of the examples of each part, by an order of them."""
        each = zip(self.parts, splits, strict=True)
        return self.feed(
            *(
                batch_at(split, part.micro_batches * part.size, self.seed, step, part.fed_rows, order)
                for part, split in each
            )
        )

    def feed(self, *batches: Batch) -> tuple[Any, ...]:
        """A training batch of each part on the devices, as micro-batches [A, B/A, ...]; of it, `fed_rows` are given."""
        (batch,) = batches
        arrays = (batch.tokens, batch.mask, batch.label)
        return self._placed([a.reshape(self.micro_batches, -1, *a.shape[1:]) for a in arrays], 1)

    def show(self, batch: Batch) -> tuple[jax.Array, ...]:
        """A batch to score on the devices; of it, `shown_rows` are given."""
        return self._placed((batch.tokens, batch.mask, batch.label), 0)

    @cached_property
    def shown_rows(self) -> np.ndarray:
        """The results of a batch to score that this process has; alone, all."""
        return self.devices.rows(self.size)

    @cached_property
    def fed_rows(self) -> np.ndarray:
        """The rows of a training batch that this process has, those of one micro-batch after another; alone, all."""
        return np.concatenate([self.shown_rows + first * self.size for first in range(self.micro_batches)])

    def _placed(self, ours: Sequence[np.ndarray], axis: int) -> tuple[jax.Array, ...]:
        """This process's part of arrays that are cut along `axis`."""
        sharding = self.devices.cut(axis)
        shapes = [(*a.shape[:axis], self.size, *a.shape[axis + 1 :]) for a in ours]
        put = jax.make_array_from_process_local_data
        return tuple(put(sharding, a, shape) for a, shape in zip(ours, shapes, strict=True))


def shapes(
    examples: tuple[int, ...], shape: tuple[int, int], objective: Objective, sharding: NamedSharding | None = None
) -> list[jax.ShapeDtypeStruct]:
    """Of tokens, mask and label of so many examples of `shape` [S, L]."""
    label = objective.label
    return [
        jax.ShapeDtypeStruct((*examples, *rest), dtype, sharding=sharding)
        for rest, dtype in ((shape, jnp.int32), (shape, jnp.bool_), (label.shape, label.dtype))
    ]


def compiled(function: Any, arguments: Sequence[Any], options: Options | None = None) -> Compiled:
    """Compile a jitted function for arguments of these shapes."""
    watch = Stopwatch()
    traced = function.trace(*arguments)
    step = traced.lower().compile(options)
    return Compiled(step, flops(traced.jaxpr), compiled_bytes(step), watch.seconds, step)


def cut(recipe: config.Recipe) -> tuple[int, int]:
    """The micro-batches of a batch, and the examples of each."""
    return recipe.training.accumulate, recipe.training.batch // recipe.training.accumulate


def step_flops(setup: TrainingSetup, recipe: config.Recipe, seed: int) -> float:
    """The work of a training step, counted from its jaxpr alone."""
    micro_batches, size = cut(recipe)
    state, given = jax.eval_shape(partial(initial, setup, recipe, seed))
    batch = shapes((micro_batches, size), setup.shape, setup.objective)
    step = training_step(nnx.graphdef(abstract(setup.model)), recipe, setup, seed)
    return flops(jax.make_jaxpr(step)(given, state, *batch))


def abstract(make: Make) -> Any:
    """The model with shapes for arrays: nothing is drawn."""
    return nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))


def parameters(make: Make) -> int:
    """How many numbers a model's parameters are."""
    return count(nnx.state(abstract(make), nnx.Param))


def count(arrays: Any) -> int:
    """How many numbers they are."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(arrays))


def draw(make: Make, seed: int) -> Any:
    """The model with its parameters drawn from `seed`."""
    return nnx.merge(nnx.graphdef(abstract(make)), jax.jit(lambda: nnx.state(make(rngs=nnx.Rngs(seed))))())
