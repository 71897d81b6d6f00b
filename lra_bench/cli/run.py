"""`lra run` and `lra plan`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from lra_bench.cli import app, options
from lra_bench.errors import ConfigError

if TYPE_CHECKING:
    from lra_bench.config import Launcher, Run
    from lra_bench.launch.engine import Order
    from lra_bench.records.schema import Result
    from lra_bench.sweeps import RateGrid


@app.command()
def run(
    model: options.Model,
    task: options.Task,
    config: options.Config = options.RECIPE,
    technique: options.Technique = options.TECHNIQUE,
    seed: options.Seed = 0,
    seeds: options.Seeds = None,
    length: options.Length = None,
    settings: options.Settings = None,
    stop_at: options.StopAt = None,
    results: options.Results = options.RESULTS,
    limit: options.Limit = None,
    match: options.Match = None,
    fresh: options.Fresh = False,
    timeout: options.Timeout = None,
    jobs: options.Jobs = None,
    processes: options.Processes = 1,
    launcher: options.Launcher = None,
    fail_fast: options.FailFast = False,
    dry_run: options.DryRun = False,
    track: options.Track = None,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Train models on tasks, and keep each run's accuracy, speed and memory in the results folder.

    A finished run is not run again. Ctrl-C saves, and the same command resumes. A model takes two to five minutes of a
    CPU core under -c quick, and hours under other configs; lra plan estimates them.

    Example: lra run --model linformer --task listops
    """
    from lra_bench import sweeps
    from lra_bench.config import launcher as settings_of
    from lra_bench.launch.engine import Order

    said = [*(settings or ()), *options.stopping(stop_at)]
    asked = sweeps.runs(_request(model, task, config, seed, seeds, length, said, limit, include_path, technique))
    every = sized(asked, match)
    by = settings_of(launcher, tuple(include_path or ()))
    if dry_run:
        show_states(every, results, json=json)
    else:
        order = Order(results, fresh, timeout, jobs, processes)
        run_all(every, by, order, fail_fast=fail_fast, track=track, json=json)


def sized(asked: Sequence[Run], match: str | None) -> Sequence[Run]:
    """The runs that can be, as large or as expensive as full attention's if that is asked for."""
    from lra_bench import sweeps
    from lra_bench.cli import progress, screen

    every, left_out = sweeps.able(asked)
    screen.warn(left_out)
    if match is None:
        return every
    with progress.watching() as watch:
        return sweeps.matched(every, match, watch)


def warn_of(every: Sequence[Run]) -> None:
    """Say once, a line each on stderr, what is strange about the runs and those they depend on."""
    from lra_bench import sweeps
    from lra_bench.cli import screen

    models: dict[str, dict[str, None]] = {}
    for run in sweeps.with_needs(every):
        for said in filter(None, (*run.warnings, sweeps.pooled_otherwise(run))):
            models.setdefault(f"on {run.task_name} under {run.config_name}: {said}", {})[run.model] = None
    screen.warn(f"{screen.few([*who])} {said}" for said, who in models.items())


def show_states(every: Sequence[Run], results: Path, *, json: bool) -> None:
    """What would run and what is done; nothing is compiled."""
    from lra_bench import sweeps
    from lra_bench.cli import screen

    warn_of(every)
    states = sweeps.states(sweeps.with_needs(every), results)
    if json:
        screen.print_json(states)
    else:
        screen.out.print(screen.states_table(states))


def run_all(
    every: Sequence[Run], launcher: Launcher, order: Order, *, fail_fast: bool, track: str | None, json: bool
) -> NoReturn:
    """Execute the runs and show what came out; exit code 1 if one failed, 130 if the user stopped them."""
    show_results(every, executed(every, launcher, order, fail_fast=fail_fast, track=track), order, json=json)


def show_results(every: Sequence[Run], results: Sequence[Result], order: Order, *, json: bool) -> NoReturn:
    """Show what came out of the runs; exit code 1 if one failed."""
    from lra_bench import sweeps
    from lra_bench.cli import screen
    from lra_bench.records.schema import SCORED

    other_code = sweeps.of_other_code(every, results)
    if json:
        screen.print_json([result.as_dict() | {"other_code": other_code.get(result.run)} for result in results])
    else:
        screen.out.print(screen.results(results, other_code))
        said = f"results in {order.results}/runs; lra compare {order.results} puts them side by side"
        left = f"; {len(every) - len(results)} runs are left" if len(results) < len(every) else ""
        screen.err.print(said + left, highlight=False, soft_wrap=True)
    say_errors(results)
    sys.exit(int(any(result.status not in SCORED for result in results)))


