"""A study: trials that are asked of Optuna, run, and told; kept in SQLite, and taken up where it was left."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from lra_bench import store
from lra_bench.config import Cell, Scalar, Tuned
from lra_bench.errors import CellFailed, ConfigError
from lra_bench.launch import local
from lra_bench.launch.engine import Stopped
from lra_bench.measure.clocks import Stopwatch
from lra_bench.metrics import named
from lra_bench.search.question import Question

MODULE = "lra_bench.trial"
STARTUP = 5  # trials before the first is given up: a median needs some
MOMENT = 0.5  # seconds between two looks for a Ctrl-C
TOO_DEAR = "over the limit"
ORDER = ("done", "pruned", TOO_DEAR, "failed")

Tell = Callable[[Cell, dict[str, Any]], None]


class Poor(Exception):
    """A trial that is worse than the median of those before it, at the same step."""


class Trial(NamedTuple):
    """One that has ended."""

    number: int
    state: str
    val_score: float | None
    steps: int
    seconds: float
    settings: dict[str, Scalar]
    costs: dict[str, float]  # what is known of them: params, planned_bytes, infer_ms_p50
    why: str | None


class Found(NamedTuple):
    """What a study came to."""

    trials: list[Trial]  # the best first, then those that were given up, were not trained, or failed
    front: list[Trial]  # those that none beats in every goal, the best score first; of one goal, the best
    tuned: Tuned

    @property
    def best(self) -> Trial | None:
        """The one with the best score."""
        return self.front[0] if self.front else None


@dataclass
class Study:
    """The answer to a question, searched for in a folder of its own."""

    question: Question
    folder: Path
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)

    @classmethod
    def of(cls, question: Question, root: Path) -> Study:
        """The question's study, which has a folder in `root`: the same question is the same study."""
        folder = root / question.name
        folder.mkdir(parents=True, exist_ok=True)
        return cls(question, folder)

    @property
    def higher(self) -> bool:
        """Is a higher score the better one?"""
        return named(self.question.cell.task.metric).higher

    def run(self, trials: int, jobs: int, tell: Tell) -> Found:
        """Go on until so many trials have ended, so many at once; what was found.

        Raises:
            Stopped: Ctrl-C; the study, and the state of the trials that ran, are saved.
            ConfigError: times are asked for of trials that run side by side.
        """
        if jobs > 1 and "infer_ms_p50" in self.question.costs:
            raise ConfigError("--max-ms: a trial's time is its own where none runs beside it; --jobs 1")
        with store.claimed(self.folder), _quiet():
            study = self._opened()
            _take_up(study)
            shares = local.shares(jobs)
            with ThreadPoolExecutor(jobs, "trial") as pool:
                running: dict[Future[None], list[int]] = {}
                try:
                    while len(_ended(study)) + len(running) < trials or running:
                        while shares and len(_ended(study)) + len(running) < trials:
                            share = shares.pop()
                            running[pool.submit(self._one, study, share, tell)] = share
                        for future in wait(running, MOMENT, FIRST_COMPLETED).done:
                            shares.append(running.pop(future))
                            future.result()
                except BaseException:
                    self._stopping.set()
                    raise
            return self.found()

    def found(self) -> Found:
        """What the study holds."""
        with _quiet():
            study = self._opened()
            trials = sorted(map(_trial, _ended(study)), key=self._rank)
            front = {t.number for t in study.best_trials}
        best = {t.user_attrs["cell"]: t.number for t in reversed(_ended(study)) if t.number in front}
        pruned = sum(t.state == "pruned" for t in trials)
        steps, hours = sum(t.steps for t in trials), sum(t.seconds for t in trials) / 3600
        tuned = Tuned(trials=len(trials), pruned=pruned, steps=steps, hours=hours)
        return Found(trials, [t for t in trials if t.number in best.values()], tuned)

    def _rank(self, trial: Trial) -> tuple[int, float]:
        score = trial.val_score
        return ORDER.index(trial.state), float("inf") if score is None else -score if self.higher else score

    def _opened(self) -> optuna.Study:
        costs: list[Literal["minimize"]] = ["minimize"] * len(self.question.costs)
        return optuna.create_study(
            storage=f"sqlite:///{self.folder / 'study.db'}",
            study_name="study",
            load_if_exists=True,
            directions=["maximize" if self.higher else "minimize", *costs],
            sampler=optuna.samplers.TPESampler(seed=self.question.seed),
            pruner=optuna.pruners.NopPruner() if costs else optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
        )

    def _one(self, study: optuna.Study, cores: list[int], tell: Tell) -> None:
        """Ask for a trial, run it, and tell what became of it."""
        trial, cell, watch = study.ask(), self.question.cell, Stopwatch()
        taken, values, state = [0], None, "failed"
        try:
            cell = self.question.asked(self.question.chosen(trial))
            facts = _known(study, cell)
            if facts is None:
                with local.on(cores):
                    facts = self._trained(trial, cell, taken, tell)
            trial.set_user_attr("facts", facts)
            for cost, most in self.question.costs.items():
                if most is not None:
                    trial.set_constraint(cost, facts[cost] / most - 1)
            state = "done" if "val_score" in facts else TOO_DEAR
            values = [facts[goal] for goal in ("val_score", *self.question.costs)] if state == "done" else None
        except Poor:
            state = "pruned"
        except (ConfigError, CellFailed) as error:
            trial.set_user_attr("why", str(error))
        told = {"cell": cell.id, "state": state, "steps": taken[0], "seconds": watch.seconds}
        for key, value in told.items():
            trial.set_user_attr(key, value)
        ends = {"done": TrialState.COMPLETE, "failed": TrialState.FAIL}
        study.tell(trial, values, ends.get(state, TrialState.PRUNED))
        tell(cell, {"event": "ended", "status": state})

    def _trained(self, trial: optuna.Trial, cell: Cell, taken: list[int], tell: Tell) -> dict[str, Any]:
        """What the trial's process found; `taken` holds the steps so far."""
        folder = self.folder / "trials" / cell.id

        def heard(event: dict[str, Any]) -> None:
            if self._stopping.is_set():
                raise Stopped
            tell(cell, event)
            if event["event"] == "step":
                taken[0] = event["step"]
            if event["event"] == "val" and event["step"] < cell.recipe.training.steps and not self.question.costs:
                trial.report(event["val_score"], event["step"])
                if trial.should_prune():
                    raise Poor

        asked = {"folder": str(folder.resolve()), "costs": self.question.costs}
        facts: dict[str, Any] = local.answers(MODULE, [cell], asked, heard)[0]
        shutil.rmtree(folder, ignore_errors=True)
        if "error" in facts:
            raise CellFailed(facts["error"])
        return facts


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    """A trial that was killed is no trial: it is asked for again."""
    return [t for t in study.get_trials(deepcopy=False) if t.state.is_finished() and "killed" not in t.user_attrs]


def _known(study: optuna.Study, cell: Cell) -> dict[str, Any] | None:
    """What a trial of the same cell came to before."""
    same = (t for t in _ended(study) if t.user_attrs["cell"] == cell.id and "facts" in t.user_attrs)
    found: dict[str, Any] | None = next((t.user_attrs["facts"] for t in same), None)
    return found


def _take_up(study: optuna.Study) -> None:
    """Trials that ran when the study was killed are asked for again; they go on from their checkpoints."""
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.RUNNING:
            study._storage.set_trial_user_attr(trial._trial_id, "killed", True)
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)


def _trial(trial: FrozenTrial) -> Trial:
    said, looks = trial.user_attrs, trial.intermediate_values
    facts: Mapping[str, Any] = said.get("facts", {})
    score = facts.get("val_score", looks[max(looks)] if looks else None)
    costs = {key: facts[key] for key in ("params", "planned_bytes", "infer_ms_p50") if key in facts}
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
def _quiet() -> Iterator[None]:
    """Optuna's own lines are not for the user."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
