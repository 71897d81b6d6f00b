"""`lra compare`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lra_bench.cli import app, options

if TYPE_CHECKING:
    from lra_bench.report.tables import Comparison


class Metric(StrEnum):
    accuracy = "accuracy"
    speed = "speed"
    memory = "memory"
    all = "all"


class By(StrEnum):
    model = "model"
    family = "family"


class Format(StrEnum):
    table = "table"
    md = "md"
    csv = "csv"
    json = "json"
    latex = "latex"


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
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it there, not on the screen.", metavar="FILE")
    ] = None,
) -> None:
    """A table of models x tasks from what is in the results folders; two folders are shown side by side.

    Example: lra compare results --metric accuracy --format md
    """
    from lra_bench import store
    from lra_bench.report import tables

    asked = paths or [options.RESULTS]
    if against is not None:
        _against(asked, against, metric, by, format, out)
        return
    two = len(asked) == 2 and all(path.is_dir() for path in asked)
    summed = tables.summary(store.frame(asked), by.value, apart=two)
    if format in (Format.csv, Format.json):
        text = tables.exported(summed, format.value)
        _write(text, out)
        return
    metrics = tables.TABLES if metric is Metric.all else (metric.value,)
    make = tables.differences if two else tables.compare
    _show([make(summed, one, by.value) for one in metrics], format, out)


def _against(paths: list[Path], name: str, metric: Metric, by: By, format: Format, out: Path | None) -> None:
    from lra_bench import store
    from lra_bench.errors import ConfigError
    from lra_bench.report import against, published, tables

    if metric in (Metric.speed, Metric.memory) or by is not By.model:
        raise ConfigError("--against: holds accuracies of models against published ones; no --metric, no --by with it")
    theirs = published.load(name)
    lines = against.against(store.frame(paths), theirs)
    if format in (Format.csv, Format.json):
        _write(tables.exported(against.numbers(lines), format.value), out)
    else:
        _show([against.table(lines, theirs)], format, out)


def _show(compared: Sequence[Comparison], format: Format, out: Path | None) -> None:
    from lra_bench.cli import screen
    from lra_bench.report import tables

    if format is not Format.table:
        _write("\n".join(tables.written(one, format.value) for one in compared), out)
        return
    with screen.to(out) as console:
        for one in compared:
            rows = one.cells.reset_index().to_dict("records")
            console.print(screen.titled(one.title, rows, one.notes))


def _write(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text if text.endswith("\n") else f"{text}\n")
