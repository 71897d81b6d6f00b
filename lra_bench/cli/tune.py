"""`lra tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lra_bench.cli import app, options

if TYPE_CHECKING:
    from lra_bench.search import Found, Study


@app.command()
def tune(
    model: options.Model,
    task: options.Task,
    trials: Annotated[int, typer.Option("--trials", min=1, help="In all, those of before among them.")] = 20,
    config: options.Config = options.RECIPE,
    space: Annotated[str, typer.Option("--space", help="What may be chosen.", metavar="NAME|file.yaml")] = "optimiser",
    settings: options.Settings = None,
    seed: options.Seed = 0,
    limit: options.Limit = None,
    results: options.Results = options.RESULTS,
    jobs: options.Jobs = None,
    show: Annotated[bool, typer.Option("--show", help="What the study holds; start nothing.")] = False,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Search for the settings of a recipe, on val alone. Poor trials are given up; the best become a recipe of yours.

    The study lies in RESULTS/tune; Ctrl-C saves, and the same command goes on, after `kill -9` too. Rows of that recipe
    say what it cost to find (`lra compare --ledger`).

    Example: lra tune -m linformer -t listops -c quick --trials 20
    """
    from lra_bench import config as room
    from lra_bench.cli import progress, screen
    from lra_bench.launch.engine import Stopped
    from lra_bench.matrix import Request
    from lra_bench.search import Study

    include = tuple(include_path or ())
    asked = Request(model, task, config, (seed,), None, tuple(settings or ()), limit, include)
    choices = room.space(space, include)
    study = Study.of(asked, choices, results / "tune", seed)
    try:
        with progress.watching(trials) as watch:
            found = study.found() if show else study.run(trials, jobs or 1, watch)
    except Stopped:
        screen.err.print(
            f"stopped and saved in {study.folder}; the same command goes on", style="yellow", soft_wrap=True
        )
        raise typer.Exit(130) from None
    recipe = _kept(study, found, config, include)
    if json:
        best = found.best._asdict() if found.best else None
        tuned = found.tuned.model_dump()
        every = [trial._asdict() for trial in found.trials]
        screen.print_json({"best": best, "tuned": tuned, "recipe": recipe and str(recipe), "trials": every})
        return
    _show(study, found, recipe)


def _kept(study: Study, found: Found, name: str, include: tuple[Path, ...]) -> Path | None:
    """The best settings as a recipe in the study's folder; None if no trial came to its end."""
    from lra_bench import config
    from lra_bench.cli import screen

    if found.best is None:
        return None
    cell, t = study.cell, found.tuned
    score = screen.score(found.best.val_score, cell.task.metric)
    says = (
        f"{cell.recipe_name}, tuned for {cell.model} on {cell.task.name}: {t.trials} trials, {t.pruned} given up,\n"
        f"{t.steps:,} steps, {t.hours:.2f} hours. Expect {score} on val; test was not read."
    )
    path = study.folder / f"{cell.recipe_name}-tuned.yaml"
    given = {".".join(key): value for key, value in map(config.setting, study.request.settings)}
    path.write_text(config.recipe_text(config.recipe(name, include), {**given, **found.best.settings}, t, says))
    return path


def _show(study: Study, found: Found, recipe: Path | None) -> None:
    from lra_bench.cli import screen

    metric = study.cell.task.metric
    lines = [
        {"trial": t.number, "state": t.state, "val": screen.score(t.val_score, metric), "steps": t.steps,
         **{key: f"{value:.3g}" if isinstance(value, float) else str(value) for key, value in t.settings.items()},
         "why": t.why or ""}
        for t in found.trials
    ]  # fmt: skip
    t = found.tuned
    notes = [f"{t.trials} trials, {t.pruned} given up, {t.steps:,} steps, {t.hours:.2f} hours; val alone was looked at"]
    if recipe:
        notes.append(f"lra run -m {study.cell.model} -t {study.cell.task.name} -c {recipe}")
    screen.out.print(screen.titled(f"{study.cell.model} on {study.cell.task.name}", lines, notes))
