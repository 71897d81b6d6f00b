"""The page of estimates: every kept one, a table for each device, precision and length; before and after."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from generate.writing import Folder, code, plain, table

RESULTS = Path(__file__).parents[2] / "results"
FOLDER, CPU = RESULTS / "estimates", RESULTS / "speed" / "cpu.json"
BEFORE = FOLDER / "before.csv"
THEN = (4096, 32, "float32", "")  # what `BEFORE` is of: length, batch, dtype, effort
HEAD = """\
# Estimates

What a training step would be on an accelerator: compiled for it, weighed, and not run. {doc}`../accelerators` says how.
The model has 2 layers, width 64 and 2 heads. The shorter the texts, the more there are of them: 131,072 tokens a step.
The last column is no estimate: it was measured on {cpu}, in float32, and is there for the lengths that were.
"""
HEADS = ("model", "implementation", "launches", "GB", "GFLOP", "GiB planned", "largest batch", "estimate, ms", "binds")
MEASURED = "CPU, microseconds a token"
CHANGE = (
    "Before is the code of 2026-11-28, whose loops were those of a CPU, compiled for the same device, length and batch."
)


def write(folder: Folder) -> None:
    """One page."""
    measured = json.loads(CPU.read_text(encoding="utf-8"))
    parts = [HEAD.replace("{cpu}", plain(measured[0]["device"]))]
    for path in sorted(FOLDER.glob("*.json")):
        facts = [fact for fact in json.loads(path.read_text(encoding="utf-8")) if fact["status"] == "ok"]
        parts.append(f"## {plain(facts[0]['device'])}\n")
        if path.stem == "h100":
            parts += ["### Before and after\n", CHANGE + "\n", _change(facts)]
        for key in sorted({_key(fact) for fact in facts}):
            some = [fact for fact in facts if _key(fact) == key]
            effort = f", XLA's effort {key[3]}" if key[3] else ""
            products = f"{some[0]['precision']} products{effort}"
            parts.append(f"### {key[0]:,} tokens, batch {key[1]}, {key[2]} ({products})\n")
            parts.append(f"{_made(some)}\n")
            some.sort(key=lambda fact: fact["estimate_ms"])
            parts.append(table((*HEADS, MEASURED), ([*_line(fact), _on_cpu(fact, measured)] for fact in some)))
    folder.put("estimates", "\n".join(parts))


def _key(fact: Mapping[str, Any]) -> tuple[int, int, str, str]:
    return fact["length"], fact["batch"], fact["dtype"], fact.get("effort") or ""


def _made(facts: Iterable[Mapping[str, Any]]) -> str:
    jax = sorted({fact["versions"]["jax"] for fact in facts})
    codes = sorted({fact["code_hash"] for fact in facts})
    return f"Compiled by JAX {', '.join(jax)}, from the code of hash {', '.join(map(code, codes))}."


def _line(fact: Mapping[str, Any]) -> Sequence[str]:
    return (
        code(fact["model"]),
        code(fact["impl"]),
        f"{fact['launches']:,}",
        f"{fact['hbm_bytes'] / 1e9:.2f}",
        f"{fact['flops'] / 1e9:,.1f}",
        f"{fact['planned_bytes'] / 2**30:.2f}",
        f"{fact['largest_batch']:,}",
        f"{fact['estimate_ms']:.2f}",
        fact["binds"],
    )


def _on_cpu(fact: Mapping[str, Any], measured: Iterable[Mapping[str, Any]]) -> str:
    """What a token of the same model's step at that length took; empty where it was not measured."""
    alike = ("model", "options", "length")
    for one in measured if fact["dtype"] == "float32" else ():
        if one["status"] == "ok" and all(one[key] == fact[key] for key in alike):
            return f"{1e3 * one['step_ms_p50'] / one['batch'] / one['length']:.2f}"
    return ""


def _change(facts: Iterable[Mapping[str, Any]]) -> str:
    now = {fact["model"]: fact for fact in facts if _key(fact) == THEN}
    with BEFORE.open(encoding="utf-8") as lines:
        before = {line["model"]: line for line in csv.DictReader(lines)}
    rows = [
        (
            code(model),
            f"{int(then['launches']):,}",
            f"{now[model]['launches']:,}",
            then["h100_gib"],
            f"{now[model]['planned_bytes'] / 2**30:.2f}",
            code(now[model]["impl"]),
        )
        for model, then in before.items()
        if model in now
    ]
    return table(("model", "launches before", "now", "GiB before", "now", "implementation"), rows)
