"""Loss, step, evaluate, fit.

A step is one jitted function over all local devices: the parameters are replicated, the batch is cut along B, and
the same code runs on one device. Dropout's key is `fold_in(key(seed), step)`, so a resumed run draws what an
uninterrupted one does.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lra_bench import config
from lra_bench.checkpoint import Checkpoints
from lra_bench.data.batches import Prefetch, batch_at, in_order
from lra_bench.errors import CellFailed, ConfigError
from lra_bench.measure.clocks import Laps, Stopwatch, lapped
from lra_bench.measure.flops import flops
from lra_bench.measure.memory import planned_bytes
from lra_bench.mixers.base import Auxiliary, Dynamics
from lra_bench.shapes import Batch, Split

Tell = Callable[..., None]  # tell(event, **facts): what a watcher may want to know
Params = nnx.State[Any, Any]
Options = dict[str, str | bool]  # of XLA's compiler

DYNAMICS_LR = 1e-3
AHEAD = 2  # batches made and put on the devices before they are asked for
# Half the time to compile, for what is not run again.
RUNS_ONCE: Options = {"xla_backend_optimization_level": "1"}
# By platform: the same time, 3 to 9 % less memory.
LEAST_MEMORY: dict[str, Options] = {"cpu": {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}}


class Interrupted(Exception):
    """The user asked to stop; the state is saved."""


class Make(Protocol):
    """Draws a model's parameters."""

    def __call__(self, *, rngs: nnx.Rngs) -> nnx.Module: ...


class State(NamedTuple):
    """All that a step changes."""

    params: Params
    rest: Params  # what a mixer keeps beside its parameters
    opt: optax.OptState
    step: jax.Array  # int32: steps done


def learning_rate(optimizer: config.Optimizer, schedule: config.Schedule, steps: int) -> optax.Schedule:
    """The learning rate over steps, in `schedule`'s shape.

    `rsqrt` is Long Range Arena's `constant * linear_warmup * rsqrt_decay`: lr * min(1, s/w) / sqrt(max(s, w)).
    `warmup-linear` and `warmup-cosine` rise over the warmup and fall to 0 at the last step.
    """
    lr, warmup = optimizer.lr, schedule.warmup
    if schedule.name == "constant":
        return optax.warmup_constant_schedule(0.0 if warmup else lr, lr, warmup)
    if schedule.name == "warmup-cosine":
        return optax.warmup_cosine_decay_schedule(0.0, lr, warmup, max(steps, warmup + 1))
    if schedule.name == "warmup-linear":
        rise, fall = optax.linear_schedule(0.0, lr, warmup), optax.linear_schedule(lr, 0.0, max(steps - warmup, 1))
        return optax.join_schedules([rise, fall], [warmup])

    def rsqrt(count: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(count, jnp.float32)
        return lr * jnp.minimum(1.0, step / max(warmup, 1)) * jax.lax.rsqrt(jnp.maximum(step, max(warmup, 1)))

    return rsqrt


def optimiser(recipe: config.Recipe) -> optax.GradientTransformation:
    """AdamW with decoupled weight decay on every parameter, as in Long Range Arena, clipped first if asked.

    The dynamics of state spaces are trained at a rate of at most 1e-3 and without decay (S4, arXiv 2111.00396).
    """
    o = recipe.optimizer

    def adamw(lr: float, decay: float) -> optax.GradientTransformation:
        rate = learning_rate(o.model_copy(update={"lr": lr}), recipe.schedule, recipe.training.steps)
        return optax.adamw(rate, o.b1, o.b2, o.eps, weight_decay=decay)

    rule = optax.partition({False: adamw(o.lr, o.weight_decay), True: adamw(min(o.lr, DYNAMICS_LR), 0.0)}, dynamics)
    return optax.chain(optax.clip_by_global_norm(o.clip), rule) if o.clip else rule


def dynamics(params: Params) -> Any:
    """For each parameter, whether it is one of a state space's dynamics."""
    return jax.tree.map(
        lambda leaf: isinstance(leaf, Dynamics), params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
    )


@dataclass(frozen=True)
class Devices:
    """The local devices, as one axis of data parallelism."""

    mesh: jax.sharding.Mesh

    @classmethod
    def local(cls, slice_size: int) -> Devices:
        """All local devices.

        Raises:
            ConfigError: they cannot share `slice_size` examples evenly.
        """
        count = jax.local_device_count()
        if slice_size % count:
            raise ConfigError(
                f"training.batch: slices of {slice_size} examples cannot be shared by {count} devices; "
                f"--set training.batch={math.ceil(slice_size / count) * count}"
            )
        return cls(jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=jax.local_devices()))

    @property
    def everywhere(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def cut(self, axis: int) -> NamedSharding:
        """Cut along `axis`."""
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, "data"))


