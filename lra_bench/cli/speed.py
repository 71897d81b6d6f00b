"""`lra speed` and `lra scale`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lra_bench.cli import app, completion, options, reading
from lra_bench.cli.written import How, Out, chosen, tell
from lra_bench.errors import ConfigError
from lra_bench.measure.asked import DECODING

if TYPE_CHECKING:
    from lra_bench.report.tables import Report
    from lra_bench.sweeps import Request, Speed

# The full mixer in its best and its plain form stand for what the others are measured against.
MODELS = "family:full,family:full[impl=plain],all"
CAUSAL = ("backbone.causal=true", "backbone.pool=last")  # what decodes
LENGTHS = "1024,2048,4096,8192,16384"
# What says what is measured, so nothing where no more than a file is read.
MEASURED = (
    "model", "task", "lengths", "batch", "mode", "rounds", "peak", "largest_batch", "memory", "config", "settings",
    "out", "include_path",
)  # fmt: skip

Kept = Annotated[Path, typer.Argument(help="A file that lra speed --out wrote.", metavar="FILE")]
Memory = Annotated[
    str | None, typer.Option("--memory", help="Memory of the device, in place of this one's.", metavar="16GiB")
]


class Mode(StrEnum):
    train = "train"
    infer = "infer"
    prefill = "prefill"
    decode = "decode"


@app.command()
def speed(
    ctx: typer.Context,
    model: options.Model = MODELS,
    task: Annotated[
        str | None,
        typer.Option(
            "-t",
            "--task",
            help="Use this task's symbols and classes; the default is the config's.",
            metavar="NAME",
            autocompletion=completion.one_task,
        ),
    ] = None,
    lengths: Annotated[str, typer.Option("-n", "--lengths", help="Sequence lengths, comma-separated.")] = LENGTHS,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Batch size, in place of the config's.")] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            "--mode",
            help="Time the training step, the forward pass, or a causal model's prompt or token.",
        ),
    ] = Mode.train,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Timed steps of each model, interleaved.")] = 7,
    peak: Annotated[
        bool, typer.Option("--peak", help="Measure each model's peak memory in a process of its own.")
    ] = False,
    largest_batch: Annotated[
        bool, typer.Option("--largest-batch", help="Find the largest batch that fits, and time it.")
    ] = False,
    memory: Memory = None,
    device: options.Device = None,
    config: options.Config = "speed",
    settings: options.Settings = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the numbers to this file; what it holds already is not measured again."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--overwrite", help="Measure again what --out holds of these models and lengths.")
    ] = False,
    read: Annotated[
        Path | None, typer.Option("--read", help="Show the numbers of this file, and measure nothing.")
    ] = None,
    format: How = None,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Time training steps over lengths: steps a second, memory, FLOPs, ratios to full attention.

    All models at one length are compiled in one process and run in turn, on random tokens. Every model at the lengths
    that are standard took 80 minutes on two CPU cores; two or three models at two lengths take two minutes.

    With --device, steps are compiled for an accelerator and weighed, not run: estimates, kept apart from measurements.

    Example: lra speed -n 1024,4096 --model softmax,linear
    """
    from lra_bench import sweeps
    from lra_bench.config import recipe
    from lra_bench.records import store
    from lra_bench.report import estimates, scaling

    how = chosen(format, json=json)
    if fresh and out is None:
        raise ConfigError("--overwrite: measures again what --out holds, which is not named")
    if read is not None and (given := _given(ctx, MEASURED)):
        raise ConfigError(f"--read {read}: shows all that the file holds, and measures nothing; no {given} with it")
    if device is not None and (read is not None or largest_batch or peak or mode is not Mode.train):
        other = "--read, --peak, --largest-batch or --mode"
        raise ConfigError(f"--device {device}: estimates training steps; no {other} with it")
    if device is not None and (given := _given(ctx, ["rounds"])):
        raise ConfigError(f"--device {device}: estimates training steps, and times none; no {given} with it")
    if read is not None:
        if estimates.are(store.read_json(read)):
            tell(estimates.report(estimates.read(read)), how)
            return
        facts = scaling.read(read)
    else:
        if memory is not None and not largest_batch:
            raise ConfigError(f"--memory {memory}: of --largest-batch, which is not asked for")
        include = tuple(include_path or ())
        task = task or next(iter(recipe(config, include).tasks or sweeps.task_names("all", include)))
        decoding = mode.value in DECODING
        wanted = (*(CAUSAL if decoding else ()), *(settings or ()), *([f"training.batch={batch}"] if batch else []))
        request = sweeps.Request(model, task, config, settings=wanted, include=include)
        room = _room(memory) if largest_batch else None
        counts = options.counts(lengths, "--lengths")
        if device is not None:
            tell(estimates.report(_estimated(request, counts, device, out, fresh)), how)
            return
        facts = _measured(sweeps.Speed(request, counts, rounds, mode.value, peak, room), out, fresh)
    tell(scaling.report(facts), how)


def _given(ctx: typer.Context, names: Sequence[str]) -> str:
    """Those of the flags that the command line has."""
    flags = {param.name: param.opts[-1] for param in ctx.command.params if param.name in names}
    sources = {flag: ctx.get_parameter_source(name) for name, flag in flags.items() if name}
    return ", ".join(flag for flag, source in sources.items() if source is not None and source.name != "DEFAULT")


def _room(memory: str | None) -> int:
    from lra_bench.launch import local

    there = local.machine()["available_bytes"] if memory is None else _bytes(memory)
    if there is None:
        raise ConfigError("--largest-batch: this device does not say what memory it has; --memory does")
    return int(there)


