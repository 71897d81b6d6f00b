"""Time and memory over length: tables, fitted exponents, ratios to full attention in the same run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lra_bench import store
from lra_bench.errors import ConfigError

NEEDED = ("model", "knobs", "length", "status", "step_ms_p50", "planned_bytes")


@dataclass(frozen=True)
class Scaling:
    """One quantity: a line a model, a column a length."""

    title: str
    rows: list[dict[str, Any]]


def read(path: Path) -> list[dict[str, Any]]:
    """What `speed` measured, as it was kept.

    Raises:
        ConfigError: the file holds something else.
    """
    facts = store.read_json(path)
    known = isinstance(facts, list) and facts and all(isinstance(fact, dict) for fact in facts)
    lacks = next((key for fact in facts for key in NEEDED if key not in fact), None) if known else NEEDED[0]
    if lacks:
        raise ConfigError(f"{path}: not the numbers of a bench: they lack '{lacks}'")
    return facts


def tables(facts: Sequence[Mapping[str, Any]]) -> list[Scaling]:
    """Time, planned memory, and both as ratios to the first model's, from what `speed` measured."""
    frame = pd.DataFrame(facts)
    frame["model"] = [_label(fact, facts) for fact in facts]
    order = list(dict.fromkeys(frame["model"]))
    ms = frame.pivot(index="model", columns="length", values="step_ms_p50").reindex(order).astype(float)
    mib = frame.pivot(index="model", columns="length", values="planned_bytes").reindex(order).astype(float) / 2**20
    failed = frame.set_index(["model", "length"])["status"]
    first = order[0]
    return [
        Scaling("training step, ms, median", _rows(ms, failed, "{:,.0f}", exponents(ms))),
        Scaling("planned memory, MiB", _rows(mib, failed, "{:,.0f}", exponents(mib))),
        Scaling(f"times faster than {first}", _rows(ms.loc[first] / ms, failed, "{:.2f}")),
        Scaling(f"share of {first}'s planned memory", _rows(mib / mib.loc[first], failed, "{:.2f}")),
    ]


def exponents(values: pd.DataFrame) -> pd.Series:
    """For each line, p of the least-squares fit of value = c L^p, on logarithms, over the lengths that are there."""

    def fitted(line: pd.Series) -> float:
        there = line.dropna()
        if len(there) < 2:
            return float("nan")
        return float(np.polyfit(np.log(there.index.to_numpy(float)), np.log(there.to_numpy(float)), 1)[0])

    return values.apply(fitted, axis=1)


def _rows(
    values: pd.DataFrame, failed: pd.Series, number: str, powers: pd.Series | None = None
) -> list[dict[str, Any]]:
    rows = []
    for index, (model, line) in enumerate(values.iterrows()):
        row: dict[str, Any] = {"model": model}
        for length, value in line.items():
            row[f"L = {length:,}"] = failed.get((model, length), "") if pd.isna(value) else number.format(value)
        if powers is not None:
            power = powers.iloc[index]
            row["exponent of L"] = "" if pd.isna(power) else f"{power:.2f}"
        rows.append(row)
    return rows


def _label(fact: Mapping[str, Any], facts: Sequence[Mapping[str, Any]]) -> str:
    """The model's name; with the knobs that differ, where it was measured with several settings."""
    settings = {json.dumps(f["knobs"], sort_keys=True): f["knobs"] for f in facts if f["model"] == fact["model"]}
    differing = [k for k in fact["knobs"] if len({str(s.get(k)) for s in settings.values()}) > 1]
    turned = ",".join(f"{k}={fact['knobs'][k]}" for k in differing)
    return f"{fact['model']}[{turned}]" if turned else str(fact["model"])
