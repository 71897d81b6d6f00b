"""What is held against what it ought to be, several mixers at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lra_bench.config import Run
from lra_bench.errors import RunFailed
from lra_bench.gpu_check.facts import OK, Facts
from lra_bench.gpu_check.lease import Lease, environment
from lra_bench.gpu_check.wanted import Wanted
from lra_bench.launch import local
from lra_bench.measure.machine import cores

AT_ONCE = 6  # processes; each compiles on a core of its own
UNSHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # several processes on one GPU


def held(lease: Lease, wanted: Wanted, of: str) -> None:
    """Verdicts `of` what `lra_bench.conformance` is asked, for every mixer."""
    facts = Facts(lease, f"{of}.json")
    left = facts.left(wanted.mixers())
    lease.say(f"{of}: {facts.known} mixers are known, {len(left)} are left")
    jobs = max(1, min(AT_ONCE, cores() // 2, len(left)))
    with environment(UNSHARED), ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(_answered, lease, facts, left[job::jobs], of) for job in range(jobs)]:
            future.result()


def _answered(lease: Lease, facts: Facts, runs: Sequence[Run], of: str) -> None:
    """One process after another; where it dies, of the mixer that it was at, the next one goes on with the others."""
    left = list(runs)

    def tell(event: Mapping[str, Any]) -> None:
        if event["event"] == "verdicts":
            facts.keep([left.pop(0)], [{"verdicts": event["verdicts"], "status": OK}])
            lease.say(f"{of}: {event['model']}: {_words(event['verdicts'])}")
        lease.tell(runs[0], event)

    while left:
        lease.go_on()
        try:
            local.answers("lra_bench.conformance", left.copy(), {"of": of}, tell, terms=lease.terms())
        except RunFailed as error:
            lease.go_on()
            if left:
                facts.keep([left.pop(0)], [{"verdicts": [], "status": "error", "error": str(error)}])


def _words(verdicts: Sequence[Mapping[str, Any]]) -> str:
    failed = [f"{one['title']}: {one['figures']}" for one in verdicts if not one["passed"]]
    return "; ".join(failed) or "passes"