@dataclass(frozen=True)
class Program:
    """What is compiled for one cell: the training step, and the forward pass where it is evaluated."""

    init: State
    step: Callable[..., tuple[State, jax.Array]]  # (state, tokens, mask, label) -> state, loss; the state is donated
    graph: nnx.GraphDef[Any]
    shape: tuple[int, int]  # S, L
    devices: Devices
    slices: int
    size: int  # examples a slice
    flops: float
    planned_bytes: int
    compile_s: float

    @classmethod
    def build(cls, make: Make, recipe: config.Recipe, shape: tuple[int, int], seed: int) -> Program:
        """Compile for examples of `shape` [S, L], and draw the parameters from `seed`.

        Raises:
            ConfigError: the devices cannot share a batch.
        """
        slices, size = recipe.training.accumulate, recipe.training.batch // recipe.training.accumulate
        devices = Devices.local(size)
        rule = optimiser(recipe)

        def initial() -> State:
            _, params, rest = nnx.split(make(rngs=nnx.Rngs(seed)), nnx.Param, ...)  # type: ignore[misc]
            return State(params, rest, rule.init(params), jnp.int32(0))

        graph = nnx.graphdef(abstract(make))
        state = jax.jit(initial, out_shardings=devices.everywhere).lower().compile(RUNS_ONCE)()
        batch = [
            jax.ShapeDtypeStruct((slices, size, *rest_of), dtype, sharding=devices.cut(1))
            for rest_of, dtype in ((shape, jnp.int32), (shape, jnp.bool_), ((), jnp.int32))
        ]
        watch = Stopwatch()
        traced = jax.jit(training_step(graph, rule, seed), donate_argnums=0).trace(state, *batch)
        step = traced.lower().compile(LEAST_MEMORY.get(jax.default_backend()))
        compile_s = watch.seconds
        work, memory = flops(traced.jaxpr), planned_bytes(step)
        return cls(state, step, graph, shape, devices, slices, size, work, memory, compile_s)

    @cached_property
    def forward(self) -> Callable[..., jax.Array]:
        """(params, rest, tokens, mask) -> predicted label [B]; compiled when it is first asked for."""
        dtypes, cut = (jnp.int32, jnp.bool_), self.devices.cut(0)
        seen = [jax.ShapeDtypeStruct((self.size, *self.shape), dtype, sharding=cut) for dtype in dtypes]
        state = [
            jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.devices.everywhere), part)
            for part in (self.init.params, self.init.rest)
        ]
        return jax.jit(prediction(self.graph)).lower(*state, *seen).compile()

    def feed(self, batch: Batch) -> tuple[jax.Array, ...]:
        """A training batch on the devices, as slices: [A, B/A, ...]."""
        arrays = (batch.tokens, batch.mask, batch.label)
        cut = [a.reshape(self.slices, self.size, *a.shape[1:]) for a in arrays]
        return tuple(jax.device_put(a, self.devices.cut(1)) for a in cut)

    def show(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """A batch to predict on the devices."""
        return jax.device_put((batch.tokens, batch.mask), self.devices.cut(0))


def abstract(make: Make) -> Any:
    """The model with shapes for arrays: nothing is drawn."""
    return nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))


