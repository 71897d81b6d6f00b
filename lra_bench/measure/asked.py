"""What is to be measured of runs' steps; said to a process that does it."""

from __future__ import annotations

from typing import NamedTuple

# Modes of a causal model: a prompt of the run's length, or the last tokens of a text of that length, one by one.
DECODING = ("prefill", "decode")
MODES = ("train", "infer", *DECODING)  # the training step, the forward pass


class Asked(NamedTuple):
    """Of each run."""

    rounds: int  # timed runs of each step
    mode: str = "train"  # one of `MODES`
    fed: bool = False  # examples are made, if need be, and batches of them timed, too
    fitting: bool = False  # a step that does not fit is changed until it does, as in training
    peak_rate: bool = False  # the device's best rate, too
    room: int | None = None  # bytes: the largest batch that fits in them, and its times, too
    room_rounds: int = 1  # of the largest batch

    @property
    def infer(self) -> bool:
        """Is it the forward pass, in place of the training step?"""
        return self.mode == "infer"
