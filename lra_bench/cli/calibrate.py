"""`lra calibrate`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lra_bench.cli import app, completion, options
from lra_bench.cli.written import Format, tell
from lra_bench.errors import ConfigError, LraError

if TYPE_CHECKING:
    from lra_bench.calibration import Verdict
    from lra_bench.config.calibration import Check
    from lra_bench.records.schema import Result
    from lra_bench.sweeps import Entrant

Known = tuple["Check", list["Entrant"]]
RESULTS = options.RESULTS / "calibration"
KEPT, KEPT_QUICK = "calibration", "calibration-quick"  # .md and .csv, in the results folder


@app.command()
def calibrate(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Checks by name, or files; all if none.", metavar="CHECK|file.yaml", autocompletion=completion.checks
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Run shortened checks, which test the direction of each difference alone.")
    ] = False,
    results: options.Results = RESULTS,
    jobs: options.Jobs = None,
    fresh: options.Fresh = False,
    dry_run: options.DryRun = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show what it would take, and start nothing.")] = False,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Run checks whose outcome is known, and say of each whether it is reproduced, differs, or cannot be told.

    Finished runs are not run again; Ctrl-C saves, and the same command resumes. A table of all checks that have runs in
    the results folder is kept there, with a page that has each check's reference and what a failure would mean; that of
    --quick stands apart. Exit code 1 if a run failed or a check differs. All checks take hours on a CPU; --plan
    estimates how many.

    Example: lra calibrate --quick
    """
    from lra_bench import config, sweeps
    from lra_bench.cli import screen
    from lra_bench.cli.run import seed_after_seed, show_states
    from lra_bench.launch.engine import Order

    if plan and dry_run:
        raise ConfigError("--plan and --dry-run: one of the two")
    include = tuple(include_path or ())
    checks = _checks(names or (), include, quick=quick)
    entrants = {name: sweeps.entrants(name, check, include) for name, check in checks.items()}
    skipped = _skipped(entrants, None if fresh else results)
    screen.warn(f"{name}: skipped: {why}" for name, why in skipped.items())
    every = [entrant for name, several in entrants.items() if name not in skipped for entrant in several]
    order, by = Order(results, fresh, jobs=jobs), config.launcher(None)
    if dry_run:
        show_states(sweeps.once(entrant.expected(results) for entrant in every), results, json=json)
    elif plan:
        _show_cost(every, results, jobs or by.jobs or 1, json=json)
    else:
        known = {name: (check, entrants[name]) for name, check in checks.items()}
        known |= _others(checks, include, quick=quick)
        ended = seed_after_seed(every, by, order)
        judged = _judged(known, {*checks} - {*skipped}, results)
        _keep(results / (KEPT_QUICK if quick else KEPT), known, judged, skipped, quick=quick)
        told = [one for name in checks if name not in skipped for one in judged[name]]
        _show(told, json=json)
        _end(ended, told)


def _checks(names: Sequence[str], include: Sequence[Path], *, quick: bool) -> dict[str, Check]:
    """The checks that are asked for; `quick`: those that have a short form."""
    from lra_bench.config import calibration

    found = {Path(name).stem: calibration.check(name, include, quick=quick)
             for name in names or calibration.checks(include)}  # fmt: skip
    if without := [name for name, check in found.items() if check is None and names]:
        raise ConfigError(f"--quick: {', '.join(without)} has no quick form")
    return {name: check for name, check in found.items() if check is not None}


def _skipped(entrants: Mapping[str, Sequence[Entrant]], results: Path | None) -> dict[str, str]:
    """Why a check is not run, by its name: the examples of what is not done in `results` are other people's, and not
    here."""
    from lra_bench import sweeps

    lacking = {name: sweeps.missing(several, results) for name, several in entrants.items()}
    return {
        name: f"the examples of {', '.join(tasks)} are not here; "
        f"{' and '.join(f'lra data prepare {task}' for task in tasks)} fetches them"
        for name, tasks in lacking.items()
        if tasks
    }


def _others(asked: Collection[str], include: Sequence[Path], *, quick: bool) -> dict[str, Known]:
    """The checks that were not asked for; one that cannot be read is left out, with a line."""
    from lra_bench import sweeps
    from lra_bench.cli import screen
    from lra_bench.config import calibration

    found = {}
    for name in calibration.checks(include):
        try:
            check = None if name in asked else calibration.check(name, include, quick=quick)
            if check is not None:
                found[name] = (check, sweeps.entrants(name, check, include))
        except LraError as error:
            screen.warn([f"{name}: not in the table: {error}"])
    return found


def _judged(known: Mapping[str, Known], ran: Collection[str], results: Path) -> dict[str, list[Verdict]]:
    """The verdicts of the checks that `ran`, and of all others that have runs in the results folder, by their names."""
    from lra_bench import calibration

    return {
        name: calibration.verdicts(name, check, several, results)
        for name, (check, several) in sorted(known.items())
        if name in ran or any(one.begun(results) for one in several)
    }


def _keep(
    kept: Path, known: Mapping[str, Known], judged: Mapping[str, Sequence[Verdict]], skipped: Mapping[str, str],
    *, quick: bool,
) -> None:  # fmt: skip
    """The table and the page, in the files that are called so."""
    from lra_bench import calibration
    from lra_bench.cli import screen

    table, page = kept.with_suffix(".csv"), kept.with_suffix(".md")
    screen.warn(
        f"{name}: no longer in the table, as no check of that name is found; its runs stay: name its file too"
        for name in sorted(_in_table(table) - known.keys())
    )
    told = [one for several in judged.values() for one in several]
    shown = {name: check for name, (check, _) in sorted(known.items()) if name in judged or name in skipped}
    tell(calibration.report(told), Format.csv, table)
    page.write_text(calibration.page(shown, told, skipped, quick=quick), encoding="utf-8")
    screen.err.print(f"kept in {page} and {table}", soft_wrap=True)


def _in_table(table: Path) -> set[str]:
    """The checks that a kept table has."""
    if not table.is_file():
        return set()
    with table.open(encoding="utf-8", newline="") as lines:
        return {line["check"] for line in csv.DictReader(lines) if line.get("check")}


def _show(told: Sequence[Verdict], *, json: bool) -> None:
    """The verdicts, on the screen in lines that are broken where they are long."""
    from lra_bench import calibration
    from lra_bench.cli import screen

    made = calibration.report(told)
    if json:
        tell(made, Format.json)
        return
    (table,) = made.tables
    screen.out.print(screen.titled(table.title, table.cells.reset_index().to_dict("records"), table.notes))


def _end(ended: Sequence[Result], told: Sequence[Verdict]) -> None:
    """Say which runs failed; exit code 1 if one did, or if a check differs."""
    from lra_bench import calibration
    from lra_bench.cli.run import say_errors
    from lra_bench.records.schema import SCORED

    say_errors(ended)
    failed = any(result.status not in SCORED for result in ended)
    sys.exit(int(failed or any(one.verdict == calibration.DIFFERS for one in told)))


def _show_cost(every: Sequence[Entrant], results: Path, jobs: int, *, json: bool) -> None:
    """What running the checks would take, so many runs at once on this machine."""
    from lra_bench import sweeps
    from lra_bench.cli import planned, progress, screen

    with progress.watching() as watch:
        lines = sweeps.cost(every, results, watch, jobs)
    if json:
        screen.print_json(lines)
    else:
        screen.out.print(planned.calibration(lines, jobs))
