"""`lra data prepare|verify|show|export`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lra_bench.cli import app, completion, options
from lra_bench.cli.commands import App

if TYPE_CHECKING:
    from lra_bench.config import TaskSpec
    from lra_bench.data.examples import Example

data = App(help="Make, verify, show and export a task's examples.")
app.add_typer(data, name="data")

Task = Annotated[
    str,
    typer.Argument(help="A task's name or its YAML file.", metavar="TASK", autocompletion=completion.one_task),
]
Variant = Annotated[
    str | None,
    typer.Option("--variant", help="A named variant of the task.", metavar="NAME", autocompletion=completion.variants),
]
Split = Annotated[str, typer.Option("--split", help="train, val or test.")]


def _task(task: str, variant: str | None, settings: list[str] | None, include: list[Path] | None) -> TaskSpec:
    from lra_bench import sweeps

    return sweeps.task(task, variant, tuple(settings or ()), tuple(include or ()))


@data.command()
def prepare(
    task: Task,
    variant: Variant = None,
    record: Annotated[
        bool, typer.Option("--record", help="Record their hash in tasks/hashes.csv for lra data verify.")
    ] = False,
    settings: options.Settings = None,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Make or fetch the examples, once, into the cache.

    Example: lra data prepare listops
    """
    from lra_bench import data as room
    from lra_bench.cli import progress, screen
    from lra_bench.data import checksums, verification
    from lra_bench.data.made import COLUMNS

    spec = _task(task, variant, settings, include_path)
    with progress.counting(spec.name) as count:
        dataset = room.prepare(spec, count)
    if record:
        checksums.record(spec, dataset.hash, Path("tasks") / checksums.NAME)
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    facts = {"task": spec.name, **sizes, "sha256": dataset.hash, "folder": str(dataset.folder), "new": dataset.fresh}
    facts |= {name: said for name in COLUMNS if (said := getattr(dataset.about, name)) is not None}
    remarks = verification.remarks(spec, dataset)
    if json:
        screen.print_json({**facts, "classes": dataset.about.classes, "remarks": remarks})
    else:
        screen.out.print(screen.card("data", facts))
        for remark in remarks:
            screen.out.print(remark, soft_wrap=True)


@data.command()
def verify(
    task: Task,
    variant: Variant = None,
    settings: options.Settings = None,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Check every example: files, the hash on record, counts, labels re-derived, duplicates, lengths, vocabulary.

    Example: lra data verify listops
    """
    from lra_bench import data as room
    from lra_bench.cli import progress, screen

    spec = _task(task, variant, settings, include_path)
    with progress.counting(spec.name) as count:
        verification = room.verify(spec, count, tuple(include_path or ()))
    found = [{"check": c.name, "ok": "ok" if c.ok else "WRONG", "detail": c.detail} for c in verification]
    if json:
        screen.print_json([c._asdict() for c in verification])
    else:
        screen.out.print(screen.titled(spec.title, found))
    sys.exit(not all(c.ok for c in verification))


@data.command("show")
def show_examples(
    task: Task,
    split: Split = "train",
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Number of examples.")] = 3,
    png: Annotated[
        Path | None, typer.Option("--png", help="Also write pictures to this folder.", metavar="DIR")
    ] = None,
    variant: Variant = None,
    settings: options.Settings = None,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Show decoded examples, and pictures as pictures.

    Example: lra data show listops --n 3
    """
    from lra_bench.cli import progress, screen
    from lra_bench.data import examples as room
    from lra_bench.data import pictures

    spec = _task(task, variant, settings, include_path)
    with progress.counting(spec.name) as count:
        examples = room.shown(spec, split, n, count)
    if png is not None:
        screen.err.print(f"{_drawn(spec, split, examples, png)} pictures in {png}", highlight=False)
    if json:
        screen.print_json([{"label": e.label, "lengths": e.lengths, "streams": e.streams} for e in examples])
        return
    for index, example in enumerate(examples):
        lengths = " + ".join(str(length) for length in example.lengths)
        screen.out.print(screen.styled(f"{spec.name} {split} {index}", "bold"), end="")
        screen.out.print(f"  label {example.label}  {lengths} tokens")
        for text in [] if example.pictures else example.streams:
            screen.out.print(text, markup=False, highlight=False)
        for picture in example.pictures:
            screen.out.print(screen.picture(pictures.fitted(picture, screen.out.width)))


def _drawn(spec: TaskSpec, split: str, examples: list[Example], folder: Path) -> int:
    """Write the examples' pictures into a folder; how many.

    Raises:
        ConfigError: they are no pictures.
    """
    from lra_bench.data import pictures
    from lra_bench.errors import ConfigError

    drawn = [(index, picture) for index, example in enumerate(examples) for picture in example.pictures]
    if not drawn:
        raise ConfigError(f"--png {folder}: the examples of {spec.name} are no pictures")
    for index, picture in drawn:
        pictures.write(picture, folder / f"{spec.name}-{split}-{index}.png")
    return len(drawn)


@data.command()
def bench(
    task: options.Task,
    model: options.Model,
    config: options.Config = options.RECIPE,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Timed steps of each model.")] = 5,
    settings: options.Settings = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the numbers to this file as JSON.", metavar="FILE")
    ] = None,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Measure whether the input keeps up with the training step: examples a second made, batched and consumed.

    Example: lra data bench -t listops,needle -m fnet
    """
    from lra_bench import sweeps
    from lra_bench.cli import progress, screen
    from lra_bench.records import store

    asked = sweeps.Request(model, task, config, settings=tuple(settings or ()), include=tuple(include_path or ()))
    facts = []
    with progress.watching() as watch:
        for measured in sweeps.supply(sweeps.runs(asked), rounds, watch):
            facts.append(measured)
            if out is not None:
                store.write_json(out, facts)
    if json:
        screen.print_json(facts)
    else:
        screen.out.print(screen.supply(facts))
    for fact in facts:
        if fact["error"]:
            screen.err.print(f"{fact['task']}: {fact['error']}", style="red", markup=False, soft_wrap=True)
    sys.exit(any(fact["error"] for fact in facts))


@data.command()
def export(
    task: Task,
    out: Annotated[Path, typer.Option("--out", help="The file to write.", metavar="FILE.tsv")],
    split: Split = "test",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most this many examples.")] = None,
    variant: Variant = None,
    settings: options.Settings = None,
    include_path: options.Include = None,
) -> None:
    """Write the examples in the field's own form.

    Example: lra data export listops --split test --out basic_test.tsv
    """
    from lra_bench.cli import progress, screen
    from lra_bench.data import examples as room

    spec = _task(task, variant, settings, include_path)
    with progress.counting(spec.name) as count:
        written = room.export(spec, split, out, limit, count)
    screen.err.print(f"{written} examples of {spec.name} {split} in {out}", highlight=False)
