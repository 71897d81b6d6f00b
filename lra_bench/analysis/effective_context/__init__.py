"""A trained model's effective context: by gradient, by resampling distant tokens, and by shuffling blocks.

Distances are between places of the sequence. A model that pools has no place of its own to read from, so the first two
are told of the vectors that the last layer leaves: how the one at place j depends on what stands at place i, over
|i - j| (the effective receptive field of Luo et al., arXiv 1701.04128, in one dimension and of trained models). The
third is told of the prediction: blocks of w tokens change places, so that what lies within w stays together and what
lies farther apart does not (as Khandelwal et al., arXiv 1805.04623, shuffle words beyond a distance).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from lra_bench import data
from lra_bench.analysis.effective_context.gradients import ProbedModel
from lra_bench.data.batches import in_order, take
from lra_bench.errors import ConfigError
from lra_bench.measure.context import Probe, Reach, Shuffled
from lra_bench.runs.loaded import Trained
from lra_bench.training.precision import within

T = TypeVar("T")
NOISE = 1e-5  # of the largest: what rounding makes
MOST = 0.95  # of the gradient's norm
FEW = 0.05  # of the predictions: as many as may change where the text is said to be read no farther


class Band(NamedTuple):
    """Distances from `near` to `far`, both of them in it."""

    near: int
    far: int


def bands(length: int) -> list[Band]:
    """0, 1, 2 to 3, 4 to 7, and so on, up to `length` - 1."""
    ends = [0, *(2**k for k in range(length.bit_length()) if 2**k < length), length]
    return [Band(near, end - 1) for near, end in pairwise(ends)]


def blocks(length: int) -> list[int]:
    """1, 2, 4, and so on, of which a text of `length` holds two at least."""
    return [2**k for k in range(length.bit_length()) if 2 ** (k + 1) <= length]


def probe(trained: Trained, examples: int, places: int, seed: int, count: data.Progress) -> Probe:
    """Probe a run's model on its first `examples` of test, the vectors at `places` random places of each.

    Raises:
        ConfigError: a vector stands for several symbols, or the model is an encoder-decoder.
    """
    if trained.run.task.crosses:
        raise ConfigError(
            f"{trained.run.folder}: an encoder-decoder has places of a source and of a target: not probed"
        )
    if trained.run.recipe.backbone.patch > 1:
        raise ConfigError(
            f"{trained.run.folder}: a vector stands for {trained.run.recipe.backbone.patch} symbols: not probed"
        )
    with within(trained.run.recipe.backbone.matmul):
        return _probed(trained, examples, places, seed, count)


def _probed(trained: Trained, examples: int, places: int, seed: int, count: data.Progress) -> Probe:
    batch = next(in_order(take(trained.splits["test"], examples), min(examples, len(trained.splits["test"]))))
    draw = np.random.default_rng(seed)
    probed = ProbedModel.of(trained, batch, places, draw)
    by_distance = np.zeros(probed.length)
    for place in _told(range(places), "gradients", count):
        by_distance += probed.gradients(place, draw)
    share = by_distance / max(by_distance.sum(), np.finfo(float).tiny)
    reaches = [
        Reach(*band, float(share[band.near : band.far + 1].sum()), probed.moved(*band, draw))
        for band in _told(bands(len(share)), "resampled", count)
    ]
    shuffled = [
        Shuffled(block, *probed.shuffled(block, draw)) for block in _told(blocks(len(share)), "shuffled", count)
    ]
    return Probe(
        length=trained.run.task.length,
        within=int(np.searchsorted(np.cumsum(share), MOST)),
        farthest=int(np.flatnonzero(by_distance > NOISE * by_distance.max())[-1]) if by_distance.any() else 0,
        context=next((one.block for one in shuffled if one.changed <= FEW), None),
        score=probed.score,
        reaches=reaches,
        shuffled=shuffled,
    )


def _told(things: Sequence[T], what: str, count: Callable[[str, int, int], None]) -> Iterator[T]:
    for done, thing in enumerate(things):
        count(what, done, len(things))
        yield thing
    count(what, len(things), len(things))
