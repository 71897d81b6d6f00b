"""A model as it answers, after its training or before: its size to keep, and its time for a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from lra_bench.data.batches import in_order
from lra_bench.measure.clocks import StepTimer
from lra_bench.measure.memory import model_bytes
from lra_bench.shapes import Split
from lra_bench.techniques.parameters import flat, is_matrix
from lra_bench.training.optimizer import Params
from lra_bench.training.program import Program

FORWARDS = 20  # forward passes that are timed


def facts(program: Program, params: Params, rest: Params, val: Sequence[Split]) -> dict[str, Any]:
    """The result's columns on it; `val` has a split for each task that the program is for."""
    matrices = [np.asarray(W[...]) for path, W in flat(program.weights(params)).items() if is_matrix(path, W)]
    return {
        "inference_ms_p50": forward_ms(program, params, rest, val),
        "model_bytes": model_bytes(jax.tree.leaves(program.kept(params))),
        "sparsity": float(sum((W == 0).sum() for W in matrices) / sum(W.size for W in matrices)),
    }


def forward_ms(program: Program, params: Params, rest: Params, val: Sequence[Split]) -> float | None:
    """The median time of a forward pass of a batch, of each task if there are several."""
    asks = [_ask(part, *program.own(i, params, rest), val[i]) for i, part in enumerate(program.parts)]
    laps = StepTimer()
    laps.start()
    for _ in range(FORWARDS + 1):  # the first is not counted
        jax.block_until_ready([ask() for ask in asks])
        laps.lap()
    return laps.percentile(50)


def _ask(program: Program, params: Params, rest: Params, val: Split) -> Callable[[], jax.Array]:
    """The forward pass of val's first batch."""
    batch = program.show(next(in_order(val, program.size, program.shown_rows)))
    return partial(program.forward, program.kept(params), rest, *batch)