def _bytes(text: str) -> int:
    said = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if not said:
        raise ConfigError(f"--memory {text}: must be a size as 16GiB, 800MB or a number of bytes")
    return int(float(said[1]) * (1024 if said[3] else 1000) ** " KMGT".index(said[2].upper() or " "))


def _measured(asked: Speed, out: Path | None, fresh: bool) -> list[dict[str, Any]]:
    from lra_bench import sweeps
    from lra_bench.cli import progress
    from lra_bench.records import store
    from lra_bench.report import scaling

    kept = scaling.read(out) if out is not None and out.exists() else []
    again = {(run.id, asked.mode, None) for group in asked.groups for run in group} if fresh else set()
    facts = [fact for fact in kept if _measures(fact) not in again]
    with _kept(out, fresh), progress.watching() as watch:
        for known in sweeps.speed(asked, facts, watch):
            facts = known
            if out is not None:
                store.update_json(out, partial(_with, new=[fact for fact in facts if fact not in kept]))
    return facts


def _measures(fact: Mapping[str, Any]) -> tuple[str, str, str | None]:
    """Of which run a fact is, of which mode, and of which effort of the compiler."""
    return fact["run"], fact.get("mode") or "train", fact.get("effort")


def _with(there: Sequence[dict[str, Any]] | None, new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a file holds, which another process may have written meanwhile, and what is new, in place of the older."""
    newer = set(map(_measures, new))
    return [*(fact for fact in there or () if _measures(fact) not in newer), *new]


def _estimated(
    request: Request, lengths: Sequence[int], device: str, out: Path | None, fresh: bool
) -> list[dict[str, Any]]:
    from lra_bench import config, sweeps
    from lra_bench.cli import progress, screen
    from lra_bench.records import store
    from lra_bench.report import estimates

    kept = estimates.read(out) if out is not None and out.exists() else []
    every, left_out = sweeps.able([run for n in lengths for run in sweeps.runs(replace(request, length=n))])
    screen.warn(left_out)
    asked = {(run.id, "train", sweeps.effort()) for run in every}
    facts = [fact for fact in kept if not fresh or _measures(fact) not in asked]
    with _kept(out, fresh), progress.watching(len(every)) as watch:
        for known in sweeps.estimated(every, config.device(device, request.include), facts, watch):
            facts = known
            if out is not None:
                store.update_json(out, partial(_with, new=[fact for fact in facts if fact not in kept]))
    return [fact for fact in facts if _measures(fact) in asked]


@contextmanager
def _kept(out: Path | None, fresh: bool) -> Iterator[None]:
    """Ctrl-C ends it with a line on what is kept."""
    from lra_bench.cli import screen
    from lra_bench.launch.engine import Stopped

    try:
        yield
    except Stopped:
        left = "what was not measured again is as it was" if fresh else "the same command resumes"
        kept = f"what is known is in {out}; {left}" if out else "nothing is kept without --out"
        screen.err.print(f"stopped; {kept}", style="yellow", soft_wrap=True)
        raise typer.Exit(130) from None


@app.command()
def scale(
    kept: Kept = options.SPEED,
    memory: Memory = None,
    results: Annotated[
        Path | None,
        typer.Option("--results", help="Fit the scores over length of the runs in this folder instead.", metavar="DIR"),
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Test a finished run at the lengths of -n instead.", metavar="RUN")
    ] = None,
    lengths: Annotated[
        str | None, typer.Option("-n", "--lengths", help="Sequence lengths for --run, comma-separated.")
    ] = None,
    settings: options.Settings = None,
    format: How = None,
    out: Out = None,
    json: options.Json = False,
) -> None:
    """Fit how time, memory and scores scale with length: exponents, crossover with softmax, maximum length.

    Of estimates, which lra speed --device keeps, it fits launches, bytes and FLOPs. With --results, it fits the scores
    of runs at several lengths; with --run, one run is tested at longer lengths.

    Example: lra scale results/speed/cpu.json --memory 16GiB
    """
    from lra_bench.records import store
    from lra_bench.report import estimates, scaling, scaling_fits
    from lra_bench.report import extrapolation as scores

    how = chosen(format, json=json, out=out)
    if run is not None and results is not None:
        raise ConfigError("--results and --run: one of the two")
    if run is None and (lengths or settings):
        raise ConfigError("-n and --set: are of --run")
    if memory is not None and (run is not None or results is not None):
        raise ConfigError(f"--memory {memory}: is of what `lra speed` kept, not of scores")
    if run is not None:
        made = _longer(run, lengths, settings or [])
    elif results is not None:
        with reading.frame([results]) as frame:
            made = scores.report(frame)
    elif estimates.are(store.read_json(kept)):
        made = estimates.growth(estimates.read(kept))
    else:
        made = scaling_fits.report(scaling.read(kept), None if memory is None else _bytes(memory))
    tell(made, how, out)


def _longer(run: Path, lengths: str | None, settings: Sequence[str]) -> Report:
    from lra_bench.analysis.extrapolation import over
    from lra_bench.cli import progress
    from lra_bench.records.provenance import finished
    from lra_bench.report.extrapolation import longer

    if lengths is None:
        raise ConfigError("--run: tested at which lengths? -n 256,512")
    task = finished(run).task
    with progress.counting(run.name) as count:
        readings = list(over(run, options.counts(lengths, "-n"), settings, count))
    return longer(run.name, task.length, task.metric, [reading._asdict() for reading in readings])
