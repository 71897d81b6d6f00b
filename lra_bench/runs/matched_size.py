"""The width at which a model is as large as full attention's, or its step as expensive.

`python -m lra_bench.runs.matched_size RUNS ASKED`: JSON lists of runs, and {"what": "params" or "flops"}.

What is solved for is `backbone.mlp`, the hidden width of the MLP block and of the head: a mixer's own width and heads
stay as its paper has them, and a step of 1 in it changes either count by little. As Long Range Arena's rule has it
(section 3.1: parameters within 10%), but by construction.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from lra_bench.config import Run
from lra_bench.errors import LraError
from lra_bench.model import ModelSpec
from lra_bench.records import store
from lra_bench.runs.build import model_spec, reference_spec, work
from lra_bench.runs.execute import tell
from lra_bench.training.program import parameters

What = Literal["params", "flops"]
UNITS = {"params": "parameters", "flops": "FLOPs a step"}


def matched(run: Run, what: What) -> dict[str, Any]:
    """The `mlp` at which the run's model comes nearest; None, and why, where even the least is too much.

    Raises:
        ConfigError: an option does not fit.
    """
    target = _count(run, what, run.recipe.backbone.mlp, reference_spec)
    least = _count(run, what, 1)
    if least > target:
        why = f"{UNITS[what]} with an MLP one wide: {least:,.0f}; of full attention: {target:,.0f}"
        return {"mlp": None, "why": why}
    return {"mlp": nearest(lambda width: _count(run, what, width), target), "why": None}


def nearest(count: Callable[[int], float], target: float) -> int:
    """The n from 1 up at which a function that grows comes nearest to the target; the smaller of two as near.

    In few calls, where it grows by about as much with each step: guesses lie on the line through the ends.
    """
    low: tuple[int, float] = (1, count(1))
    high, before = None, low
    if low[1] >= target:
        return 1
    guess = 2
    while high is None or high[0] - low[0] > 1:
        here = (guess, count(guess))
        if here[1] >= target:
            high = here
        else:
            before, low = low, here
        end = high or before
        slope = (end[1] - low[1]) / (end[0] - low[0])
        line = low[0] + round((target - low[1]) / slope) if slope > 0 else 2 * low[0]
        guess = min(max(line, low[0] + 1), high[0] - 1) if high else max(line, low[0] + 1)
    return low[0] if target - low[1] <= high[1] - target else high[0]


def _count(run: Run, what: What, mlp: int, spec: Callable[[Run], ModelSpec] = model_spec) -> float:
    backbone = run.recipe.backbone.model_copy(update={"mlp": mlp})
    sized = run.model_copy(update={"recipe": run.recipe.model_copy(update={"backbone": backbone})})
    return parameters(spec(sized)) if what == "params" else work(sized, spec(sized))


def main() -> int:
    """Match the runs of a file; the facts are the last event."""
    runs, asked = (store.read_json(Path(file)) for file in sys.argv[1:])
    facts = []
    try:
        for values in runs:
            facts.append(matched(Run.model_validate(values), asked["what"]))
            tell("matched", done=len(facts), total=len(runs))
    except LraError as error:
        tell("refused", message=str(error), exit_code=error.exit_code)
        return error.exit_code
    tell("facts", facts=facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
