"""What is known of runs' steps: planned, timed in turn, and, of a run alone in its process, the peak."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax

from lra_bench.config import Run
from lra_bench.errors import RunFailed
from lra_bench.measure.asked import DECODING, Asked
from lra_bench.measure.clocks import StepTimer
from lra_bench.measure.load import Load
from lra_bench.measure.machine import cores
from lra_bench.measure.memory import available_bytes, crowded, peak_bytes
from lra_bench.measure.peak import peak_rate
from lra_bench.runs.build import compiled, fitting, here, lacking, left_out, model_spec
from lra_bench.runs.execute import failures, tell
from lra_bench.speed.bench import Bench
from lra_bench.speed.decoding import DecodingBench
from lra_bench.speed.largest import largest_batch, of_batch
from lra_bench.speed.supply import supplied
from lra_bench.training.precision import within

COMPILED_AT_ONCE = 8
LAP_S = 10.0  # of the largest batch: a lap takes no longer, so that a model takes minutes
NOT_TIMED: dict[str, Any] = {
    "largest_laps_ms": list[float](), "largest_lap_tokens": None, "largest_other_load": None, "largest_error": None,
}  # fmt: skip


def measure(runs: Sequence[Run], asked: Asked) -> list[dict[str, Any]]:
    """Compile all, run `rounds` interleaved rounds of those that fit; what is known of each run, in order."""
    facts = _in_turn(runs, asked)
    if len(facts) == 1:  # it has the process for itself
        facts[0]["peak_bytes"] = peak_bytes(jax.local_devices()[0])
    rates = {kind: _peak_rate(*kind) for kind in map(_products, runs)} if asked.peak_rate else {}
    for run, fact in zip(runs, facts, strict=True):
        fact |= {"ceiling_flops_per_s": rates[_products(run)]} if asked.peak_rate else {}
        fact |= _room(run, asked, fact.get("peak_bytes")) if asked.room is not None else {}
    return facts


def _in_turn(runs: Sequence[Run], asked: Asked) -> list[dict[str, Any]]:
    """What is known of each run when all are timed, of which nothing is left on the device then."""
    found = list[tuple[dict[str, Any], Bench | DecodingBench | None]]()
    with ThreadPoolExecutor(compiling(jax.default_backend())) as pool:
        for one in pool.map(partial(_prepared, asked=asked), runs):
            found.append(one)
            tell("compiled", done=len(found), total=len(runs))
    load = Load()
    for done in range(asked.rounds):
        for _, bench in found:
            if bench is not None:
                bench.once()
        tell("round", done=done + 1, total=asked.rounds)
    return [fact | {"other_load": load.share} | _timed(bench) for fact, bench in found]


def compiling(platform: str) -> int:
    """Steps that are compiled at once: on a CPU one, whose compiler takes several cores, and memory for each."""
    return 1 if platform == "cpu" else min(COMPILED_AT_ONCE, cores())


def _products(run: Run) -> tuple[str, str]:
    """Of which numbers a run's products are, and how precise: as its techniques have the backbone compute."""
    backbone = model_spec(run, here()).backbone
    return backbone.dtype, backbone.matmul


def _peak_rate(dtype: str, matmul: str) -> float:
    with within(matmul):
        return peak_rate(dtype)


def _prepared(run: Run, asked: Asked) -> tuple[dict[str, Any], Bench | DecodingBench | None]:
    """What is known before it is timed, and its step, run once, if it can be."""
    tell("compile", run=run.id, length=run.task.length)
    bench: Bench | DecodingBench | None = None
    known = dict[str, Any]()
    with failures(run) as failed:
        for said in left_out(run):
            tell("note", run=run.id, said=said)
        bench, known = _decoding(run, asked) if asked.mode in DECODING else _step(run, asked, known)
        bench.once()
    result = failed.result
    problem = {"status": result.status, "error": result.error} if result else {"status": "ok", "error": None}
    there = {"batch": run.recipe.training.batch, "available_bytes": available_bytes(jax.local_devices()[0])}
    tell("prepared", run=run.id)
    asked_for = {"run": run.id, "model": run.model, "options": run.turned, "length": run.task.length}
    return asked_for | {"mode": asked.mode} | there | known | problem, bench


def _step(run: Run, asked: Asked, known: dict[str, Any]) -> tuple[Bench, dict[str, Any]]:
    """A training step or a forward pass; `known` has what is known of it where it does not fit, too."""
    program, facts = compiled(run, infer=asked.infer)
    known |= facts
    if short := lacking(known["compiled_bytes"]):
        if not asked.fitting:
            raise RunFailed(str(short), "oom")
        program, changed, _ = fitting(run, None, None, tell)
        known |= changed
    known |= supplied(run, program) if asked.fed else {}
    return Bench(run, program, infer=asked.infer), known


def _decoding(run: Run, asked: Asked) -> tuple[DecodingBench, dict[str, Any]]:
    bench = DecodingBench(run, asked.mode)
    return bench, bench.facts


def _timed(bench: Bench | DecodingBench | None) -> dict[str, Any]:
    laps = bench.laps if bench else StepTimer()
    times = {"laps_ms": list(laps.ms)} | {f"step_ms_p{q}": laps.percentile(q) for q in (10, 50, 90)}
    return times | {"dispatch_ms": bench.dispatch_ms() if bench else None}


def _room(run: Run, asked: Asked, peak: int | None) -> dict[str, Any]:
    """The largest batch, which is said before it is timed, and its times."""
    tell("largest", run=run.id, length=run.task.length)
    assert asked.room is not None
    found = NOT_TIMED | {"room_bytes": asked.room, "largest_batch": None}
    with failures(run) as failed:
        found["largest_batch"] = largest_batch(run, asked.room, asked.mode)
        tell("found_largest", run=run.id, facts=found | {"peak_bytes": peak})
        return found | _of_largest(of_batch(run, found["largest_batch"]), asked)
    return found | {"largest_error": failed.result and failed.result.error}


def _of_largest(run: Run, asked: Asked) -> dict[str, Any]:
    """Times of the step with the run's batch, or why there are none."""
    if short := _short(asked.room or 0) if run.recipe.training.batch else "not even one example fits":
        return {"largest_error": short}
    tell("timing_largest", run=run.id, batch=run.recipe.training.batch)
    bench, _ = _decoding(run, asked) if asked.mode in DECODING else _step(run, asked, {})
    tokens = bench.shorten(LAP_S) if isinstance(bench, DecodingBench) else None
    bench.once()
    load = Load()
    for done in range(asked.room_rounds):
        bench.once()
        tell("round", done=done + 1, total=asked.room_rounds)
    return {"largest_laps_ms": list(bench.laps.ms), "largest_lap_tokens": tokens, "largest_other_load": load.share}


def _short(room: int) -> str | None:
    """In words, if this device does not have so many bytes, or has them not free."""
    device = jax.local_devices()[0]
    there = available_bytes(device)
    if there is not None and room > there:
        return f"not timed: a step may need {there / 2**30:.1f} GiB here"
    return (said := crowded(room, device)) and f"not timed: {said}"
