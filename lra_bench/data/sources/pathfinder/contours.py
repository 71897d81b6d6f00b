"""Contours of paddles that do not meet, grown on many canvases at once.

The process is that of Linsley et al. (arXiv 1805.08315; drewlinsley/pathfinder): the next paddle's head lies on a
circle around a pivot that lies a margin beyond the last one, where the mask of what is there, a margin wider, leaves
room; the straighter, the likelier. Three heads are tried; then the contour has failed. What differs:

- the second target grows when the first is whole, and is tried five times with it; there the two grow in turn, and
  both begin again when one fails. At 64 pixels one attempt in some thousands would go well;
- a paddle is held against all but the one before it; there two that are placed one after the other may meet;
- two targets that cross in one pivot at one step, a few pictures in a thousand, are drawn again;
- a contour's mask is complete before the next contour begins; there the first target's last paddle is left out;
- there is no stop at a canvas that is nearly full: no room is found in it anyway.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from lra_bench.data.generated import Dice
from lra_bench.data.sources.pathfinder.paddles import DEGREES, FULL, Stroke, around, paddles

PADDLE_TRIES, CONTOUR_TRIES = 3, 5  # max_paddle_retrial 2, max_target_ and max_distractor_contour_retrial 4
AT_ONCE = 1 << 23  # pixels of the canvases on which first contours are tried
OVERLAP = 459  # 1.8 times a mask's fullest: two masks may touch with their soft edges, not meet
TAKEN = 77  # of a mask's 255: no distractor begins there
SURE = 1 << 30


@dataclass(frozen=True)
class Scene:
    """What is in a picture, and how it is drawn. Lengths in pixels."""

    size: int
    padding: int
    seed_distance: int  # between the first paddles of the two targets
    stroke: Stroke
    contour: int  # paddles of a target
    distractor: int  # paddles of a distractor
    distractors: int


class Grown(NamedTuple):
    """A contour of P paddles in each of N pictures. Where none could be placed, `kind` is -1."""

    at: np.ndarray  # int64 [N, P, 2]: where a paddle stands, row and column
    kind: np.ndarray  # int64 [N, P]: which of the stroke's paddles it is


class Begun(NamedTuple):
    """First paddles of N contours, and whether there was room for them."""

    at: np.ndarray  # int64 [N, 2]
    kind: np.ndarray  # int64 [N]
    room: np.ndarray  # bool [N]


Begin = Callable[[np.ndarray], Begun]
"""First paddles of a contour in the pictures [n] of a canvas."""


class Canvas:
    """The masks of N pictures, with an edge around each that is taken."""

    def __init__(self, scene: Scene, n: int) -> None:
        self.table = paddles(scene.stroke)
        self.edge = self.table.reach
        self.side = scene.size + 2 * self.edge
        self.mask, self.near = (np.full((n, self.side, self.side), FULL, np.uint8) for _ in range(2))
        for masks, wide in ((self.mask, 0), (self.near, scene.stroke.margin)):
            inner = slice(self.edge + scene.padding + wide, self.side - self.edge - scene.padding - wide)
            masks[:, inner, inner] = 0
        offset = np.arange(2 * self.edge + 1)
        self.box = (offset[:, None] * self.side + offset).ravel()

    def keep(self, rows: np.ndarray) -> None:
        """Go on with some of the pictures alone."""
        self.mask, self.near = self.mask[rows], self.near[rows]

    def patches(self, rows: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Where the templates of paddles at [n, 2] lie in the flat masks of pictures [n]: [n, W * W]."""
        return self.places(rows, at - self.edge)[:, None] + self.box

    def places(self, rows: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Where pixels [..., 2] of pictures [...] lie in the flat masks."""
        return (rows * self.side + at[..., 0] + self.edge) * self.side + at[..., 1] + self.edge

    def fits(self, rows: np.ndarray, at: np.ndarray, kind: np.ndarray) -> np.ndarray:
        """Does a paddle meet nothing that is there? bool [n]."""
        there = self.mask.reshape(-1)[self.patches(rows, at)]
        return (there.astype(np.int16) + self.table.mask[kind]).max(1) < OVERLAP

    def stamp(self, rows: np.ndarray, at: np.ndarray, kind: np.ndarray) -> None:
        """Put a paddle into each of the masks; no picture may stand in `rows` twice."""
        patches = self.patches(rows, at)
        for masks, template in ((self.mask, self.table.mask), (self.near, self.table.near)):
            flat = masks.reshape(-1)
            flat[patches] = np.maximum(flat[patches], template[kind])

    def follow(self, rows: np.ndarray, at: np.ndarray, kind: np.ndarray, dice: Dice) -> tuple[np.ndarray, np.ndarray]:
        """Where the paddle after the one at `at` [n, 2] of `kind` [n] stands, and its kind, -1 where none is found."""
        table = self.table
        pivot = at + table.onward[kind]
        heads = pivot[:, None] + table.spots
        inside = ((heads >= 0) & (heads < self.side - 2 * self.edge)).all(-1)
        room = FULL - self.near.reshape(-1)[self.places(rows[:, None], np.where(inside[..., None], heads, 0))]
        chances = np.cumsum(np.where(inside, table.weights[kind] * room, 0), axis=1)
        found = np.full(len(rows), -1)
        for thrown in dice.throw(SURE, (PADDLE_TRIES, len(rows))):
            spot = (chances > (thrown * chances[:, -1] // SURE)[:, None]).argmax(1)
            left = np.flatnonzero((found < 0) & (chances[:, -1] > 0))
            left = left[self.fits(rows[left], heads[left, spot[left]], DEGREES + spot[left])]
            found[left] = spot[left]
        return pivot + table.spots[found], np.where(found < 0, -1, DEGREES + found)


def targets(scene: Scene, n: int, dice: Dice) -> tuple[list[Grown], Canvas]:
    """The two target contours of `n` pictures, and canvases with their masks."""
    found: list[tuple[np.ndarray, ...]] = []
    while sum(len(part[0]) for part in found) < n:
        canvas = Canvas(scene, AT_ONCE // (scene.size * scene.size))
        one = placed(canvas, scene.contour, 1, partial(_in_the_middle, scene, dice), dice)
        whole = np.flatnonzero(one.kind[:, 0] >= 0)
        canvas.keep(whole)
        one = Grown(one.at[whole], one.kind[whole])
        two = placed(canvas, scene.contour, CONTOUR_TRIES, partial(_beside, scene, canvas, dice, one.at[:, 0]), dice)
        whole = np.flatnonzero((two.kind[:, 0] >= 0) & ~meeting(scene, one, two))
        found.append(tuple(part[whole] for part in (*one, *two, canvas.mask, canvas.near)))
    at, kind, other_at, other_kind, mask, near = (np.concatenate(part)[:n] for part in zip(*found, strict=True))
    canvas = Canvas(scene, 0)
    canvas.mask, canvas.near = mask, near
    return [Grown(at, kind), Grown(other_at, other_kind)], canvas


def meeting(scene: Scene, one: Grown, two: Grown) -> np.ndarray:
    """Where both contours go through one pivot at one step, bool [N]: which goes on how, nobody could tell."""
    pivot, other = (grown.at + paddles(scene.stroke).onward[grown.kind] for grown in (one, two))
    return (pivot == other).all(2).any(1)


def distractors(scene: Scene, canvas: Canvas, dice: Dice) -> list[Grown]:
    """Short contours on each canvas, one after the other; one that failed five times is left out."""
    begin = partial(_anywhere, scene, canvas, dice)
    return [placed(canvas, scene.distractor, CONTOUR_TRIES, begin, dice) for _ in range(scene.distractors)]


def placed(canvas: Canvas, paddles: int, tries: int, begin: Begin, dice: Dice) -> Grown:
    """A contour of so many paddles on each canvas; where all tries fail, the canvas is as before."""
    n = len(canvas.mask)
    at, kind = np.zeros((n, paddles, 2), np.int64), np.full((n, paddles), -1)
    rows = np.arange(n)
    for _ in range(tries):
        before = canvas.mask[rows], canvas.near[rows]
        new, done = _grown(canvas, rows, begin(rows), paddles, dice)
        at[rows[done]], kind[rows[done]] = new.at[done], new.kind[done]
        rows = rows[~done]
        canvas.mask[rows], canvas.near[rows] = (masks[~done] for masks in before)
    return Grown(at, kind)


def _grown(canvas: Canvas, rows: np.ndarray, begun: Begun, paddles: int, dice: Dice) -> tuple[Grown, np.ndarray]:
    """A contour on the canvases of `rows` [n], and on which of them it is whole, bool [n]; the others are spoilt.

    A paddle is stamped when the next one stands: the two may touch.
    """
    at, kind = np.zeros((len(rows), paddles, 2), np.int64), np.full((len(rows), paddles), -1)
    at[:, 0], kind[:, 0] = begun.at, begun.kind
    going = np.flatnonzero(begun.room)
    for i in range(1, paddles):
        at[going, i], kind[going, i] = canvas.follow(rows[going], at[going, i - 1], kind[going, i - 1], dice)
        going = going[kind[going, i] >= 0]
        canvas.stamp(rows[going], at[going, i - 1], kind[going, i - 1])
    canvas.stamp(rows[going], at[going, -1], kind[going, -1])
    done = np.zeros(len(rows), bool)
    done[going] = True
    return Grown(at, kind), done


def _in_the_middle(scene: Scene, dice: Dice, rows: np.ndarray) -> Begun:
    """First paddles within the middle, twice the seed distance away from every edge."""
    first, last, starts = _starts(scene)
    kind = dice.throw(DEGREES, (len(rows),))
    count = (last - first)[kind]
    chosen = first[kind] + dice.throw(np.maximum(count, 1), (len(rows),))
    return Begun(starts[np.minimum(chosen, len(starts) - 1)], kind, count > 0)


def _beside(scene: Scene, canvas: Canvas, dice: Dice, other: np.ndarray, rows: np.ndarray) -> Begun:
    """First paddles the seed distance away from `other` [N, 2]; there is room for them where they meet nothing."""
    kind = dice.throw(DEGREES, (len(rows),))
    at = other[rows] + around(scene.seed_distance)[dice.throw(DEGREES, (len(rows),))]
    return Begun(at, kind, canvas.fits(rows, at, kind))


@functools.lru_cache(maxsize=8)
def _starts(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a first paddle may stand [T, 2], those of one direction after the other, each from first to last."""
    taken = np.ones((scene.size, scene.size), bool)
    middle = slice(2 * scene.seed_distance, scene.size - 2 * scene.seed_distance)
    taken[middle, middle] = False
    free = [free_for(taken, core) for core in cores(scene.stroke)]
    stops = np.cumsum([len(spots) for spots in free])
    return stops - [len(spots) for spots in free], stops, np.concatenate(free)


def _anywhere(scene: Scene, canvas: Canvas, dice: Dice, rows: np.ndarray) -> Begun:
    """First paddles where there is room for them, in the direction thrown, any such place as likely as another."""
    kind, thrown = dice.throw(DEGREES, (len(rows),)), dice.throw(SURE, (len(rows),))
    at, room = np.zeros((len(rows), 2), np.int64), np.zeros(len(rows), bool)
    inner = slice(canvas.edge, canvas.side - canvas.edge)
    taken = canvas.mask[rows, inner, inner] >= TAKEN
    taken[:, [0, -1]] = taken[:, :, [0, -1]] = True
    for i, picture in enumerate(taken):
        spots = free_for(picture, cores(scene.stroke)[kind[i]])
        if len(spots):
            at[i], room[i] = spots[thrown[i] * len(spots) // SURE], True
    return Begun(at, kind, room)


@functools.lru_cache(maxsize=8)
def cores(stroke: Stroke) -> list[np.ndarray]:
    """For each of 360 directions, the pixels [m, 2] that a first paddle's mask fills, from where it stands."""
    table = paddles(stroke)
    side = 2 * table.reach + 1
    return [np.argwhere(mask.reshape(side, side) == FULL) - table.reach for mask in table.mask[:DEGREES]]


def free_for(taken: np.ndarray, core: np.ndarray) -> np.ndarray:
    """The pixels [m, 2] of a picture, bool [P, P], from which nothing that the core covers is taken."""
    size = len(taken)
    low, high = np.minimum(core.min(0), 0), np.maximum(core.max(0), 0)
    rows, columns = (slice(-low[axis], size - high[axis]) for axis in (0, 1))
    hit = np.zeros((rows.stop - rows.start, columns.stop - columns.start), bool)
    for y, x in core.tolist():
        hit |= taken[rows.start + y : rows.stop + y, columns.start + x : columns.stop + x]
    return np.argwhere(~hit) - low
