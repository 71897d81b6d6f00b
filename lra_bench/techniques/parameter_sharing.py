"""Neighboring layers with the same parameters (ALBERT, arXiv 1909.11942, section 3.1)."""

from __future__ import annotations

from dataclasses import replace

from lra_bench import config
from lra_bench.model import ModelSpec
from lra_bench.techniques.base import Technique


class ParameterSharing(Technique[config.Sharing]):
    """As many sets of parameters as are asked for."""

    def model(self, spec: ModelSpec) -> ModelSpec:
        """The layers have so many."""
        return replace(spec, shape=replace(spec.shape, shared=self.options.groups))
