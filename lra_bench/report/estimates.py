"""Estimates of steps on devices that are not there: one table of a line a model, tables over lengths, growth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lra_bench import statistics
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.report import scaling
from lra_bench.report.summary.digits import three_digits
from lra_bench.report.tables import Comparison, Report

NEEDED = ("model", "options", "length", "status", "device", "batch")
Fact = Mapping[str, Any]
GROWING = {"launches": "launches", "hbm_bytes": "bytes", "flops": "FLOPs", "planned_bytes": "memory"}
PARTS = {"compute": "compute", "bandwidth": "bandwidth", "launches": "launch"}
FEW = 3  # lengths: no exponent of fewer has an interval


def are(facts: Any) -> bool:
    """Is it a file's list of estimates?"""
    return isinstance(facts, list) and bool(facts) and isinstance(facts[0], dict) and "binds" in _keys(facts)


def _keys(facts: Sequence[Fact]) -> set[str]:
    return {key for fact in facts for key in fact}


def read(path: Path) -> list[dict[str, Any]]:
    """Estimates, as `lra speed --device` kept them.

    Raises:
        ConfigError: the file holds something else.
    """
    facts = store.read_json(path)
    lacks = next((key for fact in facts for key in NEEDED if key not in fact), None) if are(facts) else "binds"
    if lacks:
        raise ConfigError(f"{path}: not the estimates of lra speed --device: they lack '{lacks}'")
    return list(facts)


def planned(facts: Sequence[Fact]) -> Report:
    """A line for each run."""
    lines = [{"model": scaling.label(fact, facts), **_line(fact)} for fact in facts]
    cells = pd.DataFrame(lines).dropna(axis=1, how="all").fillna("").set_index("model")
    return Report(numbers(facts), (Comparison("estimates", _title(facts), cells, tuple(_notes(facts))),))


def report(facts: Sequence[Fact]) -> Report:
    """A table for each quantity, a line a model and a column a length."""
    shown: dict[str, Callable[[Fact], str]] = {
        "estimated training step, ms, and what binds": lambda f: f"{three_digits(f['estimate_ms'])} {f['binds']}",
        "kernels launched": lambda f: f"{f['launches']:,}",
        "traffic with the device's memory, GB": lambda f: f"{f['hbm_bytes'] / 1e9:,.2f}",
        "GFLOP": lambda f: f"{f['flops'] / 1e9:,.1f}",
        "memory planned, GiB": lambda f: f"{f['planned_bytes'] / 2**30:,.2f}",
        "largest batch that fits, examples": lambda f: f"{f['largest_batch']:,}",
        "implementation": lambda f: str(f["impl"]),
    }
    made: list[Comparison] = []
    for settings in _by_setting(facts):
        for title, cell in shown.items():
            notes = tuple(_notes(settings)) if not made or title == next(iter(shown)) else ()
            made.append(Comparison("estimates", f"{title}: {_title(settings)}", _over_lengths(settings, cell), notes))
    return Report(numbers(facts), tuple(made))


def numbers(facts: Sequence[Fact]) -> pd.DataFrame:
    """The facts, a line each, with loops in words."""
    lines = []
    for fact in facts:
        loops = ", ".join(f"{loop['trips']} x {loop['launches']}" for loop in fact.get("loops") or [])
        lines.append({k: v for k, v in fact.items() if k not in ("options", "versions")} | {"loops": loops})
    return pd.DataFrame(lines)


def growth(facts: Sequence[Fact]) -> Report:
    """The exponents of L of launches, and of an example's bytes, FLOPs and memory, a line a model."""
    lines = []
    for settings in _by_setting(facts):
        for name in dict.fromkeys(scaling.label(fact, facts) for fact in settings):
            its = sorted(
                (f for f in settings if scaling.label(f, facts) == name and f["status"] == "ok"),
                key=lambda f: f["length"],
            )
            if len(its) > 1:
                first = {"model": name, "dtype": its[0]["dtype"], "effort": its[0].get("effort"), "lengths": len(its)}
                lines.append(first | _exponents(its))
    if not lines:
        raise ConfigError("estimates: no model has two lengths, which an exponent needs")
    frame = pd.DataFrame(lines)
    said = [
        {key: line[key] for key in ("model", "dtype", "effort") if line[key]}
        | {word: _exponent(line, key) for key, word in GROWING.items()}
        for line in lines
    ]
    notes = (
        "the exponent of L of an example's share, and of a step's launches, by least squares on logarithms",
        "estimates of a compiled step; nothing was run",
    )
    cells = pd.DataFrame(said).set_index("model").fillna("")
    return Report(frame, (Comparison("estimates", f"growth with L: {facts[0]['device']}", cells, notes),))


