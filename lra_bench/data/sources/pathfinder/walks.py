"""Walks along contours: from one marker over paddle after paddle, to see whether the other lies at the end."""

from __future__ import annotations

import numpy as np

from lra_bench.data.sources.pathfinder.contours import Scene
from lra_bench.data.sources.pathfinder.paddles import DEGREES, paddles
from lra_bench.errors import DataError


def solve(scene: Scene, at: np.ndarray, kind: np.ndarray, markers: np.ndarray) -> int:
    """The label of a picture, from where its paddles [n, 2], of kinds [n], in any order, and its markers [2, 2] are.

    Which paddle belongs to which contour is not told: the next is one whose pivot lies where the last one points, and
    that turns no more than is allowed. If several do, all are followed, for as many steps as a target has.

    Raises:
        DataError: not exactly one marker lies where a contour begins, or the other lies on no paddle.
    """
    begins = (at[:, None] == markers).all(2) & (kind < DEGREES)[:, None]
    if begins.any(0).sum() != 1:
        raise DataError(f"{begins.any(0).sum()} of two markers lie where a contour begins, not one")
    other = markers[np.flatnonzero(~begins.any(0))[0]]
    ends = (at == other).all(1)
    if not ends.any():
        raise DataError("a marker lies on no paddle")
    follows = successors(scene, at, kind)
    there = begins.any(1)
    for _ in range(1, scene.contour):
        there = follows[there].any(0)
    return int((there & ends).any())


def successors(scene: Scene, at: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Which of the paddles may follow which, bool [n, n]."""
    table = paddles(scene.stroke)
    spot = np.maximum(kind - DEGREES, 0)
    points, pivots = at + table.onward[kind], at - table.spots[spot]
    return (points[:, None] == pivots).all(2) & (table.weights[kind][:, spot] > 0) & (kind >= DEGREES)
