"""`lra sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lra_bench.cli import app, completion, options
from lra_bench.errors import ConfigError


@app.command()
def sweep(
    file: Annotated[
        Path,
        typer.Argument(
            help="The sweep's file: models, tasks, seeds and a config.",
            metavar="FILE",
            autocompletion=completion.sweeps,
        ),
    ],
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="In place of the file's own.")] = None,
    launcher: Annotated[
        str | None, typer.Option("--launcher", help="In place of the file's own.", metavar="NAME|file.yaml")
    ] = None,
    results: Annotated[
        Path | None, typer.Option("-o", "--results", help="In place of the file's own.", metavar="DIR")
    ] = None,
    stop_at: options.StopAt = None,
    fresh: options.Fresh = False,
    dry_run: options.DryRun = False,
    track: options.Track = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what it would take, as `lra plan` does.")] = False,
    out: options.JobList = None,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Run the models, tasks and seeds that a sweep's YAML file lists.

    Finished runs are not run again. All models take hours; --plan estimates how many.

    Example: lra sweep configs/sweeps/quick.yaml --dry-run
    """
    from lra_bench import config
    from lra_bench import sweeps as room
    from lra_bench.cli.run import run_all, seed_after_seed, show_plan, show_results, show_states, sized
    from lra_bench.launch.engine import Order

    if out is not None and not plan:
        raise ConfigError("--out: is of --plan")
    if plan and dry_run:
        raise ConfigError("--plan and --dry-run: one of the two")
    asked = config.sweep(file)
    first = asked.lr_by == "first-seed"
    if first and not asked.lr:
        raise ConfigError(f"{file}: lr_by: first-seed; it is of a grid of learning rates, and lr is null")
    folder = results or Path(asked.results)
    request = room.Request(
        asked.models,
        asked.tasks,
        asked.config,
        room.parse_seeds(asked.seeds),
        asked.length,
        (*asked.settings, *options.stopping(stop_at)),
        asked.limit,
        tuple(include_path or ()),
        asked.techniques,
        rates=tuple(asked.lr or ()),
    )
    every = sized(room.runs(request), asked.match)
    by = config.launcher(launcher or asked.launcher, tuple(include_path or ()))
    order = Order(folder, fresh, asked.timeout, jobs or asked.jobs, asked.processes)
    grids, track = room.rate_grids(every) if first else [], track or asked.track
    if first and out is not None:
        every = room.once(grid.known(folder) for grid in grids)
    elif first and (dry_run or plan):
        every = room.once(grid.expected(folder) for grid in grids)
    if dry_run:
        show_states(every, folder, json=json)
    elif plan:
        show_plan(every, folder, jobs=order.jobs or by.jobs, out=out, json=json)
    elif first:
        ended = seed_after_seed(grids, by, order, fail_fast=asked.fail_fast, track=track)
        show_results(room.once(grid.expected(folder) for grid in grids), ended, order, json=json)
    else:
        run_all(every, by, order, fail_fast=asked.fail_fast, track=track, json=json)