def parameters(make: Make) -> int:
    """How many numbers are trained."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(abstract(make), nnx.Param)))


def draw(make: Make, seed: int) -> Any:
    """The model with its parameters drawn from `seed`."""
    return nnx.merge(nnx.graphdef(abstract(make)), jax.jit(lambda: nnx.state(make(rngs=nnx.Rngs(seed))))())


def training_step(graph: nnx.GraphDef[Any], rule: optax.GradientTransformation, seed: int) -> Callable[..., Any]:
    """The step: gradients averaged over the slices one after another, one update."""

    def loss(params: Params, rest: Params, tokens: Any, mask: Any, label: Any, key: Any) -> tuple[Any, Any]:
        model = nnx.merge(graph, params, rest, copy=True)
        logits = model(tokens, mask, key=key)
        value = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
        own = sum(leaf.sum() for leaf in jax.tree.leaves(nnx.state(model, Auxiliary)))
        return value + own, nnx.state(model, nnx.Not(nnx.Param))

    value_and_grad = jax.value_and_grad(loss, has_aux=True)

    def one_slice(carry: Any, slice_: Any) -> tuple[Any, None]:
        params, rest, total, grads = carry
        (value, rest), new = value_and_grad(params, rest, *slice_)
        return (params, rest, total + value, jax.tree.map(jnp.add, grads, new)), None

    def step(state: State, tokens: jax.Array, mask: jax.Array, label: jax.Array) -> tuple[State, jax.Array]:
        slices = tokens.shape[0]
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        if slices == 1:
            (value, rest), grads = value_and_grad(state.params, state.rest, tokens[0], mask[0], label[0], key)
        else:
            zeros = jax.tree.map(jnp.zeros_like, state.params)
            carry = (state.params, state.rest, jnp.float32(0), zeros)
            (_, rest, value, grads), _ = jax.lax.scan(
                one_slice, carry, (tokens, mask, label, jax.random.split(key, slices))
            )
            value, grads = value / slices, jax.tree.map(lambda g: g / slices, grads)
        update, opt = rule.update(grads, state.opt, state.params)
        whole = jnp.where(jnp.isfinite(optax.tree.norm(grads)), value, jnp.nan)
        return State(optax.apply_updates(state.params, update), rest, opt, state.step + 1), whole

    return step


def prediction(graph: nnx.GraphDef[Any]) -> Callable[..., jax.Array]:
    """The forward pass without dropout, to the most likely label [B]."""

    def predict(params: Params, rest: Params, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        return jnp.argmax(nnx.merge(graph, params, rest)(tokens, mask, key=None), axis=-1)

    return predict


def evaluate(program: Program, params: Params, rest: Params, split: Split, tell: Tell) -> np.ndarray:
    """One bit an example: is the most likely label the true one? bool [N], every example exactly once."""
    hits: list[np.ndarray] = []
    for batch in in_order(split, program.size):
        tell("evaluate", done=len(hits) * program.size, total=len(split))
        predicted = np.asarray(program.forward(params, rest, *program.show(batch)))
        hits.append((predicted == batch.label)[batch.weight > 0])
    return np.concatenate(hits)


@dataclass
class Progress:
    """How far a run is; saved beside its state, as JSON."""

    step: int = 0
    best_step: int | None = None
    val_accuracy: float | None = None  # at best_step
    train_loss: float | None = None  # mean over the last whole interval
    loss_sum: float = 0.0  # over the running interval
    loss_n: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)
    input_ms: list[float] = field(default_factory=list)
    eval_s: float | None = None
    wall_s: float = 0.0
    sessions: int = 0


@dataclass
class Fit:
    """One run of training: from the latest checkpoint to the last step."""

    program: Program
    train: Split
    val: Split
    training: config.Training
    seed: int
    checkpoints: Checkpoints
    tell: Tell
    stopping: Callable[[], bool]

    def __call__(self) -> tuple[Params, Params, Progress]:
        """Train; the chosen parameters, what goes with them, and how it went.

        Raises:
            Interrupted: `stopping` said so; the state is saved.
            CellFailed: the loss or a gradient is not finite.
        """
        self._resume()
        with Prefetch(self._batch, self.progress.step, self.training.steps, AHEAD) as batches:
            self.laps.start()
            for _ in self._settled(batches):
                step = self.progress.step
                last = step == self.training.steps
                with self.laps.paused():
                    if last or step % self.training.eval_every == 0:
                        self._look()
                    if last or step % self.training.checkpoint_every == 0 or self.stopping():
                        self._save()
                if self.stopping() and not last:
                    raise Interrupted
        return *self.best, self.progress

    def _resume(self) -> None:
        self.state, self.progress = self.program.init, Progress()
        self.best = _copy(self.state)
        kept = self.checkpoints.restore((self.state, self.best))
        if kept is not None:
            (state, best), progress = kept
            self.state, self.best, self.progress = State(*state), tuple(best), Progress(**progress)
        self.progress.sessions += 1
        self.laps = Laps(self.progress.step_ms)
        self.input_ms = deque(self.progress.input_ms, 2000)
        self.watch = Stopwatch(self.progress.wall_s)
        self.tell("start", step=self.progress.step, steps=self.training.steps)

    def _batch(self, step: int) -> tuple[jax.Array, ...]:
        with lapped(self.input_ms):
            return self.program.feed(batch_at(self.train, self.training.batch, self.seed, step))

    def _settled(self, batches: Iterator[tuple[jax.Array, ...]]) -> Iterator[None]:
        """Run the steps, one in flight beyond the one waited for; yield, with none in flight, where we stop to look."""
        waiting: deque[jax.Array] = deque()
        started = self.progress.step
        for batch in batches:
            self.state, loss = self.program.step(self.state, *batch)
            started += 1
            waiting.append(loss)
            pause = self._pauses_at(started)
            while len(waiting) > (0 if pause else 1):
                self._settle(waiting.popleft())
            if pause:
                yield

    def _pauses_at(self, step: int) -> bool:
        t = self.training
        return step == t.steps or step % t.eval_every == 0 or step % t.checkpoint_every == 0 or self.stopping()

    def _settle(self, loss: jax.Array) -> None:
        value = float(loss)
        self.laps.lap()
        p = self.progress
        p.step += 1
        if not math.isfinite(value):
            raise CellFailed(f"the loss or a gradient is not finite at step {p.step}", "nan")
        p.loss_sum, p.loss_n = p.loss_sum + value, p.loss_n + 1
        self.tell("step", step=p.step, steps=self.training.steps, loss=value)

    def _look(self) -> None:
        p, _ = self.progress, self.program.forward  # compiled before the clock starts
        watch = Stopwatch()
        hits = evaluate(self.program, self.state.params, self.state.rest, self.val, self.tell)
        p.eval_s = watch.seconds
        accuracy = float(hits.mean())
        p.train_loss, p.loss_sum, p.loss_n = p.loss_sum / p.loss_n, 0.0, 0
        p.history.append({"step": p.step, "train_loss": p.train_loss, "val_accuracy": accuracy})
        if self.training.select == "last" or p.val_accuracy is None or accuracy > p.val_accuracy:
            p.best_step, p.val_accuracy, self.best = p.step, accuracy, _copy(self.state)
        self.tell("val", step=p.step, train_loss=p.train_loss, val_accuracy=accuracy, left_s=self._seconds_left())

    def _seconds_left(self) -> float:
        """An estimate from the pace of this run so far."""
        return (self.training.steps - self.progress.step) * self.watch.seconds / self.progress.step

    def _save(self) -> None:
        p = self.progress
        p.step_ms, p.input_ms, p.wall_s = list(self.laps.ms), list(self.input_ms), self.watch.seconds
        self.checkpoints.save(p.step, (self.state, self.best), dataclasses.asdict(p))


def _copy(state: State) -> tuple[Params, Params]:
    """The parameters and what goes with them, in memory of their own: a step donates its state."""
    return jax.tree.map(jnp.copy, (state.params, state.rest))
