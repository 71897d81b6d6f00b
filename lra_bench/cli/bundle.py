"""`lra bundle` and `lra merge`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from lra_bench.cli import app, options


@app.command()
def bundle(
    results: Annotated[Path, typer.Argument(help="A results folder, or the folder of one run.", metavar="RESULTS")],
    out: Annotated[
        Path, typer.Option("--out", help="The bundle to write: a .zip, or a folder.", metavar="FILE.zip|DIR")
    ],
    by: Annotated[
        str | None, typer.Option("--by", help="Who made the bundle; shown beside its results after a merge.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Pack results to share: runs, results, per-example scores and curves, each with a hash; no checkpoints.

    A result whose files do not agree is left out, and the exit code is 1.

    Example: lra bundle results --out mine.zip --by "Ann, Example University"
    """
    from lra_bench.cli import progress, screen
    from lra_bench.records.bundle import pack

    with progress.counting(out.name) as count:
        packed = pack(results, out, by, count)
    if json:
        screen.print_json({"out": str(packed.out), "rows": packed.results, "left_out": packed.left_out})
    else:
        written = packed.out if packed.results else "nothing written"
        screen.out.print(f"{written}: {_results(packed.results)}", highlight=False)
        _each("left out", packed.left_out.values())
    raise typer.Exit(int(bool(packed.left_out)))


@app.command()
def merge(
    file: Annotated[Path, typer.Argument(help="A bundle that lra bundle wrote.", metavar="FILE")],
    results: Annotated[Path, typer.Argument(help="The results folder to add it to.", metavar="RESULTS")],
    json: options.Json = False,
) -> None:
    """Add a bundle's results to a results folder, after checking hashes, schema, ids and scores. Nothing in it is
    executed.

    Results that are there already are skipped; where they differ yours are kept, and the exit code is 1.

    Example: lra merge theirs.zip results
    """
    from lra_bench.cli import progress, screen
    from lra_bench.records import bundle as room

    with progress.counting(file.name) as count:
        merged = room.merge(file, results, count)
    if json:
        screen.print_json(merged._asdict())
    else:
        said = f"{_results(merged.added)} added, {len(merged.equal)} there already, {len(merged.conflicts)} in conflict"
        screen.out.print(f"{results}: {said}; made by {merged.by or 'nobody named'}", highlight=False, markup=False)
        _each("cannot be run again here", (f"{name}: {why}" for name, why in merged.marked.items()))
        _each("in conflict", (f"{name}: {why}" for name, why in merged.conflicts.items()))
    raise typer.Exit(int(bool(merged.conflicts)))


def _results(names: list[str]) -> str:
    return f"{len(names):,} result{'' if len(names) == 1 else 's'}"


def _each(what: str, lines: Iterable[str]) -> None:
    from lra_bench.cli import screen

    for line in lines:
        screen.err.print(f"{what}: {line}", style="yellow", markup=False, highlight=False, soft_wrap=True)
