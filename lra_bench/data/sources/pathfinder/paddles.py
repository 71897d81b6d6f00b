"""Paddles and discs as they are drawn: templates for every direction, made once, of integers alone.

The strokes of a Pathfinder picture are drawn at twice its size and halved with a Lanczos filter, as the generator of
Linsley et al. (arXiv 1805.08315; drewlinsley/pathfinder) does; heads are rounded down and pivots up as there, so that
contours that go up and left are shorter. What differs from it: a thick stroke is all that lies within half its
thickness, where it takes what its drawing library gives; and what sine and cosine add to an integer does not count.

Sine, cosine and arc tangent enter only through numbers that are then rounded to 16 bits or fewer, none of them so near
the middle between two that an error of 1 in 10^9 would tell: the tables are the same on every machine as exact as that,
and all else is arithmetic with integers.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

ANTIALIAS = 2  # sub-pixels along a pixel
LOBES = 3  # of the Lanczos filter
FULL = 255
DEGREES = 360
FINE = 1 << 14  # a degree's sine and cosine as integers, and the filter's weights
CERTAIN = 1 << 16  # the weight of going straight on


class Stroke(NamedTuple):
    """What decides the look of a paddle and how one follows another."""

    length: int  # pixels
    thickness: int  # sub-pixels
    margin: int  # pixels, between a paddle's end and the pivot of the next
    continuity: float  # a turn is less than 90 degrees / continuity


@dataclass(frozen=True)
class Paddles:
    """All paddles there can be: 360 first ones of a contour, then K that follow another; M = 360 + K.

    A first one stands at its tail, one that follows at its head: there a marker may come.
    """

    stroke: Stroke
    reach: int  # pixels from where it stands to the edge of its template, of which W = 2 reach + 1
    spots: np.ndarray  # int64 [K, 2]: from a pivot to the heads around it, rows and columns
    onward: np.ndarray  # int64 [M, 2]: from where it stands to the pivot of the next
    weights: np.ndarray  # int64 [M, K]: how likely each spot is to follow, CERTAIN: straight on
    ink: np.ndarray  # uint8 [M, W * W]
    mask: np.ndarray  # uint8 [M, W * W]: its ink, a margin wider
    near: np.ndarray  # uint8 [M, W * W]: its mask, a margin wider
    drawn: np.ndarray  # int64 [M, 2]: from where it stands to its other end, sub-pixels


@functools.lru_cache(maxsize=8)
def paddles(stroke: Stroke) -> Paddles:
    """The tables of a stroke."""
    length, thickness, margin, _ = stroke
    reach = length + -(-thickness // ANTIALIAS) + 2 * margin
    spots = circle(length + margin)
    turned = np.concatenate([compass(), spots])
    strokes = np.concatenate([_toward(compass(), ANTIALIAS * length), _toward(-spots, ANTIALIAS * length)])
    heads = _toward(compass(), length)
    behind = heads + _toward(-compass(), length + margin)
    onward = np.concatenate([
        behind + _toward(compass(), length + 2 * margin), _toward(spots, length + 2 * margin) - spots,
    ])  # fmt: skip
    looks = [_template(end, stroke, reach) for end in strokes]
    ink, mask, near = (np.stack(look).reshape(len(looks), -1) for look in zip(*looks, strict=True))
    return Paddles(stroke, reach, spots, onward, _weights(turned, spots, stroke.continuity), ink, mask, near, strokes)


@functools.lru_cache(maxsize=8)
def disc(radius: int) -> np.ndarray:
    """The template of a marker, uint8 [W, W], of a radius in sub-pixels; its center is the first of a pixel's four."""
    reach = -(-radius // ANTIALIAS) + LOBES
    offset = np.arange(ANTIALIAS * (2 * reach + 1)) - ANTIALIAS * reach
    inside = offset[:, None] ** 2 + offset**2 <= radius**2
    return _halved(np.where(inside, FULL, 0), 2 * reach + 1)


def compass() -> np.ndarray:
    """The directions of 360 degrees, int64 [360, 2], rows and columns, each about FINE long."""
    angles = [math.radians(degree) for degree in range(DEGREES)]
    return np.array([[round(FINE * math.sin(a)), round(FINE * math.cos(a))] for a in angles], np.int64)


def circle(radius: int) -> np.ndarray:
    """The pixels on a circle around 0, int64 [K, 2], one for each pixel of its length, none twice."""
    angles = [step / radius for step in range(math.ceil(2 * math.pi * radius))]
    return np.unique([[math.floor(radius * math.sin(a)), math.floor(radius * math.cos(a))] for a in angles], axis=0)


def around(distance: int) -> np.ndarray:
    """The pixels so far from 0 at each of 360 degrees, int64 [360, 2]."""
    return _toward(compass(), distance)


def _toward(vectors: np.ndarray, distance: int) -> np.ndarray:
    """`distance` along each vector [N, 2], rounded up; what floats add to an integer does not count."""
    length = np.hypot(vectors[:, :1], vectors[:, 1:])
    return np.ceil(np.round(distance * vectors / length, 6)).astype(np.int64)


def _weights(turned: np.ndarray, spots: np.ndarray, continuity: float) -> np.ndarray:
    """cos^2 of `continuity` times the angle from each direction [M, 2] to each spot [K, 2]; 0 from 90 degrees on."""
    cross = turned[:, None, 0] * spots[:, 1] - turned[:, None, 1] * spots[:, 0]
    dot = turned @ spots.T
    angle = np.minimum(np.abs(np.arctan2(cross, dot)) * continuity, np.pi / 2)
    return np.rint(CERTAIN * np.cos(angle) ** 2).astype(np.int64)


def _template(end: np.ndarray, stroke: Stroke, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ink, mask and dilated mask [W, W] of the stroke from 0 to `end`, in sub-pixels."""
    inner = reach - stroke.margin
    line = _line(end, stroke.thickness, ANTIALIAS * inner)
    mask = _halved(_dilated(line, ANTIALIAS * stroke.margin), 2 * inner + 1)
    ink, mask = (np.pad(image, stroke.margin) for image in (_halved(line, 2 * inner + 1), mask))
    return ink, mask, _dilated(mask, stroke.margin)


def _line(end: np.ndarray, thickness: int, reach: int) -> np.ndarray:
    """The sub-pixels, 0 or 255, of a stroke from 0 to `end`, [2 reach + 1, 2 reach + 1]."""
    offset = np.arange(-reach, reach + 1)
    cross = 2 * (offset[:, None] * end[1] - offset * end[0])
    along = offset[:, None] * end[0] + offset * end[1]
    whole = int(end @ end)
    if thickness == 1:
        within = (-abs(end).max() < cross) & (cross <= abs(end).max())
    else:
        within = cross**2 <= whole * thickness**2
    return np.where(within & (along >= 0) & (along <= whole), FULL, 0)


def _dilated(image: np.ndarray, radius: int) -> np.ndarray:
    """The highest value within `radius` of each pixel."""
    size = len(image)
    padded = np.pad(image, radius)
    found = np.zeros_like(image)
    for y in range(-radius, radius + 1):
        for x in range(-radius, radius + 1):
            if x * x + y * y <= radius * radius:
                np.maximum(found, padded[radius + y :, radius + x :][:size, :size], out=found)
    return found


def _halved(image: np.ndarray, size: int) -> np.ndarray:
    """An image [P, P] of 0 to 255 as uint8 [size, size], filtered along columns, then rows."""
    weights = _lanczos(len(image), size)
    rows = np.clip((image @ weights.T + FINE // 2) // FINE, 0, FULL)
    return np.clip((weights @ rows + FINE // 2) // FINE, 0, FULL).astype(np.uint8)


@functools.lru_cache(maxsize=32)
def _lanczos(many: int, few: int) -> np.ndarray:
    """The weights, int64 [few, many], in units of 1 / FINE, that make few pixels of many."""
    scale = many / few
    distance = (np.arange(many) + 0.5 - (np.arange(few)[:, None] + 0.5) * scale) / scale
    weights = np.where(abs(distance) < LOBES, np.sinc(distance) * np.sinc(distance / LOBES), 0)
    return np.rint(FINE * weights / weights.sum(1, keepdims=True)).astype(np.int64)
