"""`python -m lra_bench.conformance RUNS ASKED`: runs' mixers are held to what is asked, on this process's device."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from lra_bench import mixers
from lra_bench.config import Run
from lra_bench.conformance import checks, crossing, record
from lra_bench.conformance.verdict import Verdict
from lra_bench.errors import LraError, faults_told, refused
from lra_bench.measure.machine import where
from lra_bench.records import store


def main(arguments: list[str] | None = None) -> int:
    """Hold the mixers of a file's runs to what is asked, one after another; `verdicts` is an event for each run."""
    parser = argparse.ArgumentParser(prog="python -m lra_bench.conformance", description=__doc__)
    parser.add_argument("runs", type=Path, help="a JSON list of runs")
    parser.add_argument("asked", type=Path, help="as JSON, `of`: checks or kernels")
    args = parser.parse_args(arguments)
    runs = [Run.model_validate(values) for values in store.read_json(args.runs)]
    try:
        with faults_told(args.runs):
            platform, hold = str(where()["platform"]), HELD[store.read_json(args.asked)["of"]]
            for run in runs:
                found = []
                for verdict in hold(run, platform):
                    _tell("verdict", run=run.id, title=verdict.title)
                    found.append(verdict._asdict())
                _tell("verdicts", run=run.id, model=run.model, verdicts=found)
            _tell("facts", facts=[{"run": run.id} for run in runs])
    except LraError as error:
        _tell("refused", **refused(error))
        return error.exit_code
    return 0


def _checks(run: Run, platform: str) -> Iterator[Verdict]:
    """The ten, which are kept as the mixer's standing, and those of its cross form."""
    for one in run.mixer_specs:
        model_card, ten = mixers.read(one.file), list[Verdict]()
        for verdict in checks.verify(model_card, one.options):
            ten.append(verdict)
            yield verdict
        record.keep(model_card.path, one.options, platform, [verdict._asdict() for verdict in ten])
        yield from crossing.verify(model_card, one.options)


def _kernels(run: Run, platform: str) -> Iterator[Verdict]:
    """Each implementation against its reference."""
    for one in run.mixer_specs:
        yield from checks.agree(mixers.read(one.file), one.options, platform)


HELD: dict[str, Callable[[Run, str], Iterator[Verdict]]] = {"checks": _checks, "kernels": _kernels}


def _tell(event: str, **facts: object) -> None:
    print(store.as_json({"event": event, **facts}, None), flush=True)


if __name__ == "__main__":
    sys.exit(main())
