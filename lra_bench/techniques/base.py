"""What a technique is: a class with hooks, each of which changes nothing unless the technique says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from flax import nnx

from lra_bench.config import Run
from lra_bench.model import ModelSpec
from lra_bench.shapes import Batch
from lra_bench.training.optimizer import Params
from lra_bench.training.setup import TrainingSetup


class ModelState(NamedTuple):
    """A model and what it has learned."""

    graph: nnx.GraphDef[Any]
    params: Params  # all of them, as they answer
    rest: Params


@dataclass(frozen=True)
class Dependencies:
    """What a run depends on, where that is trained, and examples of train to judge by."""

    start: ModelState | None = None
    teacher: ModelState | None = None
    same_symbols: bool = True  # the start's task is written in the symbols of this one
    examples: Callable[[int], Sequence[Batch]] = field(default=lambda count: ())


Options = TypeVar("Options")
NOTHING = Dependencies()  # is trained yet that a run depends on


@dataclass(frozen=True)
class Technique(Generic[Options]):
    """One technique, applied to one run."""

    options: Options
    run: Run

    def model(self, spec: ModelSpec) -> ModelSpec:
        """What it changes of the model before its parameters are drawn."""
        return spec

    def depending(self, dependencies: Dependencies, setup: TrainingSetup) -> Dependencies:
        """What it changes of what the run depends on.

        Raises:
            ConfigError: it cannot be applied to such a model.
        """
        return dependencies

    def training(self, setup: TrainingSetup, dependencies: Dependencies) -> TrainingSetup:
        """What it changes of training, and of what is kept to predict with."""
        return setup
