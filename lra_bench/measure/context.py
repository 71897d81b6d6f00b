"""The effective context of a trained model, as it was measured."""

from __future__ import annotations

from typing import NamedTuple


class Reach(NamedTuple):
    """What the vectors owe to one band of distances."""

    near: int
    far: int
    gradient: float  # share of the norm of d(vector at j)/d(embeddings), over all i
    moved: float  # how far the vector moves, of its own length, when what stands there is resampled


class Shuffled(NamedTuple):
    """What becomes of the predictions when blocks of `block` tokens change places."""

    block: int
    changed: float  # share of the predictions that are others than before
    score: float  # on these examples


class Probe(NamedTuple):
    """The effective context of one run's model."""

    length: int
    within: int  # the distance within which 95% of the gradient lies
    farthest: int  # the largest distance from which anything comes, but for rounding
    context: int | None  # the least block whose shuffling changes 5% of the predictions at most; None if none
    score: float  # on these examples, as they are
    reaches: list[Reach]
    shuffled: list[Shuffled]
