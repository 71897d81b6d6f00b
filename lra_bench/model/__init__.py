"""The model that every mixer is put into: an embedding, layers, a pool and a head."""

from lra_bench.model.backbone import Asked, Model, sizes
from lra_bench.model.embedding import Embedding, Patches
from lra_bench.model.encoder_decoder import EncoderDecoder
from lra_bench.model.layers import Choice, Reader, Shape
from lra_bench.model.spec import ModelSpec, MultitaskModel

__all__ = [
    "Asked",
    "Choice",
    "Embedding",
    "EncoderDecoder",
    "Model",
    "ModelSpec",
    "MultitaskModel",
    "Patches",
    "Reader",
    "Shape",
    "sizes",
]
