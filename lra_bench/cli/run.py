"""`lra run` and `lra plan`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from lra_bench.cli import app, options

if TYPE_CHECKING:
    from lra_bench.config import Cell


@app.command()
def run(
    model: options.Model,
    task: options.Task,
    config: options.Config = options.RECIPE,
    seed: options.Seed = 0,
    seeds: options.Seeds = None,
    length: options.Length = None,
    settings: options.Settings = None,
    results: options.Results = options.RESULTS,
    limit: options.Limit = None,
    match: options.Match = None,
    fresh: options.Fresh = False,
    timeout: options.Timeout = None,
    jobs: options.Jobs = 1,
    processes: options.Processes = 1,
    fail_fast: options.FailFast = False,
    dry_run: options.DryRun = False,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Train models on tasks: accuracy, speed and memory, a row each, kept in the results folder.

    A finished cell is not run again. Ctrl-C saves; the same command goes on.

    Example: lra run --model linformer --task listops
    """
    from lra_bench import matrix

    asked = matrix.cells(_request(model, task, config, seed, seeds, length, settings, limit, include_path))
    every = sized(asked, match)
    if dry_run:
        show_states(every, results, json=json)
    else:
        run_cells(
            every, results, fresh=fresh, minutes=timeout, jobs=jobs, processes=processes, fail_fast=fail_fast, json=json
        )


def sized(every: Sequence[Cell], match: str | None) -> Sequence[Cell]:
    """The cells, as large or as dear as full attention's if that is asked for."""
    from lra_bench import matrix
    from lra_bench.cli import progress
    from lra_bench.launch.local import Stopped

    if match is None:
        return every
    try:
        with progress.watching() as watch:
            return matrix.matched(every, match, watch)
    except Stopped:
        raise typer.Exit(130) from None


def show_states(every: Sequence[Cell], results: Path, *, json: bool) -> None:
    """What would run and what is done; nothing is compiled."""
    from lra_bench import matrix
    from lra_bench.cli import screen

    states = matrix.states(every, results)
    if json:
        screen.print_json(states)
    else:
        screen.out.print(screen.states_table(states))


def run_cells(
    every: Sequence[Cell],
    results: Path,
    *,
    fresh: bool,
    minutes: float | None,
    jobs: int,
    fail_fast: bool,
    json: bool,
    processes: int = 1,
) -> NoReturn:
    """Run the cells and show what came out; exit code 1 if one failed, 130 if the user stopped them."""
    from lra_bench import matrix
    from lra_bench.cli import progress, screen
    from lra_bench.launch.local import Stopped
    from lra_bench.rows import SCORED

    try:
        with progress.watching(len(every)) as watch:
            rows = matrix.run(
                every, results, watch,
                fresh=fresh, minutes=minutes, jobs=jobs, processes=processes, fail_fast=fail_fast,
            )  # fmt: skip
    except Stopped:
        screen.err.print("stopped and saved; the same command goes on", style="yellow")
        raise typer.Exit(130) from None
    if json:
        screen.print_json([row.as_dict() for row in rows])
    else:
        screen.out.print(screen.results(rows))
        said = f"rows in {results}/runs; lra compare {results} puts them side by side"
        left = f"; {len(every) - len(rows)} cells are left" if len(rows) < len(every) else ""
        screen.err.print(said + left, highlight=False, soft_wrap=True)
    for row in rows:
        if row.error:
            said = f"{row.model} on {row.task}: {row.status}: {row.error}"
            screen.err.print(said, style="red", markup=False, soft_wrap=True)
    sys.exit(any(row.status not in SCORED for row in rows))


@app.command()
def plan(
    model: options.Model,
    task: options.Task,
    config: options.Config = options.RECIPE,
    seed: options.Seed = 0,
    seeds: options.Seeds = None,
    length: options.Length = None,
    settings: options.Settings = None,
    results: options.Results = options.RESULTS,
    limit: options.Limit = None,
    match: options.Match = None,
    jobs: options.Jobs = 1,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """What `run` with the same arguments would do: cells, parameters, FLOPs, what will not fit in memory, hours.

    Hours are what another seed took on this machine; where none ran, a step is compiled, and three are timed on random
    tokens. Starts nothing.
    """
    from lra_bench import matrix

    asked = matrix.cells(_request(model, task, config, seed, seeds, length, settings, limit, include_path))
    every = sized(asked, match)
    show_plan(every, results, jobs=jobs, json=json)


def show_plan(every: Sequence[Cell], results: Path, *, jobs: int, json: bool) -> None:
    """What running the cells would take."""
    from lra_bench import matrix
    from lra_bench.cli import planned, progress, screen

    with progress.watching() as watch:
        plans = matrix.plan(every, results, watch, jobs)
    if json:
        screen.print_json(plans)
        return
    screen.out.print(planned.table(plans, jobs))
    for said in dict.fromkeys(f"{one['model']} on {one['task']}: {one['error']}" for one in plans if one["error"]):
        screen.err.print(said, style="red", markup=False, soft_wrap=True)


def _request(model, task, config, seed, seeds, length, settings, limit, include):  # type: ignore[no-untyped-def]
    from lra_bench.errors import ConfigError
    from lra_bench.matrix import Request, parse_seeds

    if seeds and seed:
        raise ConfigError(f"--seed {seed} and --seeds {seeds}: one of the two")
    several = parse_seeds(seeds) if seeds else (seed,)
    return Request(model, task, config, several, length, tuple(settings or ()), limit, tuple(include or ()))
