"""The model that every mixer is put into: an embedding, layers, a pool and a head."""

from lra_bench.model.embedding import Embedding, Patches
from lra_bench.model.layers import Choice, Shape
from lra_bench.model.trunk import Asked, Model, sizes

__all__ = ["Asked", "Choice", "Embedding", "Model", "Patches", "Shape", "sizes"]
