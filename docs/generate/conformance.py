"""The page of conformance: what `lra verify` found for every mixer, as it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from generate.writing import Folder, plain, table

KEPT = Path(__file__).parents[2] / "results" / "conformance" / "cpu.json"
CHECKS = 10  # of every mixer; what follows are its implementations, and its cross form's own checks
HEAD = """\
# Conformance

What `lra verify --json` found on a CPU, one model at a time, kept in `results/conformance/cpu.json`: {models} models,
{passed:,} verdicts of {count:,} passed. A dash stands where the model's card claims nothing, as of models that are not
causal. The last column has how many implementations and checks of cross forms passed besides.
"""


def write(folder: Folder) -> None:
    """One page: the checks, and a line a model."""
    found = json.loads(KEPT.read_text(encoding="utf-8"))
    claimed = [one for one in found if one["claimed"]]
    models = list(dict.fromkeys(one["model"] for one in found))
    said = HEAD.format(models=len(models), passed=sum(one["passed"] for one in claimed), count=len(claimed))
    titles = {one["check"]: one["title"] for one in found if one["check"] <= CHECKS}
    listed = [f"{number}. {plain(titles[number])}" for number in sorted(titles)]
    lines = [_line(model, [one for one in found if one["model"] == model]) for model in models]
    heads = ("model", *map(str, sorted(titles)), "others")
    folder.put("conformance", "\n".join([said, *listed, "", table(heads, lines)]))


def _line(model: str, found: Iterable[Mapping[str, Any]]) -> list[str]:
    own: dict[int, list[str]] = {}
    for one in found:
        own.setdefault(one["check"], []).append(("passed" if one["passed"] else "failed") if one["claimed"] else "-")
    others = [said for number, every in own.items() if number > CHECKS for said in every if said != "-"]
    each = (own.get(number, ["-"])[0] for number in range(1, CHECKS + 1))
    return [f"[`{model}`](models/{model}.myst)", *each, f"{others.count('passed')} of {len(others)}" if others else ""]
