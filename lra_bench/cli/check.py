"""`lra check` and `lra doctor`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lra_bench.cli import app, options
from lra_bench.errors import ConfigError


@app.command()
def check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="YAML files of tasks, configs, techniques, sweeps or search spaces; everything if none is given.",
            metavar="FILE",
        ),
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Make no examples and compile no model; this takes half a minute.")
    ] = False,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Check configs, tasks, sources and models: each is read and instantiated.

    All that ships takes 5 minutes of a CPU core and more, --fast half of one; single files take seconds.

    Example: lra check tasks/mine.yaml
    """
    from lra_bench import check as room
    from lra_bench.cli import screen

    found = []
    include = tuple(include_path or ())
    if files and fast:
        raise ConfigError("--fast: is of everything; files that are named are checked whole")
    for finding in room.those(files, include) if files else room.everything(include, fast=fast):
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
    """Show the machine, devices, versions and caches, and what is missing."""
    from lra_bench.cli import screen
    from lra_bench.doctor import examine

    facts, missing = examine()
    if json:
        screen.print_json({**facts, "missing": missing})
    else:
        screen.out.print(screen.card("doctor", {key: _plain(value) for key, value in facts.items()}))
        for line in missing:
            screen.out.print(f"missing: {line}", markup=False, highlight=False)
    raise typer.Exit(0)


def _plain(value: Any) -> Any:
    """A list as words."""
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else value
