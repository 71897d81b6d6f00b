"""`lra reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lra_bench.cli import app, options

if TYPE_CHECKING:
    from lra_bench.analysis.reproduce import Line, Reproduction

VERDICTS = {
    "identical": "the same, bit for bit",
    "agrees": "not bit for bit, and no difference that test's examples can tell",
    "differs": "not the same",
}


@app.command()
def reproduce(
    run: options.Run,
    results: options.Results = options.RESULTS,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Keep the new run in this results folder.", metavar="DIR")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            help="Use one of this many shares of the cores; the default is what the result records.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Run a finished run again from its run.json and compare bit for bit. It takes as long as the run did.

    Where the platform, versions or code differ, and on a GPU without training.deterministic, the scores are compared
    instead: the paired difference over test examples, with its interval and p. Exit codes: 0 the same, or it
    agrees, 1 it differs, 2 the input is wrong.

    Example: lra reproduce results/runs/linformer-listops-quick-s0-0123456789
    """
    from lra_bench.analysis.reproduce import again, finished
    from lra_bench.cli import progress, screen
    from lra_bench.launch.engine import Stopped
    from lra_bench.records import store

    old = finished(store.find(run, results))
    try:
        with progress.watching() as watch:
            found = again(old, watch, keep=keep, jobs=jobs)
    except Stopped:
        kept = f"saved in {keep}; the same command resumes" if keep else "nothing is kept without --keep"
        screen.err.print(f"stopped; {kept}", style="yellow", soft_wrap=True)
        raise typer.Exit(130) from None
    if json:
        screen.print_json(_as_json(found))
    else:
        _show(found)
    raise typer.Exit(int(found.verdict == "differs"))


def _show(found: Reproduction) -> None:
    from lra_bench.cli import screen

    lines = [_shown(line) for line in (*found.outcome, *found.place)]
    screen.out.print(screen.titled(f"{found.old.folder.name}: {VERDICTS[found.verdict]}", lines, _notes(found)))


def _shown(line: Line) -> dict[str, Any]:
    same = "yes" if line.same else "no" if line.apart is None else f"no, {line.apart:,} differ"
    return {"": line.what, "old": str(line.old), "new": str(line.new), "same": same}


def _notes(found: Reproduction) -> list[str]:
    notes, moved = [], [line.what for line in found.place if not line.same]
    if found.old.result.run != found.old.run.id:
        notes.append(f"its result is of run {found.old.result.run}, and its run.json of {found.old.run.id}")
    each = zip(found.old.run.mixer_specs, found.new.run.mixer_specs, strict=True)
    changed = [new.mixer for old, new in each if old.mixer_hash != new.mixer_hash]
    notes += [f"{one} has changed since; it was run as it is now, as {found.new.folder.name}" for one in changed]
    if moved:
        notes.append(f"other than then: {', '.join(moved)}")
    if not found.promised:
        notes.append("the same bits are not promised there: on a GPU --set training.deterministic=true asks for them")
    if found.new.result.error:
        notes.append(f"now {found.new.result.status}: {found.new.result.error}")
    if found.paired is not None:
        d = found.paired
        notes.append(
            f"test score, new less old: {d.difference:+.4g} ({d.low:+.4g} to {d.high:+.4g}), p {d.p:.2g}, {d.test}"
        )
    return notes


def _as_json(found: Reproduction) -> dict[str, Any]:
    return {
        "folder": str(found.old.folder),
        "verdict": found.verdict,
        "run": {"old": found.old.result.run, "new": found.new.run.id},
        "outcome": [line._asdict() for line in found.outcome],
        "place": [line._asdict() for line in found.place],
        "paired": found.paired._asdict() if found.paired else None,
        "error": found.new.result.error,
    }
