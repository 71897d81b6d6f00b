"""Where labels stand, so that none covers another: of lines beside their ends, of points around them.

All is in pixels, y from the top; nothing is drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lra_bench.report.drawing.style import SIZE

GAP = SIZE + 2.0  # from one label's middle to the next one's
LETTER = 0.62 * SIZE  # width of a letter, on the wide side
DISTANCES = (0.0, 6.0, 14.0, 24.0, 36.0, 50.0, 66.0, 84.0)  # of a label from its point's rim


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places at least `gap` apart in low..high, in the order of those that are wanted, and as near to them as can be.

    Least squares, by pooling neighbors that would violate the order (Ayer et al., 1955). What is wanted alike keeps its
    order here.

    Raises:
        ValueError: there is no room for so many.
    """
    last = len(wanted) - 1
    if last * gap > high - low:
        raise ValueError(f"{len(wanted)} labels of {gap:g} pixels do not stand in {high - low:g}")
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    pools: list[list[float]] = []
    for at, i in enumerate(order):
        pools.append([wanted[i] - at * gap])
        while len(pools) > 1 and _mean(pools[-2]) >= _mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    shifted = [_mean(pool) for pool in pools for _ in pool]
    inside = [min(max(place, low), high - last * gap) + at * gap for at, place in enumerate(shifted)]
    return [inside[order.index(i)] for i in range(len(wanted))]


def _mean(pool: Sequence[float]) -> float:
    return sum(pool) / len(pool)


class Box(NamedTuple):
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def covers(self, other: Box) -> bool:
        """Have the two a point in common, inside?"""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def within(self, other: Box) -> bool:
        """Is it wholly inside?"""
        across = other.left <= self.left and self.right <= other.right
        return across and other.top <= self.top and self.bottom <= other.bottom


@dataclass(frozen=True)
class Point:
    """A disk with a name."""

    x: float
    y: float
    radius: float
    name: str
    must: bool = False  # its label is drawn, over unnamed disks if there is no other place

    @property
    def box(self) -> Box:
        """Around the disk."""
        return Box(self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius)


@dataclass(frozen=True)
class Label:
    """A name, its place, and whether it stands so far away that a line should lead to it."""

    name: str
    x: float  # of its beginning, middle or end, as `align` is left, center or right
    y: float  # of its middle
    align: str
    far: bool

    @property
    def box(self) -> Box:
        """What the text covers, at most."""
        width = len(self.name) * LETTER
        left = self.x - width * {"left": 0.0, "center": 0.5, "right": 1.0}[self.align]
        return Box(left, self.y - GAP / 2, left + width, self.y + GAP / 2)


def around(points: Sequence[Point], width: float, height: float) -> list[Label | None]:
    """Each point's label at the nearest free place, those of the first points first; None where there is no room.

    No label covers another, or leaves the panel. One that need not stand covers no point.
    """
    panel, disks = Box(0, 0, width, height), [point.box for point in points]
    placed: list[Label | None] = []
    for point in points:
        taken = [label.box for label in placed if label]
        candidates = [(label, label.box) for label in _candidates(point) if point.must or not label.far]
        free = [(label, box) for label, box in candidates if box.within(panel) and not any(map(box.covers, taken))]
        clear = next((label for label, box in free if not any(map(box.covers, disks))), None)
        placed.append(free[0][0] if clear is None and point.must and free else clear)
    return placed


def _candidates(point: Point) -> Iterator[Label]:
    """Places around the point, the near ones first: right, left, above, below, then between these."""
    for distance in DISTANCES:
        reach = point.radius + 2 + distance
        for angle in (0, 180, 90, 270, 45, 135, 315, 225):
            across, up = round(math.cos(math.radians(angle)), 3), round(math.sin(math.radians(angle)), 3)
            align = "left" if across > 0 else "right" if across < 0 else "center"
            y = point.y - up * (reach + (GAP / 2 if across == 0 else 0))
            yield Label(point.name, point.x + across * reach, y, align, distance > DISTANCES[1])
