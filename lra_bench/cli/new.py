"""`lra new` and `lra verify`."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from lra_bench.cli import app, completion, options
from lra_bench.cli.commands import App

create = App(help="Start a mixer or a task of your own.")
app.add_typer(create, name="new")


@create.command("model")
def new_model(
    name: Annotated[str, typer.Argument(help="The mixer's name: a-z, 0-9 and -.")],
    family: Annotated[
        str,
        typer.Option(
            "--family",
            help="The family after the survey, one of: {families}.",
            metavar="NAME",
            autocompletion=completion.families,
        ),
    ],
    folder: Annotated[Path, typer.Option("--folder", help="The folder to write the files to.", metavar="DIR")] = Path(),
) -> None:
    """Write a mixer's file and its test, which pass the conformance checks as they are.

    Example: lra new model mine --family kernel
    """
    from lra_bench import templates

    mixer, test = templates.model(name, family, folder)
    typer.echo(f"{mixer}: the mixer; run it with `lra run -m {mixer} -t TASK`, certify it with `lra verify -m {mixer}`")
    typer.echo(f"{test}: its test; run it with `pytest {test}` (pip install pytest)")


@create.command("task")
def new_task(
    name: Annotated[str, typer.Argument(help="The task's name: a-z, 0-9 and -.")],
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="The source of its examples, or their format: csv, tsv, jsonl, parquet, npz, python, ...",
            metavar="NAME",
            autocompletion=completion.formats,
        ),
    ],
    folder: Annotated[Path, typer.Option("--folder", help="The folder to write the file to.", metavar="DIR")] = Path(
        "tasks"
    ),
) -> None:
    """Write a task's YAML with a comment on each key; --from python also writes the file of its source.

    Example: lra new task moods --from csv
    """
    from lra_bench import templates

    path = templates.task(name, source, folder)
    typer.echo(f"{path}: the task; `lra check {path}` says what is wrong, `lra run -t {path} -m MODEL` runs it")


@app.command()
def verify(model: options.Model, json: options.Json = False) -> None:
    """Run the conformance checks on mixers, and show PASS or FAIL with the measured numbers; N/A where the card claims
    nothing.

    A cross form, by which a target reads a source, is checked too, where a mixer has one.
    Where a mixer has several implementations, each is held against its reference, values and gradients, on this device;
    and what runs found of them on a GPU or a TPU, at sizes of theirs, is shown.
    `lra speed` tags what did not pass. Two mixers took 44 seconds of a CPU core.

    Example: lra verify -m mine.py
    """
    from lra_bench import mixers, sweeps
    from lra_bench.cli import screen
    from lra_bench.conformance import checks, crossing, record
    from lra_bench.measure.machine import where

    found, platform = [], str(where()["platform"])
    for model_card, turned in chain.from_iterable(sweeps.models(model)):
        ours = []
        chosen = mixers.turned(model_card, turned)
        held = checks.verify(model_card, turned), crossing.verify(model_card, turned)
        for verdict in chain(*held, checks.agree(model_card, chosen, platform), checks.kept(model_card)):
            ours.append({"model": model_card.name, **verdict._asdict()})
            if not json:
                color = "dim" if not verdict.claimed else "green" if verdict.passed else "red"
                screen.out.print(screen.styled(f"{verdict.word:5}", color), end="")
                screen.out.print(f" {model_card.name} {verdict.check}. {verdict.title}: ", end="", soft_wrap=True)
                screen.out.print(verdict.figures, markup=False, highlight=False, soft_wrap=True)
        record.keep(model_card.path, chosen, platform, [one for one in ours if one["check"] <= len(checks.CHECKS)])
        found += ours
    if json:
        screen.print_json(found)
    sys.exit(0 if all(verdict["passed"] for verdict in found) else 1)