def _exponents(facts: Sequence[Fact]) -> dict[str, float]:
    """Of one model's facts by rising length; where batches shrink as lengths grow, of an example's share."""
    lengths, found = np.array([fact["length"] for fact in facts], float), dict[str, float]()
    batches = np.array([fact["batch"] for fact in facts], float)
    for key in GROWING:
        share = 1 if key == "launches" else batches
        over = statistics.power(lengths, np.array([fact[key] for fact in facts], float) / share)
        found |= {f"{key}_exponent": over.value, f"{key}_low": over.low, f"{key}_high": over.high}
    return found


def _exponent(line: Mapping[str, Any], key: str) -> str:
    value, low, high = (line[f"{key}_{part}"] for part in ("exponent", "low", "high"))
    between = f" ({low:.2f}-{high:.2f})" if line["lengths"] >= FEW and low == low else ""
    return f"{value:.2f}{between}"


def _by_setting(facts: Sequence[Fact]) -> Iterator[list[Fact]]:
    """The facts of each number format, and of each effort of the compiler."""
    settings = [tuple(fact.get(key) for key in ("dtype", "matmul", "effort")) for fact in facts]
    for key in dict.fromkeys(settings):
        yield [fact for fact, its in zip(facts, settings, strict=True) if its == key]


def _over_lengths(facts: Sequence[Fact], said: Callable[[Fact], str]) -> pd.DataFrame:
    lines = []
    for fact in facts:
        word = said(fact) if fact["status"] == "ok" else fact["status"]
        lines.append({"model": scaling.label(fact, facts), "length": fact["length"], "said": word})
    cells = pd.DataFrame(lines).pivot_table(index="model", columns="length", values="said", aggfunc="first").fillna("")
    cells = cells.reindex(list(dict.fromkeys(line["model"] for line in lines))).rename(columns="L = {:,}".format)
    cells.columns.name = None
    return cells


def _line(fact: Fact) -> dict[str, Any]:
    first = {"task": fact["task"], "L": fact["length"], "batch": fact["batch"], "impl": fact.get("impl")}
    if fact["status"] != "ok":
        return first | {"compiles": f"no: {fact['error']}"[:80]}
    return first | {
        "compiles": "yes",
        "GiB": f"{fact['planned_bytes'] / 2**30:.2f}",
        "fits": "yes" if fact["fits"] else "no",
        "largest batch": f"{fact['largest_batch']:,}",
        "launches": f"{fact['launches']:,}",
        "GB": f"{fact['hbm_bytes'] / 1e9:.2f}",
        "GFLOP": f"{fact['flops'] / 1e9:,.1f}",
        **{f"{part}, ms": three_digits(fact[f"{key}_ms"]) for part, key in PARTS.items()},
        "estimate, ms": three_digits(fact["estimate_ms"]),
        "binds": fact["binds"],
        "measured, ms": three_digits(fact["measured_ms"]) if fact.get("measured_ms") else None,
    }


def _title(facts: Sequence[Fact]) -> str:
    first = facts[0]
    precisions = "/".join(dict.fromkeys(str(f["precision"]) for f in facts if f.get("precision")))
    effort = f", XLA's effort {first['effort']}" if first.get("effort") else ""
    return f"estimates for {first['device']}, {first['dtype']}, products in {precisions or '?'}{effort}"


def _notes(facts: Sequence[Fact]) -> Iterator[str]:
    batches = ", ".join(str(batch) for batch in sorted({fact["batch"] for fact in facts}))
    yield f"estimates, not measurements: each training step was compiled for the device, and not run; batch {batches}"
    yield (
        "estimate: the longest of arithmetic at the device's dense rate (compute), traffic with its memory (bandwidth) "
        "and launches of kernels (launches)"
    )
    yield "GB: every kernel reads its operands and writes its result once; what a cache keeps between two is not known"
    yield "largest batch: if all that a step needs beside the model's state grows with the batch"
    failed = [fact["model"] for fact in facts if fact["status"] != "ok"]
    if failed:
        yield f"not compiled: {', '.join(dict.fromkeys(failed))}"
