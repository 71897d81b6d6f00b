"""`lra quantize`, `lra prune`, `lra distill` and `lra adapt`: what is done with a run that has finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from lra_bench.cli import app, completion, options
from lra_bench.errors import ConfigError

if TYPE_CHECKING:
    from lra_bench.config import Overlay, Run, Technique
    from lra_bench.sweeps import Settings

Steps = Annotated[int, typer.Option("--steps", min=0, help="Steps of continued training, with the run's config.")]
Results = Annotated[Path | None, typer.Option("-o", "--results", help="The run's results folder.", metavar="DIR")]


class By(StrEnum):
    magnitude = "magnitude"
    movement = "movement"


@app.command()
def quantize(
    run: options.Run,
    bits: Annotated[str, typer.Option("--bits", help="Bits of a weight: 8 or 4, comma-separated.")] = "8,4",
    activations: Annotated[str, typer.Option("--activations", help="Bits of an activation: 32 or 8.")] = "32",
    steps: Steps = 0,
    results: Results = None,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """Quantize a finished run's model to integers, and measure its size, speed and accuracy.

    Each setting takes about a minute without --steps.

    Example: lra quantize linformer-listops-quick-s0-0123456789 --bits 8 --activations 8
    """
    several = [
        {"weights": b, "activations": a, "steps": steps}
        for b in options.choices(bits, "--bits", (8, 4))
        for a in options.choices(activations, "--activations", (32, 8))
    ]
    _after(run, results, "quantize", several, jobs, json=json)


@app.command()
def prune(
    run: options.Run,
    sparsity: Annotated[
        str | None, typer.Option("--sparsity", help="Shares of the weights to prune, such as 0.5,0.9.")
    ] = None,
    heads: Annotated[float, typer.Option("--heads", min=0, max=0.99, help="Share of the heads to remove.")] = 0.0,
    neurons: Annotated[
        float, typer.Option("--neurons", min=0, max=0.99, help="Share of the MLPs' neurons to remove.")
    ] = 0.0,
    by: Annotated[By, typer.Option("--by", help="The criterion; movement needs --steps.")] = By.magnitude,
    steps: Steps = 0,
    results: Results = None,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """Prune a finished run's model: set weights to zero, or remove heads and neurons.

    Each sparsity takes about a minute, and as long as --steps of training.

    Example: lra prune softmax-listops-quick-s0-0123456789 --sparsity 0.5,0.7,0.9 --steps 100
    """
    shares = options.shares(sparsity or "0", "--sparsity")
    if not any((*shares, heads, neurons)):
        raise ConfigError("nothing is taken out: --sparsity 0.5,0.9, --heads 0.5 or --neurons 0.5 say how much")
    several = [{"sparsity": s, "heads": heads, "neurons": neurons, "by": by.value, "steps": steps} for s in shares]
    _after(run, results, "prune", several, jobs, json=json)


@app.command()
def distill(
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher",
            help="The teacher, a finished run: its folder, id or name.",
            metavar="RUN",
            autocompletion=completion.runs,
        ),
    ],
    model: options.Model,
    settings: options.Settings = None,
    results: Results = None,
    jobs: options.Jobs = None,
    json: options.Json = False,
) -> None:
    """Train models with a finished run's model as their teacher, under its config.

    Each takes as long as its training and the teacher's predictions.

    `--set distill.temperature=4 --set distill.hidden=1` and the like say how; configs/techniques/base.yaml has all.
    `--set backbone.layers=1 --set backbone.width=32` and the like make the student another one.

    Example: lra distill --teacher softmax-listops-quick-s0-0123456789 --model linformer
    """
    from lra_bench import config, sweeps
    from lra_bench.records import store

    folder = _found(teacher, results)
    asked, choices = store.read_run(folder), sweeps.models(model)
    parsed = sweeps.Settings.parse(settings or (), None, [part.model_card for choice in choices for part in choice])
    if parsed.task:
        raise ConfigError(f"{parsed.task[0].origin}: the task is the teacher's")
    named = config.Overlay("--teacher", {"distill": {"teacher": asked.model}})
    technique = _technique("distill", named, parsed)
    every = [
        sweeps.taught(sweeps.of_model(asked, choice, parsed).with_technique("distill", technique), asked)
        for choice in choices
    ]
    _run(every, folder, jobs, json=json)


@app.command()
def adapt(
    run: options.Run,
    task: options.Task,
    rank: Annotated[int, typer.Option("--rank", min=0, help="Rank of LoRA; 0 adds none.")] = 0,
    bottleneck: Annotated[int, typer.Option("--bottleneck", min=0, help="Width of the adapters; 0 adds none.")] = 0,
    whole: Annotated[bool, typer.Option("--whole", help="Train the backbone too, instead of freezing it.")] = False,
    settings: options.Settings = None,
    results: Results = None,
    jobs: options.Jobs = None,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Adapt a finished run's model to other tasks: the backbone is frozen, the head and what is added are trained.

    Each takes at most as long as a run of that task under the run's config.

    Example: lra adapt softmax-listops-quick-s0-0123456789 --task mqar --rank 8
    """
    from lra_bench import config, sweeps
    from lra_bench.records import store

    folder = _found(run, results)
    start, include = store.read_run(folder), tuple(include_path or ())
    parsed = sweeps.Settings.parse(settings or (), None, [])
    chosen = {"start": [start.task.name], "rank": rank, "bottleneck": bottleneck, "frozen": not whole}
    technique = _technique("adapt", config.Overlay("lra adapt", {"adapt": chosen}), parsed)
    every = [
        sweeps.on_task(start, name, include, parsed)
        .with_technique("adapt", technique)
        .model_copy(update={"start": start})
        for name in sweeps.task_names(task, include)
    ]
    _run(every, folder, jobs, json=json)


