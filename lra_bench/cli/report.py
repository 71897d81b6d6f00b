"""`lra report` and `lra plot`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lra_bench.cli import app, completion, options, reading
from lra_bench.errors import ConfigError

Paths = Annotated[
    list[Path] | None,
    typer.Argument(help="Results folders, single runs, or exported tables; results/ if none.", metavar="DIR|RUN|TABLE"),
]
Speed = Annotated[
    Path | None,
    typer.Option("--speed", help=f"What `lra speed --out` kept; {options.SPEED} if it is there.", metavar="FILE"),
]

PAGES = (".html", ".htm")


class Kind(StrEnum):
    tradeoff = "tradeoff"
    scaling = "scaling"
    curves = "curves"
    sparsity = "sparsity"
    state = "state"


@app.command()
def report(
    paths: Paths = None,
    speed: Speed = None,
    out: Annotated[Path, typer.Option("--out", help="The page to write.", metavar="FILE.html")] = Path("report.html"),
    json: options.Json = False,
) -> None:
    """Write one offline page: leaderboard, figures, training budgets, and how each number was measured.

    Example: lra report results/quick --out report.html
    """
    from lra_bench.cli import screen
    from lra_bench.report.page import page

    if out.suffix not in PAGES:
        raise ConfigError(f"--out {out}: must end in {' or '.join(PAGES)}")
    with reading.frame(paths) as frame:
        text = page(frame, _speeds(speed))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    if json:
        screen.print_json({"out": str(out), "bytes": len(text.encode())})
    else:
        screen.err.print(f"{out}: {len(text) / 2**20:.1f} MiB", highlight=False)


@app.command()
def plot(
    paths: Paths = None,
    kind: Annotated[Kind, typer.Option("--kind", help="The figure to draw.")] = Kind.tradeoff,
    task: Annotated[
        str | None,
        typer.Option("-t", "--task", help="Show this task alone.", metavar="NAME", autocompletion=completion.one_task),
    ] = None,
    speed: Speed = None,
    model: Annotated[
        str | None,
        typer.Option(
            "-m",
            "--model",
            help="Draw these models alone, comma-separated; of --kind scaling.",
            metavar="NAME",
            autocompletion=completion.models,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", help="The file to write; its extension says the format.", metavar="FILE.svg|png|pdf"),
    ] = Path("figure.svg"),
    json: options.Json = False,
) -> None:
    """Draw a figure for a paper: score against speed, state or sparsity, scaling with length, or learning curves.

    Example: lra plot results/quick --kind tradeoff -t listops --out tradeoff.pdf

    Example: lra plot --kind scaling --speed results/speed/cpu.json -m softmax,linear --out step-time.svg
    """
    from lra_bench import mixers
    from lra_bench.cli import screen
    from lra_bench.report import charts, tables
    from lra_bench.report.summary import rates

    if kind is Kind.scaling and (paths or task):
        raise ConfigError(f"--kind scaling: draws steps that `lra speed` timed, no results: {_scaling(paths or ())}")
    if kind is not Kind.scaling and speed is not None:
        raise ConfigError(f"--speed {speed}: is of --kind scaling: {_scaling([speed])}")
    if kind is not Kind.scaling and model is not None:
        raise ConfigError(f"--model {model}: is of --kind scaling: {_scaling(())}")
    if kind is Kind.scaling:
        facts = _speeds(speed)
        if not facts:
            raise ConfigError(f"--kind scaling: there is no {options.SPEED}: {_scaling(())}")
        families = {name: mixers.model_card(name).card.family for name in mixers.names()}
        drawn: Any = charts.growth(facts, families, _listed(model))
    else:
        of_runs = {Kind.curves: charts.curves, Kind.sparsity: charts.sparsity}
        with reading.frame(paths) as frame:
            rows = tables.of_task(rates.chosen(frame), task)
            if kind in of_runs:
                drawn = of_runs[kind](rows)
            elif kind is Kind.state:
                drawn = charts.state(tables.summary(rows))
            else:
                drawn = charts.tradeoff(charts.placed(tables.measured(rows), tables.summary(rows)))
    charts.save(drawn, out)
    if json:
        screen.print_json({"out": str(out)})
    else:
        screen.err.print(str(out), highlight=False)


def _listed(models: str | None) -> list[str]:
    """The models of a comma list; a comma within brackets parts options."""
    return [name.strip() for name in re.split(r",(?![^\[]*\])", models)] if models else []


def _scaling(near: Sequence[Path]) -> str:
    """The command that draws it: of a file that was named, or lies where such files do; or what makes one."""
    folders = [path for path in (*near, options.SPEED.parent) if path.is_dir()]
    lying = [path for folder in folders for path in (folder, folder / "speed") for path in sorted(path.glob("*.json"))]
    found = next((path for path in (*near, *lying) if path.is_file() and reading.is_of_speed(path)), None)
    return f"lra plot --kind scaling --speed {found}" if found else f"lra speed --out {options.SPEED} makes them"


def _speeds(path: Path | None) -> list[dict[str, Any]]:
    from lra_bench.report import scaling

    if path is None and not options.SPEED.exists():
        return []
    return scaling.read(path or options.SPEED)
