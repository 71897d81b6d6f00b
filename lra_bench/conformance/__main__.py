"""`python -m lra_bench.conformance RUNS ASKED`: the checks of runs' mixers on this process's device, an event each."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lra_bench import mixers
from lra_bench.config import Run
from lra_bench.conformance import checks, crossing, record
from lra_bench.errors import LraError, faults_told, refused
from lra_bench.measure.machine import where
from lra_bench.records import store


def main(arguments: list[str] | None = None) -> int:
    """Hold the mixers of a file's runs to the checks, one after another; `verdicts` is an event for each."""
    parser = argparse.ArgumentParser(prog="python -m lra_bench.conformance", description=__doc__)
    parser.add_argument("runs", type=Path, help="a JSON list of runs")
    parser.add_argument("asked", type=Path, help="nothing, as JSON")
    args = parser.parse_args(arguments)
    runs = [Run.model_validate(values) for values in store.read_json(args.runs)]
    try:
        with faults_told(args.runs):
            platform = str(where()["platform"])
            for run in runs:
                _tell("verdicts", run=run.id, model=run.model, verdicts=_verdicts(run, platform))
            _tell("facts", facts=[{"run": run.id} for run in runs])
    except LraError as error:
        _tell("refused", **refused(error))
        return error.exit_code
    return 0


def _verdicts(run: Run, platform: str) -> list[dict[str, object]]:
    model_card = mixers.model_card(run.model)
    found = [verdict._asdict() for verdict in checks.verify(model_card, run.options)]
    record.keep(model_card.path, run.options, platform, found)
    beside = [*crossing.verify(model_card, run.options), *checks.agree(model_card, run.options, platform)]
    return found + [verdict._asdict() for verdict in beside]


def _tell(event: str, **facts: object) -> None:
    print(store.as_json({"event": event, **facts}, None), flush=True)


if __name__ == "__main__":
    sys.exit(main())
