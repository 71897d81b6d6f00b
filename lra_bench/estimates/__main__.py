"""`python -m lra_bench.estimates RUNS ASKED`: one event a line on stdout, as a run's process does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lra_bench import estimates
from lra_bench.config import Device, Run
from lra_bench.errors import LraError, faults_told, refused
from lra_bench.estimates import target
from lra_bench.records import store
from lra_bench.runs.execute import failures, tell


def main(arguments: list[str] | None = None) -> int:
    """Estimate the steps of a file's runs; the facts are the last event."""
    parser = argparse.ArgumentParser(prog="python -m lra_bench.estimates", description=estimates.__doc__)
    parser.add_argument("runs", type=Path, help="a JSON list of runs")
    parser.add_argument("asked", type=Path, help="the device, as JSON: the fields of `Device`")
    args = parser.parse_args(arguments)
    runs = [Run.model_validate(values) for values in store.read_json(args.runs)]
    try:
        with faults_told(args.runs):
            target.prepared()
            tell("facts", facts=_facts(runs, Device.model_validate(store.read_json(args.asked))))
    except LraError as error:
        tell("refused", **refused(error))
        return error.exit_code
    return 0


def _facts(runs: list[Run], device: Device) -> list[dict[str, Any]]:
    opened, found = target.opened(device), []
    for run in runs:
        tell("compile", run=run.id, length=run.task.length)
        facts: dict[str, Any] = {}
        with failures(run) as failed:
            facts = estimates.estimate(run, device, opened)
        result = failed.result
        problem = {"status": result.status, "error": result.error} if result else {"status": "ok", "error": None}
        found.append(facts | problem)
        tell("compiled", done=len(found), total=len(runs))
    return found


if __name__ == "__main__":
    sys.exit(main())
