"""A backbone that computes in other numbers, and parameters and gradients that are kept in them (Micikevicius et al.,
arXiv 1710.03740)."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp

from lra_bench import config
from lra_bench.model import ModelSpec
from lra_bench.techniques.base import Dependencies, Technique
from lra_bench.training.setup import TrainingSetup


class MixedPrecision(Technique[config.Precision]):
    """Computation, parameters and gradients, each in the numbers that are asked for."""

    def model(self, spec: ModelSpec) -> ModelSpec:
        """The backbone computes in them."""
        if self.options.compute is None:
            return spec
        dtype = config.FLOATS[self.options.compute]
        return replace(spec, backbone=spec.backbone.model_copy(update={"dtype": dtype}))

    def training(self, setup: TrainingSetup, dependencies: Dependencies) -> TrainingSetup:
        """Parameters and sums of gradients are kept in them; in fp16 the loss is scaled."""
        return replace(
            setup,
            params=jnp.dtype(config.FLOATS[self.options.params]),
            accumulate=jnp.dtype(config.FLOATS[self.options.accumulate]),
            loss_scale=self.options.loss_scale if self.options.compute == "fp16" else None,
        )
