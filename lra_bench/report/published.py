"""What papers printed, shipped with its sources: `results/published/`.

results.csv    a number a line as printed, with its source and notes; `set` is the name it goes by here; `our_model` and
               `our_task` say what it is of in this project, empty where nothing here is like it; `seeds`, whose
               mean it is, empty where that is not stated
protocols.csv  how a set's numbers on a task came about, a line for each recipe here that follows it
models.csv     what a published model had, where a model here can be set otherwise, or cannot be set alike
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass

from lra_bench import config
from lra_bench.errors import ConfigError, nearest
from lra_bench.metrics import ACCURACY, TOKEN_ACCURACY

FOLDER = "results/published"
FAILED = "FAIL"  # printed where a model stayed at chance
HELD = (ACCURACY.name, TOKEN_ACCURACY.name)  # the metrics of numbers that results here are held against


@dataclass(frozen=True)
class Reported:
    """One printed accuracy that has a counterpart here."""

    source: str  # paper and table
    name: str  # of the model, as printed
    models: tuple[str, ...]  # ours
    task: str  # ours
    said: str  # the number as printed, %, or `FAILED`
    seeds: int | None = None  # whose mean it is; None: not stated
    metric: str = ACCURACY.name  # one of `HELD`

    @property
    def score(self) -> float | None:
        """The share of test that was right; None where the model stayed at chance."""
        return None if self.said == FAILED else float(self.said) / 100


@dataclass(frozen=True)
class Protocol:
    """How a set's numbers on one task came about, as far as its source says; empty or None: not stated."""

    task: str
    recipe: str  # ours that follows it; empty: none does
    variant: str | None  # of our task; None: the task as it stands
    length: int | None  # tokens
    size: str  # layers/width/qkv/mlp/heads
    apart: str  # what no variant here has, in words
    note: str  # what stays unlike under the recipe, in words


@dataclass(frozen=True)
class Mechanism:
    """What a published model had on a task under a protocol; an empty task or recipe stands for all."""

    name: str  # as printed
    task: str
    recipe: str
    size: str  # layers/width/qkv/mlp/heads, where not the protocol's; empty: the protocol's
    options: Mapping[str, str]  # of ours
    apart: str  # what no option here makes alike, in words

    def holds(self, name: str, task: str, recipe: str) -> bool:
        """Is it about this published model on this task under this recipe?"""
        return self.name == name and self.task in ("", task) and self.recipe in ("", recipe)


@dataclass(frozen=True)
class Published:
    """One set of published results."""

    name: str
    results: tuple[Reported, ...]
    protocols: tuple[Protocol, ...]
    mechanisms: tuple[Mechanism, ...]


def names() -> tuple[str, ...]:
    """The sets that hold an accuracy of a model and a task that are here, in the order of the file."""
    return tuple(dict.fromkeys(line["set"] for line in _lines("results") if _is_ours(line)))


def load(name: str) -> Published:
    """The set called `name`.

    Raises:
        ConfigError: there is none; the nearest is named.
    """
    if name not in names():
        raise ConfigError(f"published results '{name}': not found; {nearest(name, names())}")
    return Published(
        name,
        tuple(_result(line) for line in _lines("results") if line["set"] == name and _is_ours(line)),
        tuple(_protocol(line) for line in _lines("protocols") if line["set"] == name),
        tuple(_mechanism(line) for line in _lines("models") if line["set"] == name),
    )


def _lines(file: str) -> list[dict[str, str]]:
    with (config.shipped(FOLDER) / f"{file}.csv").open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def _is_ours(line: Mapping[str, str]) -> bool:
    return bool(line["metric"] in HELD and line["our_model"] and line["our_task"])


def _result(line: Mapping[str, str]) -> Reported:
    return Reported(
        source=f"{line['source']}, {line['table']}",
        name=line["model"],
        models=tuple(line["our_model"].split()),
        task=line["our_task"],
        said=line["value"],
        seeds=int(line["seeds"]) if line["seeds"] else None,
        metric=line["metric"],
    )


def _protocol(line: Mapping[str, str]) -> Protocol:
    return Protocol(
        task=line["our_task"],
        recipe=line["config"],
        variant=line["variant"] or None,
        length=int(line["length"]) if line["length"] else None,
        size=line["size"],
        apart=line["apart"],
        note=line["note"],
    )


def _mechanism(line: Mapping[str, str]) -> Mechanism:
    options = dict(pair.split("=", 1) for pair in line["options"].split())
    return Mechanism(line["model"], line["our_task"], line["config"], line["size"], options, line["apart"])
