"""`lra check` and `lra doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lra_bench.cli import app, options


@app.command()
def check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Tasks' and recipes' YAML files; everything if none.", metavar="FILE")
    ] = None,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Load every recipe, task, source and model that can be found, and really instantiate each.

    Example: lra check tasks/mine.yaml
    """
    from lra_bench import check as room
    from lra_bench.cli import screen

    found = []
    include = tuple(include_path or ())
    for finding in room.those(files, include) if files else room.everything(include):
        found.append(finding)
        if not json:
            screen.out.print(screen.styled("ok   ", "green") if finding.ok else screen.styled("WRONG", "red"), end="")
            screen.out.print(f" {finding.kind:6} {finding.name}: ", end="", soft_wrap=True)
            screen.out.print(finding.detail, markup=False, highlight=False, soft_wrap=True)
    screen.warn(line for finding in found for line in finding.warnings)
    if json:
        screen.print_json([finding._asdict() for finding in found])
    sys.exit(2 if not all(finding.ok for finding in found) else 0)


@app.command()
def doctor(json: options.Json = False) -> None:
    """Say what machine, devices, versions and caches there are, and what is missing."""
    from lra_bench.cli import screen
    from lra_bench.doctor import examine

    facts, missing = examine()
    if json:
        screen.print_json({**facts, "missing": missing})
    else:
        screen.out.print(screen.card("doctor", facts))
        for line in missing:
            screen.out.print(f"missing: {line}", markup=False, highlight=False)
    raise typer.Exit(0)
