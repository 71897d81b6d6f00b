"""Does the input keep up?"""

from __future__ import annotations

from typing import Any

import jax

from lra_bench import data
from lra_bench.config import Run
from lra_bench.data.batches import batch_at
from lra_bench.measure.clocks import StepTimer, Stopwatch
from lra_bench.runs.execute import tell
from lra_bench.training.program import Program

BATCHES = 50  # that are timed


def supplied(run: Run, program: Program) -> dict[str, Any]:
    """How fast the run's examples are made, if they are not there yet, and batches of them put on the devices.

    Raises:
        LraError: they cannot be had.
    """
    watch = Stopwatch()
    dataset = data.prepare(run.task, lambda what, done, total: tell("data", what=what, done=done, total=total))
    made_s, laps, train = watch.seconds, StepTimer(), dataset.splits["train"]
    laps.start()
    for step in range(BATCHES):
        jax.block_until_ready(program.feed(batch_at(train, run.recipe.training.batch, run.seed, step)))
        laps.lap()
    every = sum(len(split) for split in dataset.splits.values())
    return {"input_ms_p50": laps.percentile(50), "made_per_s": every / made_s if dataset.fresh else None}