def executed(
    every: Sequence[Run], launcher: Launcher, order: Order, *, fail_fast: bool = False, track: str | None = None
) -> list[Result]:
    """Execute the runs, their progress on stderr, and return their results; exit code 130 if the user stopped them."""
    from lra_bench import sweeps
    from lra_bench.cli import screen
    from lra_bench.launch.engine import Stopped

    warn_of(every)
    try:
        with _told(len(sweeps.with_needs(every)), order.results, track) as tell:
            return sweeps.run(every, launcher, order, tell, fail_fast=fail_fast)
    except Stopped as stopped:
        screen.err.print(str(stopped), style="yellow", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(130) from None


def seed_after_seed(
    grids: Sequence[RateGrid], launcher: Launcher, order: Order, *, fail_fast: bool = False, track: str | None = None
) -> list[Result]:
    """`executed`, of the runs by which learning rates are chosen, then of further seeds at those that were."""
    from lra_bench import sweeps
    from lra_bench.cli import screen

    asked = sweeps.once(one.grid for one in grids)
    first = executed(asked, launcher, order, fail_fast=fail_fast, track=track)
    if len(first) < len(asked):
        return first
    screen.warn(
        f"{one.grid[0].model} on {one.grid[0].task_name}: further seeds wait for the result of a learning rate"
        for one in grids
        if not one.tried(order.results)
    )
    further = sweeps.once(one.seeds(order.results)[1:] for one in grids)
    return first + (executed(further, launcher, order, fail_fast=fail_fast, track=track) if further else [])


def say_errors(results: Sequence[Result]) -> None:
    """Say why each run failed that did, a line each on stderr."""
    from lra_bench.cli import screen

    for result in results:
        if result.error:
            said = f"{result.model} on {result.task}: {result.status}: {result.error}"
            screen.err.print(said, style="red", markup=False, soft_wrap=True)


@contextmanager
def _told(runs: int, results: Path, track: str | None) -> Iterator[Callable[[Run, Mapping[str, Any]], None]]:
    """Tells the screen of a run's event, and the trackers."""
    from lra_bench import trackers as room
    from lra_bench.cli import progress, screen

    def warn(line: str) -> None:
        screen.err.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)

    makers = room.chosen(track)
    with progress.watching(runs) as watch, room.opened(makers, results, warn) as door:

        def tell(run: Run, event: Mapping[str, Any]) -> None:
            watch(run, event)
            door(run, event)

        yield tell


@app.command()
def plan(
    model: options.Model,
    task: options.Task,
    config: options.Config = options.RECIPE,
    technique: options.Technique = options.TECHNIQUE,
    seed: options.Seed = 0,
    seeds: options.Seeds = None,
    length: options.Length = None,
    settings: options.Settings = None,
    results: options.Results = options.RESULTS,
    limit: options.Limit = None,
    match: options.Match = None,
    jobs: options.Jobs = None,
    device: options.Device = None,
    out: options.JobList = None,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Estimate what `lra run` with the same arguments would take: parameters, FLOPs, memory and hours.

    Hours are what another seed took on this machine; where none ran, a step is compiled and three are timed on random
    tokens, which takes half a minute for each model and task. Nothing is trained.

    With --device, each training step is compiled for an accelerator instead, and weighed: does it compile, does it fit,
    how many kernels, how much memory traffic, and what bounds its time. Nothing is run, and no accelerator is needed.

    Example: lra plan --model local,linear --task listops --device h100
    """
    from lra_bench import sweeps

    asked = sweeps.runs(_request(model, task, config, seed, seeds, length, settings, limit, include_path, technique))
    every = sized(asked, match)
    if device is not None:
        if out is not None or jobs is not None:
            raise ConfigError("--device: estimates steps, and plans no jobs; no --jobs or --out with it")
        show_estimates(every, device, tuple(include_path or ()), json=json)
        return
    show_plan(every, results, jobs=jobs, out=out, json=json)


def show_estimates(every: Sequence[Run], device: str, include: Sequence[Path], *, json: bool) -> None:
    """What a training step of each run would be on a device; seeds are alike, and count once."""
    from lra_bench import config, sweeps
    from lra_bench.cli import progress
    from lra_bench.cli.written import chosen, tell
    from lra_bench.report import estimates

    there, facts = config.device(device, include), list[dict[str, Any]]()
    once = list({run.model_copy(update={"seed": 0}).id: run for run in every}.values())
    with progress.watching(len(once)) as watch:
        for known in sweeps.estimated(once, there, [], watch):
            facts = known
    tell(estimates.planned(sweeps.beside(facts, options.RESULTS)), chosen(None, json=json))


def show_plan(every: Sequence[Run], results: Path, *, jobs: int | None, out: Path | None, json: bool) -> None:
    """What running the runs would take, so many at once on this machine; one, if it is not said.

    Or, into `out`, the lines that run them.
    """
    from lra_bench import sweeps
    from lra_bench.cli import planned, progress, screen

    jobs = jobs or 1
    if out is not None and json:
        raise ConfigError(f"--out {out}: writes lines of a shell; no --json with it")
    warn_of(every)
    if out is not None:
        lines = sweeps.job_list(sweeps.with_needs(every), results, jobs)
        out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        said = "1 run, a line" if len(lines) == 1 else f"{len(lines)} runs, a line each"
        screen.err.print(f"{out}: {said}; results will lie in {results}/runs", soft_wrap=True)
        return
    with progress.watching() as watch:
        plans = sweeps.plan(sweeps.with_needs(every), results, watch, jobs)
    if json:
        screen.print_json(plans)
        return
    screen.out.print(planned.table(plans, jobs))
    for said in dict.fromkeys(f"{one['model']} on {one['task']}: {one['error']}" for one in plans if one["error"]):
        screen.err.print(said, style="red", markup=False, soft_wrap=True)


def _request(model, task, config, seed, seeds, length, settings, limit, include, technique):  # type: ignore[no-untyped-def]
    from lra_bench.sweeps import Request, parse_seeds

    if seeds and seed:
        raise ConfigError(f"--seed {seed} and --seeds {seeds}: one of the two")
    several = parse_seeds(seeds) if seeds else (seed,)
    return Request(model, task, config, several, length, tuple(settings or ()), limit, tuple(include or ()), technique)
