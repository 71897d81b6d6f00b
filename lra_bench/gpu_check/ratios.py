"""Measured steps over what was estimated for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lra_bench import config
from lra_bench.config import Device
from lra_bench.estimates.roofline import alike, elsewhere
from lra_bench.gpu_check.lease import Lease
from lra_bench.records import store

RATIOS = "ratios.json"


def ratios(lease: Lease, steps: Iterable[Mapping[str, Any]], folder: Path) -> None:
    """Of each step that is both, in the folder of estimates; `compiled_for` names the device that the estimated one was
    compiled for."""
    known, timed = lease.kept(RATIOS), [step for step in steps if step["step_ms_p50"]]
    guesses = _estimates(folder, timed[0]["device"]) if timed else {}
    found = [_ratio(step, guesses[step["run"]]) for step in timed if step["run"] in guesses]
    for one in found:
        if one not in known:
            lease.say(f"measured over estimated: {one['ratio']:.2f} of {_words(one)}")
    lease.keep(RATIOS, found)
    if not found:
        lease.say("measured over estimated: no step is both, for this device")


def _ratio(step: Mapping[str, Any], guess: Mapping[str, Any]) -> dict[str, Any]:
    ratio = step["step_ms_p50"] / guess["estimate_ms"]
    names = {"model": step["model"], "length": step["length"], "dtype": guess["dtype"]}
    return names | {"ratio": ratio, "binds": guess["binds"], "compiled_for": guess["compiled_for"]}


def _words(one: Mapping[str, Any]) -> str:
    return f"{one['model']}, L = {one['length']:,}, {one['dtype']}; compiled for {one['compiled_for']}"


def _estimates(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """By run, those for a device of that name; where there is none, one for a device that runs the same compiled step,
    at this one's rates."""
    devices = {one.name: one for one in map(config.device, config.found("configs/devices"))}
    every = [fact for path in sorted(folder.glob("*.json")) for fact in store.read_json(path) if fact["status"] == "ok"]
    moved = [_moved(fact, devices.get(fact["device"]), devices.get(name)) for fact in every if fact["device"] != name]
    own = [fact | {"compiled_for": name} for fact in every if fact["device"] == name]
    return {fact["run"]: fact for fact in (*filter(None, moved), *own)}


def _moved(fact: Mapping[str, Any], its: Device | None, here: Device | None) -> dict[str, Any] | None:
    if its is None or here is None or not alike(its, here):
        return None
    return elsewhere(fact, here) | {"compiled_for": its.name}
