"""The largest batch that fits, by what the compiler plans; nothing is run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from typing import NamedTuple

import jax

from lra_bench.config import Run
from lra_bench.measure.asked import DECODING
from lra_bench.runs.build import compiled
from lra_bench.speed.decoding import planned_bytes

NEAR = 64  # the answer is within 1 of so many of the largest


def largest_batch(run: Run, room: int, mode: str) -> int:
    """Examples a step of a mode, as many as `room` bytes hold, to 1.6 %; 0 if not even one a device does.

    Raises:
        ConfigError: an option does not fit.
    """
    unit = 1 if mode in DECODING else run.recipe.training.accumulate * jax.local_device_count()

    def planned(count: int) -> int:
        larger = of_batch(run, unit * count)
        if mode in DECODING:
            return planned_bytes(larger, mode)
        return int(compiled(larger, infer=mode == "infer")[1]["compiled_bytes"])

    return unit * largest(planned, room)


def of_batch(run: Run, count: int) -> Run:
    """The run with so many examples a step."""
    training = run.recipe.training.model_copy(update={"batch": count})
    return run.model_copy(update={"recipe": run.recipe.model_copy(update={"training": training})})


class Point(NamedTuple):
    """A number of examples and what it is planned to need."""

    n: int
    bytes: int


def largest(planned: Callable[[int], int], room: int) -> int:
    """The largest n from 0 up with planned(n) <= room, of a function that grows, in few calls: each is expensive.

    Guesses lie on the line through the last two points, which is exact where each example takes as much; every other
    one halves what is left, for where it does not.
    """
    before, low, high, guess = Point(0, 0), Point(0, 0), None, 1
    for halve in cycle((False, True)):
        here = Point(guess, planned(guess))
        if here.bytes <= room:
            before, low = low, here
        else:
            high = here
        if high is None:
            guess = max(_on_line(before, low, room), low.n + 1)
        elif high.n - low.n <= max(1, low.n // NEAR):
            break
        else:
            line = (low.n + high.n) // 2 if halve else _on_line(low, high, room)
            guess = min(max(line, low.n + 1), high.n - 1)
    return low.n


def _on_line(a: Point, b: Point, room: int) -> int:
    slope = (b.bytes - a.bytes) / (b.n - a.n)
    return a.n + int((room - a.bytes) / slope) if slope > 0 else 2 * b.n
