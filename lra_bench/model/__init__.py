"""The model that every mixer is put into: an embedding, layers, a pool and a head."""

from lra_bench.model.backbone import Asked, Model, sizes
from lra_bench.model.embedding import Embedding, Patches
from lra_bench.model.layers import Choice, Shape

__all__ = ["Asked", "Choice", "Embedding", "Model", "Patches", "Shape", "sizes"]
