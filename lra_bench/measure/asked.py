"""What is to be measured of runs' steps; said to a process that does it."""

from __future__ import annotations

from typing import NamedTuple


class Asked(NamedTuple):
    """Of each run."""

    rounds: int  # timed runs of each step
    infer: bool = False  # the forward pass, in place of the training step
    fed: bool = False  # examples are made, if need be, and batches of them timed, too
    fitting: bool = False  # a step that does not fit is changed until it does, as in training
    peak_rate: bool = False  # the device's best rate, too
    room: int | None = None  # bytes: the largest batch that fits in them, too
