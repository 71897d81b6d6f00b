"""`lra report` and `lra plot`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lra_bench.cli import app, completion, options
from lra_bench.errors import ConfigError

Paths = Annotated[
    list[Path] | None,
    typer.Argument(help="Results folders, single runs, or exported tables; results/ if none.", metavar="DIR|RUN|TABLE"),
]
Speed = Annotated[
    Path | None,
    typer.Option("--speed", help=f"What `lra speed --out` kept; {options.SPEED} if it is there.", metavar="FILE"),
]


class Kind(StrEnum):
    tradeoff = "tradeoff"
    scaling = "scaling"
    curves = "curves"
    sparsity = "sparsity"


@app.command()
def report(
    paths: Paths = None,
    speed: Speed = None,
    out: Annotated[Path, typer.Option("--out", help="The page.", metavar="FILE.html")] = Path("report.html"),
) -> None:
    """One page to look at, offline: leaderboard, figures, ledger, and how each number was measured.

    Example: lra report results/quick --out report.html
    """
    from lra_bench import store
    from lra_bench.cli import screen
    from lra_bench.report.page import page

    text = page(store.frame(paths or [options.RESULTS]), _speeds(speed), out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    screen.err.print(f"{out}: {len(text) / 2**20:.1f} MiB", highlight=False)


@app.command()
def plot(
    paths: Paths = None,
    kind: Annotated[Kind, typer.Option("--kind", help="Which figure.")] = Kind.tradeoff,
    task: Annotated[
        str | None,
        typer.Option("-t", "--task", help="Of this task alone.", metavar="NAME", autocompletion=completion.one_task),
    ] = None,
    speed: Speed = None,
    out: Annotated[
        Path, typer.Option("--out", help="The figure, as its name ends.", metavar="FILE.svg|png|pdf")
    ] = Path("figure.svg"),
) -> None:
    """A figure for a paper: score against speed, growth with L, learning curves, or score against sparsity.

    Example: lra plot results/quick --kind tradeoff -t listops --out tradeoff.pdf
    """
    from lra_bench import mixers, store
    from lra_bench.cli import screen
    from lra_bench.report import charts, tables

    if kind is Kind.scaling and (paths or task):
        raise ConfigError("--kind scaling: draws what `lra speed` kept; no results and no --task with it")
    if kind is not Kind.scaling and speed is not None:
        raise ConfigError(f"--speed {speed}: is of --kind scaling")
    if kind is Kind.scaling:
        facts = _speeds(speed)
        if not facts:
            raise ConfigError(
                f"--kind scaling: draws what `lra speed --out {options.SPEED}` keeps, and there is none; or --speed"
            )
        drawn: Any = charts.growth(facts, {name: mixers.sheet(name).card.family for name in mixers.names()})
    else:
        frame = tables.of_task(store.frame(paths or [options.RESULTS]), task)
        of_rows = {Kind.curves: charts.curves, Kind.sparsity: charts.sparsity, Kind.tradeoff: charts.tradeoff}
        drawn = of_rows[kind](frame)
    charts.save(drawn, out)
    screen.err.print(str(out), highlight=False)


def _speeds(path: Path | None) -> list[dict[str, Any]]:
    from lra_bench.report import scaling

    if path is None and not options.SPEED.exists():
        return []
    return scaling.read(path or options.SPEED)
