"""`lra probe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lra_bench.cli import app, options
from lra_bench.cli.written import How, Out, chosen, tell
from lra_bench.shapes import LAST_SEED


@app.command()
def probe(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.", metavar="RUN")],
    examples: Annotated[
        int, typer.Option("--examples", min=1, help="Number of test examples, from the first on.")
    ] = 64,
    places: Annotated[
        int, typer.Option("--places", min=1, help="Number of random positions of each example whose vectors are read.")
    ] = 8,
    seed: Annotated[
        int,
        typer.Option("--seed", min=0, max=LAST_SEED, help="Random seed for the positions and the resampled tokens."),
    ] = 0,
    format: How = None,
    out: Out = None,
    json: options.Json = False,
) -> None:
    """Measure a trained model's effective context: by gradients, by resampling far tokens, and by shuffling blocks.

    A run takes about a minute at a few hundred tokens, and longer in proportion to its length.

    Example: lra probe results/runs/linformer-listops-quick-s0-0123456789
    """
    from lra_bench.analysis import effective_context as room
    from lra_bench.cli import progress
    from lra_bench.report import effective_context
    from lra_bench.runs.loaded import Trained

    how, found = chosen(format, json=json, out=out), []
    for run in runs:
        with progress.counting(run.name) as count:
            trained = Trained.open(run, count)
            probed = room.probe(trained, examples, places, seed, count)
            found.append((run.name, trained.run.task.metric, probed))
    tell(effective_context.report(found), how, out)
