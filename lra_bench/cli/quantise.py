"""`lra quantise`."""

from __future__ import annotations

from typing import Annotated

import typer

from lra_bench.cli import app, options


@app.command()
def quantise(
    run: options.Run,
    bits: Annotated[str, typer.Option("--bits", help="Of a weight: 32, 8 or 4, comma-separated.")] = "32,8,4",
    results: options.Results = options.RESULTS,
    json: options.Json = False,
) -> None:
    """A finished run's model with its weights in few bits: what it takes to keep, and what that costs in accuracy.

    Example: lra quantise results/runs/linformer-listops-quick-s0-0123456789
    """
    from lra_bench import store
    from lra_bench.cli import progress, screen
    from lra_bench.trained import Trained, in_bits

    widths = options.counts(bits, "--bits")
    folder = store.find(run, results)
    with progress.counting(folder.name) as count:
        readings = list(in_bits(Trained.open(folder, count), widths, count))
    if json:
        screen.print_json([reading._asdict() for reading in readings])
        return
    screen.out.print(screen.quantised(folder.name, readings))
