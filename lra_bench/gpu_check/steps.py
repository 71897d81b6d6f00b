"""Training steps, a few models in one process beside the reference."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from lra_bench import sweeps
from lra_bench.config import Run
from lra_bench.errors import RunFailed
from lra_bench.gpu_check.facts import OK, Facts
from lra_bench.gpu_check.lease import Lease
from lra_bench.gpu_check.ratios import ratios
from lra_bench.gpu_check.wanted import Wanted
from lra_bench.measure.asked import Asked

STEPS = "speed.json"
MODE = "train"
TOGETHER = 8  # models that are timed in one process
RATE = "ceiling_flops_per_s"


def timed(lease: Lease, wanted: Wanted, lengths: Sequence[int]) -> None:
    """Steps of all models at some lengths, by length, then by dtype; and how far from their estimates they are."""
    steps = Steps(lease, wanted)
    try:
        for length, dtype in product(lengths, wanted.dtypes):
            steps.time(wanted.steps(length, dtype))
    finally:
        ratios(lease, steps.facts, wanted.estimates)


def stood(lease: Lease, wanted: Wanted) -> None:
    """Have the kept steps say what the checks have found of their mixers meanwhile."""
    facts = Facts(lease, STEPS)
    for length, dtype in product(wanted.lengths, wanted.dtypes):
        for run in wanted.steps(length, dtype):
            if fact := facts.get(run):
                fact |= sweeps.stood(run, fact)
    facts.save()


class Steps:
    """Those that are known, and how more of them are."""

    def __init__(self, lease: Lease, wanted: Wanted) -> None:
        self.facts = Facts(lease, STEPS)
        self._lease, self._rounds = lease, wanted.rounds

    def time(self, runs: Sequence[Run]) -> None:
        """Runs of one length and dtype, of which the first is the reference; those whose model has failed before each
        in a process of its own, after the others."""
        left = self.facts.left(runs)
        if left:
            sweeps.same_place(list(self.facts), self._lease.here)
        shaky = {_model(fact) for fact in self.facts if fact["status"] == "error"}
        firm = [run for run in left if _model({"model": run.model, "options": run.turned}) not in shaky]
        for first in range(0, len(firm), TOGETHER):
            self._together(runs[0], firm[first : first + TOGETHER])
        for run in left:
            if run not in firm:
                self._together(runs[0], [run])

    def _together(self, reference: Run, some: Sequence[Run]) -> None:
        """Where the process dies, those that it can have died of are each in one of its own, and the others in one."""
        self._lease.go_on()
        suspects = set[str]()

        def tell(run: Run, event: Mapping[str, Any]) -> None:
            if event["event"] == "compile":
                suspects.add(event["run"])
            elif event["event"] == "prepared":
                suspects.discard(event["run"])
            self._lease.tell(run, event)

        failed = (fact := self.facts.get(reference)) is not None and fact["status"] != OK
        rate = self._rate(some[0].recipe.backbone.dtype)
        asked = Asked(self._rounds, MODE, peak_rate=rate is None)
        try:
            found = sweeps.timed(None if failed else reference, some, asked, tell, self._lease.terms())
        except RunFailed as error:
            self._lease.go_on()
            if len(some) == 1:
                self.facts.keep(some, [sweeps.lost(some[0], MODE, str(error))])
                return
            self._lease.say(f"speed: {error}; {', '.join(run.model for run in some)}: tried apart")
            for part in _apart(some, suspects, reference):
                self._together(reference, part)
        else:
            self.facts.keep(some, [fact | ({} if rate is None else {RATE: rate}) for fact in found])
            self._lease.say(f"speed: L = {some[0].task.length:,}, {some[0].recipe.backbone.dtype}: {_words(found)}")

    def _rate(self, dtype: str) -> float | None:
        """The device's best rate, if it was measured."""
        return next((fact[RATE] for fact in self.facts if fact.get("dtype") == dtype and fact.get(RATE)), None)


def _apart(some: Sequence[Run], suspects: set[str], reference: Run) -> Iterator[list[Run]]:
    """The reference first, as it is timed beside the others, then the innocent, then each suspect; all are where none
    is."""
    alone = [run for run in some if run.id in suspects] or list(some)
    yield from ([run] for run in alone if run.id == reference.id)
    if innocent := [run for run in some if run not in alone]:
        yield innocent
    yield from ([run] for run in alone if run.id != reference.id)


def _model(fact: Mapping[str, Any]) -> str:
    return json.dumps([fact["model"], fact["options"]], sort_keys=True)


def _words(found: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{fact['model']} {fact['step_ms_p50']:.3g} ms" for fact in found if fact["step_ms_p50"])
