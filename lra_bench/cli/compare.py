"""`lra compare`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lra_bench.cli import app, options
from lra_bench.cli.written import Format, tell

if TYPE_CHECKING:
    from lra_bench.report.tables import Report


class Metric(StrEnum):
    accuracy = "accuracy"
    speed = "speed"
    memory = "memory"
    all = "all"


class By(StrEnum):
    model = "model"
    family = "family"


@app.command()
def compare(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Results folders, single runs, or exported tables; results/ if none.", metavar="DIR|RUN|TABLE"
        ),
    ] = None,
    metric: Annotated[Metric, typer.Option("--metric", help="What to compare.")] = Metric.all,
    by: Annotated[By, typer.Option("--by", help="A line a model, or a family.")] = By.model,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", help="Hold test accuracies against published ones: paper, or another set.", metavar="SET"
        ),
    ] = None,
    format: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.table,
    pairs: Annotated[bool, typer.Option("--pairs", help="Every two models: the difference, and p after Holm.")] = False,
    ledger: Annotated[bool, typer.Option("--ledger", help="What each was given: parameters, FLOPs, steps.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it there, not on the screen.", metavar="FILE")
    ] = None,
) -> None:
    """A table of models x tasks from what is in the results folders; two folders are shown side by side.

    Example: lra compare results --metric accuracy --format md
    """
    from lra_bench import store
    from lra_bench.errors import ConfigError
    from lra_bench.report import ledger as given
    from lra_bench.report import ranks, tables

    if sum([pairs, ledger, against is not None]) > 1:
        raise ConfigError("--pairs, --ledger and --against: one of them")
    asked = paths or [options.RESULTS]
    frame = store.frame(asked)
    if against is not None:
        tell(_against(frame, against, metric, by), format, out)
        return
    if pairs or ledger:
        tell(ranks.report(frame) if pairs else given.report(frame), format, out)
        return
    two = len(asked) == 2 and all(path.is_dir() for path in asked)
    summed, notes = ranks.beside(frame, tables.summary(frame, by.value, apart=two), by.value)
    metrics = tables.TABLES if metric is Metric.all else (metric.value,)
    if two:
        made = [tables.differences(summed, one, by.value) for one in metrics]
    else:
        made = [tables.compare(summed, one, by.value, notes) for one in metrics]
    tell(tables.Report(summed, tuple(made)), format, out)


def _against(frame: Any, name: str, metric: Metric, by: By) -> Report:
    from lra_bench.errors import ConfigError
    from lra_bench.report import against, published, tables

    if metric in (Metric.speed, Metric.memory) or by is not By.model:
        raise ConfigError("--against: holds accuracies of models against published ones; no --metric, no --by with it")
    theirs = published.load(name)
    lines = against.against(frame, theirs)
    return tables.Report(against.numbers(lines), (against.table(lines, theirs),))
