"""What the steps of a request's runs would be on a device that is not here, compiled and weighed, never run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lra_bench.config import Device, Run
from lra_bench.errors import ConfigError
from lra_bench.launch import local
from lra_bench.records import fingerprint, store

MEASURED = ("speed", "gpu", "tpu")  # folders of the results' that hold steps
Tell = Callable[[Run, dict[str, Any]], None]
Facts = list[dict[str, Any]]


def estimated(every: Sequence[Run], device: Device, known: Facts, tell: Tell) -> Iterator[Facts]:
    """All that is known, `known` first, as soon as there is more of it. What is known is not compiled again; where it
    is of other code, `tell` is told.

    Raises:
        ConfigError: what is known is of another device; nothing here compiles for the device; a run refused.
        Stopped: Ctrl-C.
    """
    if other := next((fact["device"] for fact in known if fact["device"] != device.name), None):
        raise ConfigError(
            f"what is kept was estimated for {other}, not {device.name}: another --out, or --overwrite of all of it"
        )
    facts = list(known)
    if facts:
        yield facts
    for run in every:
        kept = next((fact for fact in facts if (fact["run"], fact.get("effort")) == (run.id, effort())), None)
        if kept is not None:
            if other := fingerprint.apart(fingerprint.of(run), kept):
                tell(run, {"event": "note", "said": f"kept, and compiled from other code: {other}"})
            continue
        (found,) = local.answers("lra_bench.estimates", [run], device.model_dump(), partial(tell, run))
        facts = [*facts, _asked(run, device) | found]
        yield facts


def effort() -> str | None:
    """How hard XLA tries, if JAX_OPTIMIZATION_LEVEL says so: `O1` compiles a step sooner, into one that moves more."""
    said = os.environ.get("JAX_OPTIMIZATION_LEVEL")
    return None if said == "UNKNOWN" else said


def _asked(run: Run, device: Device) -> dict[str, Any]:
    backbone = run.recipe.backbone
    return {
        "run": run.id,
        "model": run.model,
        "options": run.turned,
        "task": run.task_name,
        "config": run.config_name,
        "length": run.task.length,
        "batch": run.recipe.training.batch,
        "dtype": backbone.dtype,
        "matmul": backbone.matmul,
        "device": device.name,
        "device_bytes": device.bytes,
        "effort": effort(),
        **fingerprint.of(run),
    }


def beside(facts: Facts, results: Path) -> Facts:
    """With what was measured of the same runs on such a device, as `measured_ms`: in `results/speed` by `lra speed`, in
    `results/gpu` or `results/tpu` by `make gpu-check`."""
    measured: dict[tuple[str, str], float] = {}
    for path in sorted(path for name in MEASURED for path in (results / name).glob("*.json")):
        every = store.read_json(path)
        for fact in every if isinstance(every, list) else []:
            if fact.get("device") and fact.get("step_ms_p50") and fact.get("mode", "train") == "train":
                measured[fact["run"], fact["device"]] = fact["step_ms_p50"]
    return [fact | {"measured_ms": measured.get((fact["run"], fact["device"]))} for fact in facts]
