"""`lra sweep`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from lra_bench.cli import app, completion, options
from lra_bench.errors import ConfigError

if TYPE_CHECKING:
    from lra_bench.config import Launcher, Run
    from lra_bench.launch.engine import Order
    from lra_bench.records.schema import Result
    from lra_bench.sweeps import RateGrid


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
    from lra_bench.cli.run import run_all, show_plan, show_states, sized
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
    if dry_run:
        show_states(_listed(grids, folder) if first else every, folder, json=json)
    elif plan:
        listed = _listed(grids, folder, known=out is not None) if first else every
        show_plan(listed, folder, jobs=order.jobs or by.jobs, out=out, json=json)
    elif first:
        _task_after_task(grids, by, order, fail_fast=asked.fail_fast, track=track, json=json)
    else:
        run_all(every, by, order, fail_fast=asked.fail_fast, track=track, json=json)


def _listed(grids: Sequence[RateGrid], results: Path, *, known: bool = False) -> list[Run]:
    """All runs, those that wait for a learning rate with the first one, or without them; a line says so."""
    from lra_bench import sweeps
    from lra_bench.cli import screen

    waiting = sum(not grid.tried(results) for grid in grids)
    if waiting:
        stand = "are left out" if known else "stand with the first one"
        screen.warn([f"of {waiting} models, further seeds wait for their learning rate, and {stand}"])
    return sweeps.once((grid.known if known else grid.expected)(results) for grid in grids)


def _task_after_task(
    grids: Sequence[RateGrid], launcher: Launcher, order: Order, *, fail_fast: bool, track: str | None, json: bool
) -> NoReturn:
    """Execute the runs, all of a task before the next one begins, and show what came out."""
    from lra_bench import sweeps
    from lra_bench.cli.run import seed_after_seed, show_results

    ended: list[Result] = []
    for of_task in sweeps.by_task(grids):
        ended += (part := seed_after_seed(of_task, launcher, order, fail_fast=fail_fast, track=track))
        if len(part) < len(sweeps.once(grid.known(order.results) for grid in of_task)):
            break
    show_results(sweeps.once(grid.expected(order.results) for grid in grids), ended, order, json=json)
