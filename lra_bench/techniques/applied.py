"""A run's techniques, applied one after another: to the spec of its model, and to its training setup.

`pretrain` and `continued` have no class: each is a run of its own before this one, which starts from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lra_bench.config import Run
from lra_bench.model import ModelSpec
from lra_bench.techniques.adapt import Adaptation
from lra_bench.techniques.base import Dependencies, Technique
from lra_bench.techniques.distill import Distillation
from lra_bench.techniques.mixed_precision import MixedPrecision
from lra_bench.techniques.multitask_training import MultitaskTraining
from lra_bench.techniques.parameter_sharing import ParameterSharing
from lra_bench.techniques.prune import Pruning
from lra_bench.techniques.quantize import Quantization
from lra_bench.techniques.start import Start
from lra_bench.training.objective import Objective
from lra_bench.training.setup import TrainingSetup

IN_ORDER: Mapping[str, type[Technique[Any]]] = {
    "precision": MixedPrecision,
    "sharing": ParameterSharing,
    "multitask": MultitaskTraining,
    "start": Start,
    "prune": Pruning,
    "adapt": Adaptation,
    "distill": Distillation,
    "quantize": Quantization,
}


def techniques(run: Run) -> list[Technique[Any]]:
    """Those of the run, in the order in which each changes what the one before it left."""
    options = {**run.techniques.applied(), "start": run.start}
    return [technique(options[name], run) for name, technique in IN_ORDER.items() if options.get(name) is not None]


def model_of(run: Run, model: ModelSpec) -> ModelSpec:
    """The run's model, of what it would be without techniques."""
    for technique in techniques(run):
        model = technique.model(model)
    return model


def setup_of(
    run: Run, model: ModelSpec, objective: Objective, shape: tuple[int, int], dependencies: Dependencies
) -> TrainingSetup:
    """How the run is trained on examples of `shape` [S, L]; `model` is what it would be without techniques.

    Raises:
        ConfigError: a technique cannot be applied to such a model.
    """
    setup = TrainingSetup(model_of(run, model), objective, shape)
    for technique in techniques(run):
        dependencies = technique.depending(dependencies, setup)
    for technique in techniques(run):
        setup = technique.training(setup, dependencies)
    return setup
