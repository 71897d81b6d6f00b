"""A model before its parameters are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flax import nnx

from lra_bench.config import CROSS, Backbone
from lra_bench.mixers.base import CPU, Target
from lra_bench.model.backbone import Asked, Model
from lra_bench.model.encoder_decoder import EncoderDecoder
from lra_bench.model.layers import UNCHANGED, Choice, Shape


@dataclass(frozen=True)
class ModelSpec:
    """What a model is made of; called, it draws the parameters.

    Raises:
        ConfigError: as `Model`.
    """

    mixers: Sequence[Choice]  # of the layers, in turn
    backbone: Backbone
    asked: Sequence[Asked]  # by each task that the model answers
    shape: Shape = UNCHANGED
    target: Target = CPU

    def __call__(self, *, rngs: nnx.Rngs) -> Model | EncoderDecoder:
        if self.crosses:
            return EncoderDecoder(self.mixers, self.backbone, self.asked[0], self.shape, self.target, rngs=rngs)
        if len(self.asked) == 1:
            return Model(self.mixers, self.backbone, self.asked[0], self.shape, self.target, rngs=rngs)
        return MultitaskModel(self.mixers, self.backbone, self.asked, self.shape, self.target, rngs=rngs)

    @property
    def crosses(self) -> bool:
        """Is it an encoder-decoder?"""
        return self.asked[0].interaction == CROSS


class MultitaskModel(Model):
    """The first task's model; those of the others have its blocks and its last norm.

    Raises:
        ConfigError: as `Model`.
    """

    def __init__(
        self,
        mixers: Sequence[Choice],
        backbone: Backbone,
        asked: Sequence[Asked],
        shape: Shape,
        target: Target,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(mixers, backbone, asked[0], shape, target, rngs=rngs)
        self.others = nnx.List([Model(mixers, backbone, one, shape, target, rngs=rngs) for one in asked[1:]])
        for other in self.others:
            other.blocks, other.norm = self.blocks, self.norm

    def of(self, task: int) -> Model:
        """The model that answers a task, from 0."""
        return self if task == 0 else self.others[task - 1]
