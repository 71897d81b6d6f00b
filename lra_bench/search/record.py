"""What Optuna keeps of a study's trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from lra_bench.config import Scalar
from lra_bench.search.search_space import Question

REPEATS = 50  # suggestions, nothing new among them, after which there is nothing new


class Trial(NamedTuple):
    """One that has ended."""

    number: int
    state: str
    val_score: float | None
    steps: int
    seconds: float
    settings: dict[str, Scalar]
    costs: dict[str, float]  # what is known of them: params, compiled_bytes, inference_ms_p50
    why: str | None


def tell(study: optuna.Study, trial: optuna.Trial, question: Question, said: Mapping[str, Any]) -> None:
    """Keep what became of a trial, and let the sampler know."""
    for key, value in said.items():
        trial.set_user_attr(key, value)
    facts, state = said.get("facts", {}), said["state"]
    for cost, most in question.costs.items():
        if most is not None and facts:
            trial.set_constraint(cost, facts[cost] / most - 1)
    values = [facts[goal] for goal in ("val_score", *question.costs)] if state == "done" else None
    ends = {"done": TrialState.COMPLETE, "failed": TrialState.FAIL}
    study.tell(trial, values, ends.get(state, TrialState.PRUNED))


def ended(study: optuna.Study) -> list[FrozenTrial]:
    """Neither a trial that was killed, which is asked for again, nor one that repeats another."""
    return [t for t in _over(study) if "repeat" not in t.user_attrs]


def _over(study: optuna.Study) -> list[FrozenTrial]:
    return [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and "killed" not in t.user_attrs]


def exhausted(study: optuna.Study) -> bool:
    """Was nothing new suggested for so long that there is nothing?"""
    last = _over(study)[-REPEATS:]
    return len(last) == REPEATS and all("repeat" in t.user_attrs for t in last)


def take_up(study: optuna.Study) -> None:
    """Trials that ran when the study was killed are asked for again; they resume from their checkpoints."""
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.RUNNING:
            study._storage.set_trial_user_attr(trial._trial_id, "killed", True)
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)


def read(trial: FrozenTrial) -> Trial:
    said, evaluations = trial.user_attrs, trial.intermediate_values
    facts: Mapping[str, Any] = said.get("facts", {})
    score = facts.get("val_score", evaluations[max(evaluations)] if evaluations else None)
    costs = {key: facts[key] for key in ("params", "compiled_bytes", "inference_ms_p50") if key in facts}
    return Trial(
        trial.number,
        said["state"],
        score,
        int(said["steps"]),
        float(said["seconds"]),
        trial.params,
        costs,
        said.get("why"),
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna's own lines are not for the user."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
