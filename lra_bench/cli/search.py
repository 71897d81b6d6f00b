"""`lra tune` and `lra search`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lra_bench.cli import app, completion, options

if TYPE_CHECKING:
    from lra_bench.search import Found, Study, Trial

Trials = Annotated[int, typer.Option("--trials", min=1, help="Total number of trials, earlier ones included.")]
Show = Annotated[bool, typer.Option("--show", help="Show what the study holds, and start nothing.")]


@app.command()
def tune(
    model: options.Model,
    task: options.Task,
    trials: Trials = 20,
    config: options.Config = options.RECIPE,
    space: Annotated[
        str,
        typer.Option("--space", help="The search space.", metavar="NAME|file.yaml", autocompletion=completion.spaces),
    ] = "optimizer",
    settings: options.Settings = None,
    seed: options.Seed = 0,
    limit: options.Limit = None,
    results: options.Results = options.RESULTS,
    jobs: options.Jobs = None,
    show: Show = False,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Tune a config's settings on validation alone. Poor trials are pruned, and the best become a config of yours.

    Each trial takes as long as a run of the config, or less if it is pruned. The study is kept in RESULTS/tune; after
    Ctrl-C or `kill -9` the same command resumes. Results under the new config record what it cost to find
    (`lra compare --budget`).

    Example: lra tune -m linformer -t listops -c quick --trials 20
    """
    from lra_bench import config as room
    from lra_bench.cli import screen
    from lra_bench.search import Question, Study, kept
    from lra_bench.sweeps import Request

    include = tuple(include_path or ())
    asked = Request(model, task, config, (seed,), None, tuple(settings or ()), limit, include)
    study = Study.of(Question(asked, room.space(space, include), seed), results / "tune")
    found = _found(study, trials, jobs, show=show)
    points = kept(study, found)
    if json:
        best, recipe = (found.best._asdict(), points[0]["config"]) if found.best else (None, None)
        every = [trial._asdict() for trial in found.trials]
        screen.print_json({"best": best, "tuned": found.tuned.model_dump(), "config": recipe, "trials": every})
        return
    _show(study, found, points)


@app.command()
def search(
    task: options.Task,
    trials: Trials = 30,
    config: options.Config = options.RECIPE,
    space: Annotated[
        str,
        typer.Option("--space", help="The search space.", metavar="NAME|file.yaml", autocompletion=completion.spaces),
    ] = "architecture",
    max_params: Annotated[int | None, typer.Option("--max-params", min=1, help="Maximum number of parameters.")] = None,
    max_ms: Annotated[
        float | None, typer.Option("--max-ms", min=1e-3, help="Maximum time of a batch's forward pass, in ms.")
    ] = None,
    max_memory: Annotated[
        float | None, typer.Option("--max-memory", min=1e-3, help="Maximum compiled memory of a training step, in MiB.")
    ] = None,
    settings: options.Settings = None,
    seed: options.Seed = 0,
    limit: options.Limit = None,
    results: options.Results = options.RESULTS,
    jobs: options.Jobs = None,
    show: Show = False,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Search for architectures: the mixer of each layer, width and depth. The result is a Pareto front.

    Each is judged by its validation score and by the quantity that is limited, or by parameters if none is. What
    exceeds a limit is not trained; each other trial takes as long as a run of the config. The study is in
    RESULTS/search; after Ctrl-C or `kill -9` the same command resumes.

    Example: lra search -t listops -c quick --max-params 60000 --trials 30
    """
    from lra_bench import config as room
    from lra_bench.cli import screen
    from lra_bench.search import Question, Study, kept
    from lra_bench.sweeps import Request

    include = tuple(include_path or ())
    asked = Request("", task, config, (seed,), None, tuple(settings or ()), limit, include)
    most = {"params": max_params, "inference_ms_p50": max_ms, "compiled_bytes": max_memory and max_memory * 2**20}
    weighed = {cost: limit for cost, limit in most.items() if limit is not None}
    costs: dict[str, float | None] = {**weighed} if weighed else {"params": None}
    study = Study.of(Question.of_architecture(asked, room.space(space, include), seed, costs), results / "search")
    found = _found(study, trials, jobs, show=show)
    points = kept(study, found)
    if json:
        every = [trial._asdict() for trial in found.trials]
        screen.print_json({"front": points, "tuned": found.tuned.model_dump(), "limits": costs, "trials": every})
        return
    _show(study, found, points)


def _found(study: Study, trials: int, jobs: int | None, *, show: bool) -> Found:
    from lra_bench.cli import progress, screen
    from lra_bench.cli.run import warn_of
    from lra_bench.launch.engine import Stopped

    if not show:
        warn_of([study.question.run])
    try:
        with progress.watching(trials) as watch:
            return study.found() if show else study.run(trials, jobs or 1, watch)
    except Stopped:
        screen.err.print(
            f"stopped and saved in {study.folder}; the same command resumes", style="yellow", soft_wrap=True
        )
        raise typer.Exit(130) from None


def _show(study: Study, found: Found, points: list[dict[str, Any]]) -> None:
    from lra_bench.cli import screen

    run, t, several = study.question.run, found.tuned, bool(study.question.costs)
    front = {point["number"] for point in points}
    lines = [_line(study, trial, several and trial.number in front) for trial in found.trials]
    if not any(line["why"] for line in lines):
        lines = [{key: said for key, said in line.items() if key != "why"} for line in lines]
    notes = [f"{t.trials} trials, {t.pruned} pruned, {t.steps:,} steps, {t.hours:.2f} hours; evaluated on val alone"]
    notes += ["*: the Pareto front: no other has as good a score at as little cost"] if several else []
    title = f"architectures on {run.task.name}" if several else f"{run.model} on {run.task.name}"
    screen.out.print(screen.titled(title, lines, notes))
    for point in points:
        screen.out.print(point["command"], soft_wrap=True, markup=False, highlight=False)


def _line(study: Study, trial: Trial, on_front: bool) -> dict[str, str]:
    """A trial's line of the table."""
    from lra_bench.cli import screen

    question, costs = study.question, trial.costs
    said = {"trial": f"{trial.number}{'*' if on_front else ''}", "state": trial.state}
    said |= {"val": screen.score(trial.val_score, question.run.task.metric) or "", "steps": f"{trial.steps:,}"}
    if question.costs:
        said |= {"model": question.model(trial.settings) if trial.settings else ""}
        said |= {"params": f"{costs['params']:,.0f}" if costs else ""}
        said |= {"MiB a step": screen.mebibytes(int(costs["compiled_bytes"])) or "" if costs else ""}
    if "inference_ms_p50" in question.costs:
        said |= {"ms": f"{costs['inference_ms_p50']:.3g}" if costs else ""}
    for key in question.settings:
        value = trial.settings.get(key, "")
        said[key.removeprefix("backbone.")] = f"{value:.3g}" if isinstance(value, float) else str(value)
    return {**said, "why": trial.why or ""}