def _technique(name: str, own: Overlay, parsed: Settings) -> Technique:
    """The one technique of a command, as settings change it.

    Raises:
        ConfigError: a setting is of another technique, or of what the command itself says.
    """
    from lra_bench import config

    other = next((overlay for overlay in parsed.techniques if set(overlay.values) != {name}), None)
    if other:
        raise ConfigError(f"{other.origin}: of the techniques, {name} alone can be set here")
    twice = next((overlay for overlay in parsed.techniques if set(overlay.values[name]) & set(own.values[name])), None)
    if twice:
        raise ConfigError(f"{twice.origin}: the command's own options say that")
    technique: Technique = config.techniques((), [own, *parsed.techniques]).applied()[name]
    return technique


def _after(
    run: str, results: Path | None, name: str, several: Sequence[dict[str, Any]], jobs: int | None, *, json: bool
) -> NoReturn:
    """Apply one technique to the run's model, once for each of several settings."""
    from lra_bench import config, sweeps
    from lra_bench.records import store

    folder = _found(run, results)
    start = store.read_run(folder)

    def runs() -> Iterator[Run]:
        for chosen in several:
            technique = config.techniques((), [config.Overlay(f"lra {name}", {name: chosen})]).applied().get(name)
            yield start if technique is None else sweeps.after(start, name, technique, chosen["steps"])

    _run([start, *runs()], folder, jobs, json=json)


def _found(run: str, results: Path | None) -> Path:
    from lra_bench.records import store
    from lra_bench.records.provenance import answering

    folder = store.find(run, results or options.RESULTS)
    answering(folder)
    return folder


def _run(every: Sequence[Run], folder: Path, jobs: int | None, *, json: bool) -> NoReturn:
    """Execute the runs in the folder of the run that they depend on."""
    from lra_bench import config
    from lra_bench.cli.run import run_all
    from lra_bench.launch.engine import Order

    order = Order(folder.parent.parent, jobs=jobs)
    run_all(every, config.launcher(None), order, fail_fast=False, track=None, json=json)
