"""What a step is made of, as one plain value: the model, the objective, and what a run's techniques change of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from lra_bench.training.objective import Objective
from lra_bench.training.optimizer import Params

Weights = Callable[[Params, Any], Params]  # (what is trained, given) -> the model's parameters
Context = Callable[[Any], AbstractContextManager[Any]]  # given -> what a function is traced within
Rule = Callable[[optax.GradientTransformation], optax.GradientTransformation]

TRAINED = "trained"  # beside what a step is given: what is trained, for a loss with parameters of its own


class Make(Protocol):
    """Draws a model's parameters."""

    def __call__(self, *, rngs: nnx.Rngs) -> nnx.Module: ...


class LossInputs(NamedTuple):
    """A micro-batch, as a loss sees it; of several tasks, a tuple of arrays, one a task."""

    tokens: Any  # int32 [B, S, L]
    mask: Any  # bool [B, S, L]
    label: Any
    key: jax.Array | None  # of the dropout; None: none


class InitialState(NamedTuple):
    """What there is before the first step."""

    params: Params  # that are trained
    rest: Params  # what a mixer keeps beside its parameters
    given: dict[str, Any]  # arrays that a step is given and does not change: a frozen backbone, a teacher


Loss = Callable[[Any, LossInputs, Objective, Any], jax.Array]  # (model, inputs, objective, given) -> the mean


def task_loss(model: Any, asked: LossInputs, objective: Objective, given: Any) -> jax.Array:
    """The mean of the task's own loss."""
    logits = model(asked.tokens, asked.mask, key=asked.key, places=objective.places(asked.label))
    return objective.loss(logits, asked.label).mean()


def as_trained(params: Params, given: Any) -> Params:
    """What is trained is what the model has."""
    return params


def as_drawn(state: InitialState) -> InitialState:
    """What is drawn is what is trained."""
    return state


def within_nothing(given: Any) -> AbstractContextManager[Any]:
    """Products are as they are."""
    return nullcontext()


def as_optimized(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer's own update."""
    return rule


class TaskShare(NamedTuple):
    """A task among those that are trained at once."""

    shape: tuple[int, int]  # S, L of its examples
    objective: Objective
    share: float  # of the loss, and of a batch


@dataclass(frozen=True)
class TrainingSetup:
    """What a program is compiled from. Each of the fields after the first three stands as without techniques."""

    model: Make
    objective: Objective
    shape: tuple[int, int]  # S, L of an example
    begin: Callable[[InitialState], InitialState] = as_drawn
    weights: Weights = as_trained  # in a training step
    keep: Callable[[Params, Any], Any] = as_trained  # (what is trained, given) -> what is kept to predict with
    restore: Callable[[Any, Any], Params] = as_trained  # (what is kept, given) -> the model's parameters
    learning: Context = within_nothing  # around a training step
    predicting: Context = within_nothing  # around a forward pass
    loss: Loss = task_loss
    rule: Rule = as_optimized
    params: Any = jnp.float32  # the type in which parameters are kept and updated
    accumulate: Any = jnp.float32  # the type of gradients over micro-batches
    loss_scale: float | None = None  # at the first step; None: not scaled
    tasks: tuple[TaskShare, ...] = ()  # that are trained at once; the first one's shape and objective are as above

    def beginning(self, change: Callable[[InitialState], InitialState]) -> TrainingSetup:
        """With a further change of what there is before the first step."""
        before = self.begin
        return replace(self, begin=lambda state: change(before(state)))

    def mapped(self, change: Weights) -> TrainingSetup:
        """With a further change between what is trained and the model's parameters."""
        return replace(self, weights=after(self.weights, change), keep=after(self.keep, change))


def after(first: Weights, change: Weights) -> Weights:
    """The one, and then the other."""

    def both(trained: Params, given: Any) -> Params:
        return change(first(trained, given), given)

    return both
