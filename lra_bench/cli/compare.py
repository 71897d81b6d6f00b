"""`lra compare`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lra_bench.cli import app, options, reading
from lra_bench.cli.written import Format, How, Out, chosen, tell
from lra_bench.errors import ConfigError

if TYPE_CHECKING:
    from lra_bench.report.tables import Report


class Metric(StrEnum):
    accuracy = "accuracy"
    speed = "speed"
    memory = "memory"
    all = "all"


class Sort(StrEnum):
    name = "name"
    score = "score"
    speed = "speed"
    memory = "memory"


class By(StrEnum):
    model = "model"
    family = "family"


@app.command()
def compare(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Results folders, single runs, exported tables, or a folder at a git revision; results/ if none. Two "
            "folders are OLD and NEW.",
            metavar="DIR|RUN|TABLE|DIR@REV",
        ),
    ] = None,
    metric: Annotated[Metric, typer.Option("--metric", help="What to compare.")] = Metric.all,
    by: Annotated[By, typer.Option("--by", help="One line for each model, or for each family.")] = By.model,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", help="Compare test accuracies with published ones: paper, or another set.", metavar="SET"
        ),
    ] = None,
    sort: Annotated[
        Sort, typer.Option("--sort", help="Sort by name, or best first by score, speed or memory.")
    ] = Sort.name,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Show every pair of models: the difference, and p after Holm's correction.")
    ] = False,
    budget: Annotated[
        bool, typer.Option("--budget", help="Show each model's training budget: parameters, FLOPs, steps.")
    ] = False,
    techniques: Annotated[
        bool,
        typer.Option("--techniques", help="Show each technique's score, model size and speed beside the plain run's."),
    ] = False,
    fail_on_regression: Annotated[
        str | None,
        typer.Option(
            "--fail-on-regression",
            help="Exit with 1 if a model of the second folder is worse by more, and not by chance, or fails.",
            metavar="2%",
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin",
            help="With --against: scores that differ by less, in points, are equivalent; 2 if not said.",
            min=0.01,
            max=50,
        ),
    ] = None,
    seeds_from: Annotated[
        Path | None,
        typer.Option(
            "--seeds-from",
            help="Use the runs in this folder too to estimate how scores vary over seeds; they are not listed.",
            metavar="DIR",
        ),
    ] = None,
    rank_derived: Annotated[
        bool,
        typer.Option(
            "--rank-derived",
            help="Rank and pair models that were derived from another run (quantized, pruned, distilled, adapted) too.",
        ),
    ] = False,
    format: How = None,
    out: Out = None,
    json: options.Json = False,
) -> None:
    """Compare models over tasks: the accuracy, speed and memory of runs in results folders.

    One path, or three and more, make one table of all their runs together. Two folders are an old and a new state, OLD
    NEW: what changed from the first to the second, and whether more than by chance.

    Example: lra compare results --metric accuracy --sort score --out table.md
    """
    from lra_bench.report import budget as given
    from lra_bench.report import tables
    from lra_bench.report import techniques as applied
    from lra_bench.report.summary import ranks, rates, regressions, sorting

    reports = {"--pairs": pairs, "--budget": budget, "--techniques": techniques}
    rooms = [flag for flag, asked_for in reports.items() if asked_for]
    if len(rooms) + (against is not None) > 1:
        raise ConfigError(f"{', '.join(reports)} and --against: one of them")
    if margin is not None and against is None:
        raise ConfigError("--margin: is of --against SET")
    if seeds_from is not None and budget:
        raise ConfigError("--seeds-from: a budget has no scores")
    two = len(paths or ()) == 2 and not any(path.is_file() for path in paths or ())
    plain = against is None and not rooms and not two
    if sort is not Sort.name and not plain:
        raise ConfigError(f"--sort {sort.value}: orders the tables of models over tasks alone")
    if rank_derived and not (plain or pairs):
        raise ConfigError("--rank-derived: is of the ranks in tables of models over tasks, and of --pairs")
    limit, how = _limit(fail_on_regression), chosen(format, json=json, out=out)
    metrics = tables.TABLES if metric is Metric.all else (metric.value,)
    with reading.frame(paths) as every, reading.frame([seeds_from]) if seeds_from else nullcontext() as others:
        frame, elsewhere = rates.chosen(every), others if others is None else rates.chosen(others)
        if against is not None:
            made = _against(frame, against, metric, by, margin, elsewhere)
        elif pairs:
            made = ranks.report(frame, elsewhere, every=rank_derived)
        elif budget:
            made = given.report(every)
        elif techniques:
            made = applied.report(frame, elsewhere)
        elif two:
            _tell_changes(regressions.report(frame, metrics, by.value, elsewhere), by, limit, how, out)
            return
        else:
            made = _tables(sorting.ordered(frame, by.value, sort.value), metrics, by.value, elsewhere, rank_derived)
    if limit is not None:
        raise ConfigError("--fail-on-regression: is of two results folders, the old one and the new one")
    tell(made, how, out)


def _tables(frame: Any, metrics: Sequence[str], by: str, elsewhere: Any, every: bool) -> Report:
    """A table a metric; the numbers are of each place where the runs ran, or of scores alone over all places."""
    from lra_bench.report import tables
    from lra_bench.report.summary import ranks

    summed, notes = ranks.beside(frame, tables.summary(frame, by), by, elsewhere, every=every)
    measured, ranked = tables.measured(frame, by), {}
    if "rank" in summed:
        ranked = {(row[by], tables.column_of(row)): row["rank"] for row in summed.to_dict("records")}
        measured["rank"] = [ranked[row[by], tables.column_of(row)] for row in measured.to_dict("records")]
    shown = [tables.compare(summed if one == "accuracy" else measured, one, by, notes) for one in metrics]
    parts = tables.by_place(summed, by) if "accuracy" in metrics else None
    return tables.Report(summed if list(metrics) == ["accuracy"] else measured, (*shown, *([parts] if parts else [])))


def _limit(text: str | None) -> float | None:
    """A share: 2% or 0.02."""
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise ConfigError(f"--fail-on-regression {text}: must be a share as 2% or 0.02")
    return share


def _tell_changes(made: Report, by: By, limit: float | None, format: Format, out: Path | None) -> None:
    """Two folders side by side; exit code 1 if what must not get worse did."""
    from lra_bench.cli import screen
    from lra_bench.report.summary import regressions

    if limit is not None and by is not By.model:
        raise ConfigError(f"--by {by.value}: --fail-on-regression is of models")
    tell(made, format, out)
    if limit is None:
        return
    for line in regressions.untold(made.numbers):
        screen.err.print(f"cannot be told: {line}", style="yellow", markup=False, soft_wrap=True)
    worse = list(regressions.lines(made.numbers, limit))
    for line in worse:
        screen.err.print(f"worse: {line}", style="red", markup=False, soft_wrap=True)
    if worse:
        raise typer.Exit(1)


def _against(frame: Any, name: str, metric: Metric, by: By, margin: float | None, elsewhere: Any) -> Report:
    from lra_bench.report import against, published, tables
    from lra_bench.report.summary import equivalence

    if metric in (Metric.speed, Metric.memory) or by is not By.model:
        raise ConfigError("--against: holds accuracies of models against published ones; no --metric, no --by with it")
    theirs = published.load(name)
    share = equivalence.MARGIN if margin is None else margin / 100
    lines = against.against(frame, theirs, share, elsewhere)
    return tables.Report(against.numbers(lines), (against.table(lines, theirs, share),))
