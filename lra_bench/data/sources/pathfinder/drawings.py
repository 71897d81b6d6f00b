"""Drawings of contours and markers: the pictures of Pathfinder, as gray levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lra_bench.data.generated import Dice
from lra_bench.data.sources.pathfinder.contours import Grown, Scene, distractors, targets
from lra_bench.data.sources.pathfinder.paddles import FULL, disc, paddles

WHOLE = 20  # the parts of a marker's contrast that other contrasts are counted in


@dataclass(frozen=True)
class Manner:
    """How bright what is in a picture is drawn, in twentieths of a marker's, and how large the markers are."""

    marker: int  # its radius, in sub-pixels
    target: int
    distractor: int


class Pictures(NamedTuple):
    """N pictures and all that they were made from. Target 0 and 1, then the distractors."""

    levels: np.ndarray  # uint8 [N, P, P]
    label: np.ndarray  # int64 [N]: 1 where the markers are on one contour
    markers: np.ndarray  # int64 [N, 2, 2]: on a contour's first paddle, and on a last one
    contours: list[Grown]  # of N pictures each

    def paddles_of(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the paddles of a picture are, int64 [n, 2], and of which kind, [n]."""
        at = np.concatenate([contour.at[i] for contour in self.contours])
        kind = np.concatenate([contour.kind[i] for contour in self.contours])
        return at[kind >= 0], kind[kind >= 0]


def pictures(scene: Scene, manner: Manner, n: int, dice: Dice) -> Pictures:
    """`n` pictures of either label, as likely as the other."""
    grown, canvas = targets(scene, n, dice)
    grown += distractors(scene, canvas, dice)
    label, begin = dice.throw(2, (n,)), dice.throw(2, (n,))
    end = np.where(label == 1, begin, 1 - begin)
    first = np.stack([contour.at[:, 0] for contour in grown[:2]])
    last = np.stack([contour.at[:, -1] for contour in grown[:2]])
    markers = np.stack([first[begin, np.arange(n)], last[end, np.arange(n)]], axis=1)
    return Pictures(_drawn(scene, manner, grown, markers), label, markers, grown)


def _drawn(scene: Scene, manner: Manner, contours: Sequence[Grown], markers: np.ndarray) -> np.ndarray:
    """The brightest of all that lies on a pixel, scaled so that a picture has 0 and 255: uint8 [N, P, P]."""
    ink = paddles(scene.stroke).ink
    canvas = Canvas(scene, manner.marker, len(markers))
    for index, contour in enumerate(contours):
        rows = np.flatnonzero(contour.kind[:, 0] >= 0)
        contrast = manner.target if index < 2 else manner.distractor
        for at, kind in zip(contour.at[rows].swapaxes(0, 1), contour.kind[rows].T, strict=True):
            canvas.brighten(rows, at, ink[kind].astype(np.int16) * np.int16(contrast))
    marker = disc(manner.marker).astype(np.int16).reshape(1, -1) * np.int16(WHOLE)
    for at in markers.swapaxes(0, 1):
        canvas.brighten(np.arange(len(markers)), at, marker)
    return canvas.scaled()


class Canvas:
    """What N pictures are drawn on, with room around each for what reaches beyond it."""

    def __init__(self, scene: Scene, marker: int, n: int) -> None:
        self.edge = paddles(scene.stroke).reach + len(disc(marker))
        self.side = scene.size + 2 * self.edge
        self.light = np.zeros((n, self.side, self.side), np.int16)

    def brighten(self, rows: np.ndarray, at: np.ndarray, templates: np.ndarray) -> None:
        """Templates [n or 1, W * W], their middles at pixels [n, 2] of pictures [n]."""
        reach = (int(templates.shape[1] ** 0.5) - 1) // 2
        offset = np.arange(-reach, reach + 1)
        middle = (rows * self.side + at[:, 0] + self.edge) * self.side + at[:, 1] + self.edge
        places = middle[:, None] + (offset[:, None] * self.side + offset).ravel()
        flat = self.light.reshape(-1)
        flat[places] = np.maximum(flat[places], templates)

    def scaled(self) -> np.ndarray:
        """The levels, uint8 [N, P, P]."""
        inner = slice(self.edge, self.side - self.edge)
        light = self.light[:, inner, inner].astype(np.int64)
        most = light.max((1, 2), keepdims=True)
        return ((2 * FULL * light + most) // (2 * most)).astype(np.uint8)
