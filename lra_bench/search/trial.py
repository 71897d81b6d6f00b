"""One trial of a search: a run trained and evaluated on val. Test is never read.

`python -m lra_bench.search.trial RUNS ASKED`: a JSON list of one run, and {"folder": where its checkpoints lie,
"costs": what else is asked of it, each with the most that it may be, or null}. It speaks as a run's process does; the
last event holds the facts. Stopped, it has saved, and the same command resumes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lra_bench.config import Run
from lra_bench.errors import LraError, RunFailed, faults_told
from lra_bench.records import store
from lra_bench.runs.build import examples, fitting
from lra_bench.runs.execute import INTERRUPTED, Stop
from lra_bench.runs.inference_cost import forward_ms
from lra_bench.training import checkpoint
from lra_bench.training.precision import same_bits_as_asked
from lra_bench.training.trainer import Interrupted, Tell, Trainer


def tried(
    run: Run, folder: Path, costs: Mapping[str, float | None], tell: Tell, stopping: Callable[[int], bool]
) -> dict[str, Any]:
    """Train; the best score on val, its step, and the model's costs. One that costs more than it may is not trained.

    Raises:
        Interrupted: `stopping` said so; the state is saved.
        LraError: the data cannot be had, or an option does not fit.
    """
    splits, _ = examples(run, tell)
    train, val = splits["train"], splits["val"]
    tell("compile", model=run.model, length=run.task.length)
    program, facts, _ = fitting(run, train, None, tell)
    found = {key: facts[key] for key in ("params", "compiled_bytes")}
    if "inference_ms_p50" in costs:
        found["inference_ms_p50"] = forward_ms(program, program.init.params, program.init.rest, [val])
    if any(most is not None and found[cost] > most for cost, most in costs.items()):
        return found
    with checkpoint.opened(folder, fresh=False) as checkpoints:
        trainer = Trainer(program, [train], [val], run.recipe.training, run.seed, checkpoints, tell, stopping)
        _, _, progress = trainer()
    return {"val_score": progress.val_score, "best_step": progress.best_step, **found}


def main() -> int:
    """Run the trial of a file."""
    runs, asked = (store.read_json(Path(file)) for file in sys.argv[1:])
    stop = Stop()
    try:
        run = Run.model_validate(runs[0])
        same_bits_as_asked([run.recipe])
        with faults_told(asked["folder"]):
            facts = tried(run, Path(asked["folder"]), asked["costs"], stop.tell, stop)
    except Interrupted:
        return INTERRUPTED
    except RunFailed as error:
        facts = {"error": f"{error.status}: {error}"}
    except LraError as error:
        stop.refuse(error)
        return error.exit_code
    stop.tell("facts", facts=[facts])
    return 0


if __name__ == "__main__":
    sys.exit(main())
