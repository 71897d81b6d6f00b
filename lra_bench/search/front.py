"""What a study leaves: the trials that none beats, each with a recipe and the line that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lra_bench.config import Tuned
from lra_bench.metrics import named
from lra_bench.records import store
from lra_bench.search.record import Trial
from lra_bench.search.search_space import Question
from lra_bench.search.study import Found, Study


def kept(study: Study, found: Found) -> list[dict[str, Any]]:
    """Those of the front, the best score first, as they are written to `front.json` in the study's folder.

    A study of one goal has one. Recipes of trials that are beaten by now are taken away.
    """
    question, folder = study.question, study.folder
    several = bool(question.costs)
    for old in folder.glob("*.yaml"):
        old.unlink()
    trials = found.front if several else found.front[:1]
    points = [_point(question, folder, trial, found.tuned, several=several) for trial in trials]
    store.write_json(folder / "front.json", points)
    return points


def _point(question: Question, folder: Path, trial: Trial, tuned: Tuned, *, several: bool) -> dict[str, Any]:
    run = question.run
    path = folder / f"{run.config_name}-{f'trial{trial.number}' if several else 'tuned'}.yaml"
    model = question.model(trial.settings)
    path.write_text(question.recipe(trial.settings, tuned, _says(question, trial, tuned, model)), encoding="utf-8")
    said = {"model": model, "config": str(path), "command": question.command(trial.settings, path)}
    return {**trial._asdict(), **said}


def _says(question: Question, trial: Trial, tuned: Tuned, model: str) -> str:
    run, metric = question.run, named(question.run.task.metric)
    assert trial.val_score is not None
    score = f"{trial.val_score:.1%}" if metric.share else f"{trial.val_score:.4g}"
    return (
        f"{run.config_name}, tuned for {model} on {run.task.name}: {tuned.trials} trials, {tuned.pruned} pruned,\n"
        f"{tuned.steps:,} steps, {tuned.hours:.2f} hours. Expect {score} on val; test was not read."
    )
