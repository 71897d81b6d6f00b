"""`lra export` and `lra predict`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lra_bench.cli import app, options
from lra_bench.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from lra_bench.config import TaskSpec
    from lra_bench.export.of_run import Exported

SUFFIX = ".lra"


@app.command()
def export(
    run: options.Run,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The file to write; the default is RUN.lra in the working folder.", metavar="FILE"),
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Fix the batch size; the default accepts any.")
    ] = None,
    platforms: Annotated[
        str | None,
        typer.Option(
            "--platforms", help="Platforms: cpu, cuda, rocm, tpu, comma-separated; the default is this machine's."
        ),
    ] = None,
    results: options.Results = options.RESULTS,
    json: options.Json = False,
) -> None:
    """Write a finished run's model as one file of StableHLO and weights, and check it against the run.

    Example: lra export linformer-listops-quick-s0-0123456789
    """
    from lra_bench.cli import progress, screen
    from lra_bench.export.of_run import exported
    from lra_bench.records import store
    from lra_bench.runs.loaded import Trained

    folder = store.find(run, results)
    wanted = [part.strip() for part in platforms.split(",")] if platforms else None
    with progress.counting(folder.name) as count:
        held = exported(Trained.open(folder, count), out or Path(f"{folder.name}{SUFFIX}"), batch, wanted)
    if json:
        screen.print_json({**held._asdict(), "path": str(held.path)})
        return
    line = {
        "file": str(held.path), "KiB": f"{held.bytes / 2**10:,.0f}", "examples at once": held.batch or "any",
        "held against the run": f"on {held.checked[0]}: {held.examples} examples, {held.other_answers} answered "
        "otherwise" if held.checked else "nowhere",
        "furthest logit": "" if held.furthest is None else f"{held.furthest:.1e}",
    }  # fmt: skip
    screen.out.print(screen.titled("exported", [line], _unchecked(held)))


def _unchecked(held: Exported) -> list[str]:
    others = ", ".join(held.unchecked)
    return [f"{others}: not checked; traced here, to be held against the run on such a machine"] if others else []


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A finished run, or a file of `lra export`.", metavar="RUN|FILE.lra")],
    file: Annotated[
        str, typer.Argument(help="The inputs, one a line, a tab between the two of a pair; - is stdin.", metavar="FILE")
    ],
    top: Annotated[int, typer.Option("--top", min=1, help="Number of classes to show, the most likely first.")] = 1,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Batch size.")] = options.BATCH,
    cut: Annotated[bool, typer.Option("--cut", help="Truncate inputs that are longer than the model reads.")] = False,
    results: options.Results = options.RESULTS,
    json: options.Json = False,
) -> None:
    """Predict with a trained model on new inputs, which are written as `lra data show` writes the task's own.

    Example: echo '[MAX 2 9 [MIN 4 7 ] 0 ]' | lra predict linformer-listops-quick-s0-0123456789 -
    """
    from lra_bench.cli import progress, screen
    from lra_bench.export import inputs

    lines = _lines(file)
    with progress.counting("predicting") as count:
        task, answer, classes = _model(model, results, count)
        tokens = inputs.tokens(task, lines, "stdin" if file == "-" else file, cut=cut)
        said = list(inputs.predictions(task, answer, tokens, batch, top, classes, count))
    if json:
        screen.print_json(said)
        return
    shown = [{"": number, **{key: _shown(value) for key, value in one.items()}} for number, one in enumerate(said, 1)]
    screen.out.print(screen.table(shown))


def _lines(file: str) -> list[str]:
    from lra_bench.export import inputs

    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    return inputs.read(content, "stdin" if file == "-" else file)


def _model(
    model: str, results: Path, count: Callable[..., None]
) -> tuple[TaskSpec, Callable[[Any], np.ndarray], list[str] | None]:
    """The task that a run or a file answers, what answers, tokens [B, S, L] -> logits, and the classes' names."""
    from lra_bench import data
    from lra_bench.cli import screen
    from lra_bench.config import Overlay, TaskSpec, validated
    from lra_bench.export import artifact, inputs
    from lra_bench.export.of_run import predictor
    from lra_bench.records import store
    from lra_bench.runs.loaded import Trained

    if Path(model).is_file():
        made = artifact.read(Path(model))
        task = validated(TaskSpec, made.card["task"], [Overlay(model, made.card["task"])])
        if inputs.nameless(made.card, task):
            screen.warn([f"{model}: an earlier version exported it without its classes' names; they are numbers here"])
        return task, made, inputs.known(made.card, task, model)
    trained = Trained.open(store.find(model, results), count)
    return trained.run.task, predictor(trained), data.about(trained.run.task).classes


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{name} {100 * p:.1f}%" for name, p in value.items())
    if isinstance(value, list):
        return " ".join(f"{x:.4g}" if isinstance(x, float) else str(x) for x in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
