"""The parts of a check, in their order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lra_bench import config, mixers, sweeps
from lra_bench.config import Run
from lra_bench.gpu_check.lease import Lease, OutOfTime
from lra_bench.launch import local
from lra_bench.launch.engine import Order
from lra_bench.measure.machine import cores, versions
from lra_bench.records import store

SHORT = 64  # tokens: what carries a mixer's name and options to a process
TOGETHER = 8  # models that are timed in one process, beside the reference
AT_ONCE = 6  # processes that check mixers; each compiles on a core of its own
TOKENS = 2**17  # of a timed batch: 32 texts of 4,096
UNSHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # several processes on one GPU


@dataclass(frozen=True)
class Wanted:
    """What is to be found out."""

    task: str  # whose symbols timed steps have, and on which models are trained
    trained: tuple[str, ...] = ()  # models
    models: str = "all"  # whose steps are timed, and which are checked
    lengths: tuple[int, ...] = (4096, 1024, 16384)
    dtypes: tuple[str, ...] = ("bfloat16", "float32")
    tokens: int = TOKENS
    rounds: int = 7
    config: str = "small"
    settings: tuple[str, ...] = ()
    estimates: Path = Path("results/estimates")


def machine(lease: Lease, wanted: Wanted) -> None:
    """Versions and the device."""
    here = local.machine()
    lease.keep("machine.json", [here | {"versions": versions()}])
    lease.say(f"{here['platform']}: {here['device']}, {here['devices']}; versions {versions()}")


def conformance(lease: Lease, wanted: Wanted) -> None:
    """Every mixer's checks, and each of its implementations against its reference, several mixers at once."""
    known = {fact["run"]: fact for fact in lease.kept("conformance.json")}
    runs = sweeps.runs(sweeps.Request(wanted.models, wanted.task, "speed", length=SHORT))
    left = [run for run in runs if run.id not in known]
    lease.say(f"conformance: {len(known)} mixers are known, {len(left)} are left")

    def tell(run: Run, event: Mapping[str, Any]) -> None:
        if event["event"] == "verdicts":
            known[event["run"]] = {key: event[key] for key in ("run", "model", "verdicts")}
            lease.keep("conformance.json", list(known.values()))
            lease.say(f"conformance: {event['model']}: {_word(event['verdicts'])}")
        lease.tell(run, event)

    jobs = max(1, min(AT_ONCE, cores() // 2, len(left)))
    with _environment(UNSHARED), ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(_checked, left[job::jobs], tell) for job in range(jobs)]:
            future.result()


def _checked(runs: Sequence[Run], tell: Callable[[Run, Mapping[str, Any]], None]) -> None:
    if runs:
        local.answers("lra_bench.conformance", runs, {}, partial(tell, runs[0]))


def _word(verdicts: Sequence[Mapping[str, Any]]) -> str:
    failed = [f"{one['title']}: {one['figures']}" for one in verdicts if not one["passed"]]
    return "; ".join(failed) or "passes"


def speed(lease: Lease, wanted: Wanted) -> None:
    """Training steps of all models, a few in one process beside the reference; by length, then by dtype."""
    facts = lease.kept("speed.json")
    names = [name for name in _names(wanted) if name != mixers.reference().stem]
    for length in wanted.lengths:
        for dtype in wanted.dtypes:
            for first in range(0, len(names), TOGETHER):
                some = ",".join([mixers.reference().stem, *names[first : first + TOGETHER]])
                settings = (f"backbone.dtype={dtype}", f"training.batch={max(1, wanted.tokens // length)}")
                request = sweeps.Request(some, wanted.task, "speed", settings=settings)
                for known in sweeps.speed(sweeps.Speed(request, [length], wanted.rounds), facts, lease.tell):
                    facts = known
                    lease.keep("speed.json", facts)
                lease.say(f"speed: {len(facts)} steps are known, of L = {length:,}, {dtype}: {some}")
                if lease.left <= 0:
                    raise OutOfTime


def ratios(lease: Lease, wanted: Wanted) -> None:
    """What was measured, over what was estimated for such a device."""
    estimated = {(fact["run"], fact["device"]): fact for fact in _estimates(wanted.estimates) if fact["status"] == "ok"}
    found = []
    for fact in lease.kept("speed.json"):
        guess = estimated.get((fact["run"], fact.get("device")))
        if guess and fact["step_ms_p50"]:
            ratio = fact["step_ms_p50"] / guess["estimate_ms"]
            step = {"model": fact["model"], "length": fact["length"], "dtype": guess["dtype"]}
            found.append(step | {"ratio": ratio})
            lease.say(f"measured over estimated: {ratio:.2f} of {step}")
    lease.keep("ratios.json", found)
    if not found:
        lease.say("measured over estimated: no step is both, for this device")


def trained(lease: Lease, wanted: Wanted) -> None:
    """The task, at its full length, by a few models, each resumed where an earlier lease left it."""
    for model in wanted.trained:
        request = sweeps.Request(model, wanted.task, wanted.config, settings=wanted.settings)
        order = Order(lease.out, minutes=max(lease.left, 1) / 60)
        (result,) = sweeps.run(sweeps.runs(request), config.launcher(None), order, lambda *_: None)
        failed = f"{result.status}: {result.error}"
        said = failed if result.test_score is None else f"{100 * result.test_score:.1f} %"
        lease.say(f"trained: {model} on {wanted.task}: {said}")
        if lease.left <= 0:
            raise OutOfTime


PARTS: dict[str, Callable[[Lease, Wanted], None]] = {
    "machine": machine,
    "conformance": conformance,
    "speed": speed,
    "ratios": ratios,
    "trained": trained,
}


def _names(wanted: Wanted) -> list[str]:
    return [run.model for run in sweeps.runs(sweeps.Request(wanted.models, wanted.task, "speed", length=SHORT))]


def _estimates(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.json")):
        yield from store.read_json(path)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables for the processes that are begun meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
