"""`lra bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lra_bench.cli import app, options

# The full mixer in its best and its plain form stand for what the others are measured against.
MODELS = "family:full,family:full[impl=plain],all"
LENGTHS = "1024,2048,4096,8192,16384"


@app.command()
def bench(
    model: options.Model = MODELS,
    lengths: Annotated[str, typer.Option("--lengths", help="L, comma-separated.")] = LENGTHS,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Timed steps of each, interleaved.")] = 7,
    config: options.Config = "speed",
    settings: options.Settings = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Keep the numbers there as JSON, after each length.", metavar="FILE")
    ] = None,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Time training steps over lengths: planned memory, fitted exponents, ratios to full attention.

    All models at one length are compiled in one process and run in turn, on random tokens.

    Example: lra bench --lengths 1024,4096 --model softmax,linear
    """
    from lra_bench import matrix, store
    from lra_bench.cli import progress, screen
    from lra_bench.report import scaling

    task = next(iter(matrix.task_names("all", tuple(include_path or ()))))
    request = matrix.Request(
        model, task, config, settings=tuple(settings or ()), include=tuple(include_path or ())
    )  # fmt: skip
    facts: list[dict[str, Any]] = []
    with progress.watching() as watch:
        for measured in matrix.bench(request, options.counts(lengths, "--lengths"), rounds, watch):
            facts += measured
            if out is not None:
                store.write_json(out, facts)
    if json:
        screen.print_json(facts)
        return
    for table in scaling.tables(facts):
        screen.out.print(screen.titled(table.title, table.rows))
