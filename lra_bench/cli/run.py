"""`lra run` and `lra plan`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lra_bench.cli import app, options


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
    fresh: Annotated[bool, typer.Option("--fresh", help="Do again what is done, and forget checkpoints.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Minutes a cell may take; it is saved.", metavar="MIN")] = None,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Train models on tasks: accuracy, speed and memory, a row each, kept in the results folder.

    A finished cell is not run again. Ctrl-C saves; the same command goes on.

    Example: lra run --model linformer --task listops
    """
    from lra_bench import matrix
    from lra_bench.cli import progress, screen
    from lra_bench.launch.local import Stopped

    every = matrix.cells(_request(model, task, config, seed, seeds, length, settings, limit, include_path))
    try:
        with progress.watching() as watch:
            rows = matrix.run(every, results, watch, fresh=fresh, minutes=timeout)
    except Stopped:
        screen.err.print("stopped and saved; the same command goes on", style="yellow")
        raise typer.Exit(130) from None
    if json:
        screen.print_json([row.as_dict() for row in rows])
    else:
        screen.out.print(screen.results(rows))
        screen.err.print(
            f"rows in {results}/runs; lra compare {results} puts them side by side", highlight=False, soft_wrap=True
        )
    for row in rows:
        if row.error:
            screen.err.print(
                f"{row.model} on {row.task}: {row.status}: {row.error}", style="red", markup=False, soft_wrap=True
            )
    sys.exit(any(row.status != "ok" for row in rows))


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
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """What `run` with the same arguments would do: cells, parameters, planned memory, an estimate of the time.

    Each step is compiled, not run on data; the estimate is from three steps on random tokens. Starts nothing.
    """
    from lra_bench import matrix
    from lra_bench.cli import progress, screen

    every = matrix.cells(_request(model, task, config, seed, seeds, length, settings, limit, include_path))
    with progress.watching() as watch:
        plans = matrix.plan(every, results, watch)
    if json:
        screen.print_json(plans)
        return
    screen.out.print(screen.plan_table(plans))
    for one in plans:
        if one["error"]:
            screen.err.print(
                f"{one['model']} on {one['task']}: {one['error']}", style="red", markup=False, soft_wrap=True
            )


def _request(model, task, config, seed, seeds, length, settings, limit, include):  # type: ignore[no-untyped-def]
    from lra_bench.errors import ConfigError
    from lra_bench.matrix import Request, parse_seeds

    if seeds and seed:
        raise ConfigError(f"--seed {seed} and --seeds {seeds}: one of the two")
    several = parse_seeds(seeds) if seeds else (seed,)
    return Request(model, task, config, several, length, tuple(settings or ()), limit, tuple(include or ()))
