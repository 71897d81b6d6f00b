"""`lra bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lra_bench.cli import app, options

if TYPE_CHECKING:
    from lra_bench.matrix import Request

# The full mixer in its best and its plain form stand for what the others are measured against.
MODELS = "family:full,family:full[impl=plain],all"
LENGTHS = "1024,2048,4096,8192,16384"


@app.command()
def bench(
    model: options.Model = MODELS,
    task: Annotated[
        str | None, typer.Option("-t", "--task", help="Its symbols and classes; the recipe's if none.", metavar="NAME")
    ] = None,
    lengths: Annotated[str, typer.Option("--lengths", help="L, comma-separated.")] = LENGTHS,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Timed steps of each, interleaved.")] = 5,
    config: options.Config = "speed",
    settings: options.Settings = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Keep the numbers there as JSON, after each length.", metavar="FILE")
    ] = None,
    read: Annotated[
        Path | None, typer.Option("--read", help="Show the numbers kept there; measure nothing.", metavar="FILE")
    ] = None,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Time training steps over lengths: planned memory, fitted exponents, ratios to full attention.

    All models at one length are compiled in one process and run in turn, on random tokens.

    Example: lra bench --lengths 1024,4096 --model softmax,linear
    """
    from lra_bench import matrix
    from lra_bench.cli import screen
    from lra_bench.config import recipe
    from lra_bench.report import scaling

    if read is not None:
        facts = scaling.read(read)
    else:
        include = tuple(include_path or ())
        task = task or next(iter(recipe(config, include).tasks or matrix.task_names("all", include)))
        request = matrix.Request(model, task, config, settings=tuple(settings or ()), include=include)
        facts = _measured(request, options.counts(lengths, "--lengths"), rounds, out)
    if json:
        screen.print_json(facts)
        return
    for table in scaling.tables(facts):
        screen.out.print(screen.titled(table.title, table.rows))


def _measured(request: Request, lengths: list[int], rounds: int, out: Path | None) -> list[dict[str, Any]]:
    from lra_bench import matrix, store
    from lra_bench.cli import progress

    facts: list[dict[str, Any]] = []
    with progress.watching() as watch:
        for measured in matrix.bench(request, lengths, rounds, watch):
            facts += measured
            if out is not None:
                store.write_json(out, facts)
    return facts
