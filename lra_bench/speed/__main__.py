"""`python -m lra_bench.speed RUNS`: one event a line on stdout, as a run's process does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lra_bench import speed
from lra_bench.config import Run
from lra_bench.errors import LraError, faults_told, refused
from lra_bench.measure.asked import Asked
from lra_bench.records import store
from lra_bench.runs.execute import tell
from lra_bench.training.precision import same_bits_as_asked


def main(arguments: list[str] | None = None) -> int:
    """Measure the runs of a file; the facts are the last event."""
    parser = argparse.ArgumentParser(prog="python -m lra_bench.speed", description=speed.__doc__)
    parser.add_argument("runs", type=Path, help="a JSON list of runs")
    parser.add_argument("asked", type=Path, help="what is to be measured, as JSON: the fields of `Asked`")
    args = parser.parse_args(arguments)
    runs = [Run.model_validate(values) for values in store.read_json(args.runs)]
    try:
        same_bits_as_asked(run.recipe for run in runs)
        with faults_told(args.runs):
            facts = speed.measure(runs, Asked(**store.read_json(args.asked)))
        tell("facts", facts=facts)
    except LraError as error:
        tell("refused", **refused(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
