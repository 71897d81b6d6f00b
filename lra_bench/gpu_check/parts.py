"""The parts of a check, in their order."""

from __future__ import annotations

from collections.abc import Callable

from lra_bench import config, sweeps
from lra_bench.gpu_check import steps, verdicts
from lra_bench.gpu_check.lease import Lease, OutOfTime
from lra_bench.gpu_check.wanted import Wanted
from lra_bench.launch import grace
from lra_bench.launch.engine import Order
from lra_bench.measure.machine import versions


def machine(lease: Lease, wanted: Wanted) -> None:
    """Versions and the device."""
    here = lease.here
    lease.keep("machine.json", [here | {"versions": versions()}])
    lease.say(f"{here['platform']}: {here['device']}, {here['devices']}; versions {versions()}")


def speed(lease: Lease, wanted: Wanted) -> None:
    """Training steps of all models at the first length, over their estimates."""
    steps.timed(lease, wanted, wanted.lengths[:1])


def kernels(lease: Lease, wanted: Wanted) -> None:
    """Each implementation of each mixer against its reference."""
    verdicts.held(lease, wanted, "kernels")


def lengths(lease: Lease, wanted: Wanted) -> None:
    """Training steps at the other lengths."""
    steps.timed(lease, wanted, wanted.lengths[1:])


def checks(lease: Lease, wanted: Wanted) -> None:
    """Every mixer's conformance checks, which the kept steps then tell of."""
    try:
        verdicts.held(lease, wanted, "checks")
    finally:
        steps.stood(lease, wanted)


def trained(lease: Lease, wanted: Wanted) -> None:
    """The task, at its full length, by a few models, each resumed where an earlier lease left it."""
    for run in wanted.training():
        minutes = (lease.left - grace.SECONDS) / 60  # one that does not save in that time is killed
        if minutes <= 0:
            raise OutOfTime
        (result,) = sweeps.run([run], config.launcher(None), Order(lease.out, minutes=minutes), lease.hear)
        failed = f"{result.status}: {result.error}"
        said = failed if result.test_score is None else f"{100 * result.test_score:.1f} %"
        lease.say(f"trained: {run.model} on {wanted.task}: {said}")


PARTS: dict[str, Callable[[Lease, Wanted], None]] = {
    "machine": machine,
    "speed": speed,
    "kernels": kernels,
    "lengths": lengths,
    "checks": checks,
    "trained": trained,
}
