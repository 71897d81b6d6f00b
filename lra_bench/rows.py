"""The schema of a result: one flat row a cell, scalars only, the unit in the name.

Missing is None, never 0. A failed cell is a row too.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "oom", "nan", "timeout", "error"]


@dataclass(frozen=True)
class Row:
    """One cell's result."""

    # what was asked
    cell: str  # the cell's id: a hash of all that decides the numbers
    kind: str  # "run": trained and tested; "speed": timed only
    status: Status
    error: str | None  # one line that says why status is not ok
    model: str  # the mixer's name
    knobs: str  # the mechanism's knobs, resolved, as canonical JSON
    family: str  # after Tay et al.'s survey
    task: str
    task_version: int
    variant: str | None  # the task's named variant, if one was used
    recipe: str
    seed: int
    length: int  # L: tokens a stream is padded to
    limit: int | None  # at most so many examples of each split were used
    batch: int  # examples an optimiser step, over all devices and accumulation
    accumulate: int  # slices of a batch that were run one after another
    steps: int  # optimiser steps asked for
    dtype: str  # of the computation; parameters are float32
    # what ran
    impl: str | None  # the implementation of the mechanism that was compiled
    params: int | None
    params_ratio: float | None  # to the same trunk with softmax attention
    # how good
    val_accuracy: float | None  # at the chosen step, every example counted
    test_accuracy: float | None  # read once, after the choice
    val_n: int | None
    test_n: int | None
    floor: float | None  # share of the majority class of test
    val_floor: float | None  # share of the majority class of val
    best_step: int | None  # the step whose parameters were chosen
    train_loss: float | None  # mean over the last evaluation interval
    # how fast: synchronised; compilation, evaluation and checkpoints apart
    step_ms_p10: float | None
    step_ms_p50: float | None
    step_ms_p90: float | None
    input_ms_p50: float | None  # host time to make a batch, overlapped with the step
    examples_per_s: float | None
    compile_s: float | None
    eval_s: float | None  # one pass over val
    # how large
    planned_bytes: int | None  # arguments + temporaries + outputs - aliased, as the compiler planned
    peak_bytes: int | None  # measured: device peak, or the process's peak resident set on CPU
    flops_per_step: float | None  # counted from the jaxpr, recomputation included
    # where
    platform: str | None  # cpu, gpu or tpu
    device: str | None
    devices: int | None
    jax: str | None
    versions: str | None  # of the libraries that matter, as JSON
    commit: str | None
    dirty: bool | None
    malloc: str | None  # allocator settings of the process, which move CPU timings
    data_hash: str | None  # of the examples of all splits
    started: str  # ISO 8601, UTC
    wall_s: float | None  # over all sessions of the run
    resumed: int | None  # times the run was taken up again

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))
