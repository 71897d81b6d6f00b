"""The published numbers that ship with the package, by set."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from generate.writing import Folder, code, plain, table
from lra_bench import config
from lra_bench.report import published

INTRO = """\
# Published results

`results/published` holds {count:,} numbers as papers printed them, each with its source and notes.
`lra compare DIR --against SET` holds results against one of these sets; [Numbers](../numbers.md) explains the verdicts.
Numbers that this project has no model or task for are kept too, but are not compared.
"""


def write(folder: Folder) -> None:
    """Write the page of all sets."""
    numbers, protocols = _read("results"), _read("protocols")
    parts = [INTRO.format(count=len(numbers))]
    for name in dict.fromkeys(numbers["set"]):
        parts += _set(name, numbers[numbers["set"] == name], protocols[protocols["set"] == name])
    folder.put("published", "\n".join(parts))


def _read(file: str) -> pd.DataFrame:
    return pd.read_csv(config.shipped(published.FOLDER) / f"{file}.csv", dtype=str, keep_default_na=False)


def _set(name: str, numbers: pd.DataFrame, protocols: pd.DataFrame) -> Iterator[str]:
    yield f"## {name}\n"
    usable = "" if name in published.names() else " No result of this project can be held against it."
    sources = "; ".join(dict.fromkeys(plain(source) for source in numbers["source"]))
    yield f"{len(numbers)} numbers from: {sources}.{usable}\n"
    for title, rows in numbers.groupby(["table", "metric", "unit"], sort=False):
        yield f"**{plain(', '.join(filter(None, map(str, title))))}**\n"
        yield _wide(rows)
    if len(protocols):
        yield "**Protocols**\n"
        yield _protocols(protocols)


def _wide(rows: pd.DataFrame) -> str:
    """Models by tasks, as printed; what the project has is named beside."""
    tasks = list(dict.fromkeys(rows["task"]))
    lines = []
    for model, own in rows.groupby("model", sort=False):
        ours = " ".join(dict.fromkeys(" ".join(own["our_model"]).split()))
        shown = own.groupby("task", sort=False)["value"].agg(", ".join)
        lines.append([plain(model), code(ours) if ours else "", *(plain(shown.get(task, "")) for task in tasks)])
    return table(["model", "here", *map(plain, tasks)], lines)


def _protocols(rows: pd.DataFrame) -> str:
    heads = ["our_task", "config", "variant", "length", "size", "apart", "note"]
    shown = ["task", "config", "variant", "length", "layers/width/qkv/mlp/heads", "not reproduced here", "note"]
    return table(shown, [[plain(row[head]) for head in heads] for row in rows.to_dict("records")])
