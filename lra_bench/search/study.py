"""A study: trials that are asked of Optuna, run, and told; kept in SQLite, and taken up where it was left."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from lra_bench import config, matrix, store
from lra_bench.config import Cell, Range, Scalar, Space, Tuned
from lra_bench.errors import CellFailed, ConfigError
from lra_bench.launch import local
from lra_bench.launch.engine import Stopped
from lra_bench.matrix import Request
from lra_bench.measure.clocks import Stopwatch
from lra_bench.metrics import named

MODULE = "lra_bench.trial"
STARTUP = 5  # trials before the first is given up: a median needs some
MOMENT = 0.5  # seconds between two looks for a Ctrl-C
WORDS = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}

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
    why: str | None


class Found(NamedTuple):
    """What a study came to."""

    trials: list[Trial]  # the best first, then those that were given up, then those that failed
    best: Trial | None
    tuned: Tuned


@dataclass
class Study:
    """The settings of one model on one task, searched for in a folder of its own.

    Raises:
        ConfigError: the request is of several cells, or a key of the space is none of a recipe's or of the model's.
    """

    request: Request
    space: Space
    folder: Path
    seed: int
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        cells = matrix.cells(self.request)
        if len(cells) != 1:
            raise ConfigError(f"a study is of one model on one task, with one seed and one lever, not of {len(cells)}")
        self.cell = cells[0]
        for key in self.space:
            if key.split(".")[0] in ("task", *config.Levers.model_fields):
                raise ConfigError(f"{key}: a search is of settings of the recipe and knobs of the model")
            self._cell({key: _any(self.space[key])})
        self.folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(cls, request: Request, space: Space, root: Path, seed: int) -> Study:
        """The study of these, which has a folder of its own in `root`: the same question is the same study."""
        cell = matrix.cells(request)[0]
        said = {key: what if isinstance(what, list) else what.model_dump() for key, what in space.items()}
        digest = config.digest({"cell": cell.id, "space": said, "seed": seed})[:10]
        return cls(request, space, root / f"{cell.model}-{cell.task.name}-{cell.recipe_name}-{digest}", seed)

    @property
    def higher(self) -> bool:
        """Is a higher score the better one?"""
        return named(self.cell.task.metric).higher

    def run(self, trials: int, jobs: int, tell: Tell) -> Found:
        """Go on until so many trials have ended, so many at once; what was found.

        Raises:
            Stopped: Ctrl-C; the study, and the state of the trials that ran, are saved.
            ConfigError: every trial so far was refused.
        """
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
            ended = _ended(study)
        order = {"done": 0, "pruned": 1, "failed": 2}
        trials = sorted(map(_trial, ended), key=lambda t: (order[t.state], self._rank(t.val_score)))
        best = trials[0] if trials and trials[0].state == "done" else None
        pruned = sum(t.state == "pruned" for t in trials)
        hours = sum(t.seconds for t in trials) / 3600
        return Found(
            trials, best, Tuned(trials=len(trials), pruned=pruned, steps=sum(t.steps for t in trials), hours=hours)
        )

    def _rank(self, score: float | None) -> float:
        return float("inf") if score is None else -score if self.higher else score

    def _opened(self) -> optuna.Study:
        return optuna.create_study(
            storage=f"sqlite:///{self.folder / 'study.db'}",
            study_name="study",
            load_if_exists=True,
            direction="maximize" if self.higher else "minimize",
            sampler=optuna.samplers.TPESampler(seed=self.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
        )

    def _cell(self, settings: Mapping[str, Scalar]) -> Cell:
        said = tuple(f"{key}={json.dumps(value)}" for key, value in settings.items())
        changed = Request(**{**self.request.__dict__, "settings": (*self.request.settings, *said)})
        return matrix.cells(changed)[0]

    def _one(self, study: optuna.Study, cores: list[int], tell: Tell) -> None:
        """Ask for a trial, run it, and tell what became of it."""
        trial, cell, watch = study.ask(), self.cell, Stopwatch()
        settings = {key: _suggested(trial, key, what) for key, what in self.space.items()}
        taken = [0]
        value, state = None, TrialState.COMPLETE
        try:
            cell = self._cell(settings)
            with local.on(cores):
                value = self._trained(trial, cell, taken, tell)["val_score"]
        except Poor:
            state = TrialState.PRUNED
        except (ConfigError, CellFailed) as error:
            trial.set_user_attr("why", str(error))
            state = TrialState.FAIL
        trial.set_user_attr("steps", taken[0])
        trial.set_user_attr("seconds", watch.seconds)
        study.tell(trial, value, state)
        tell(cell, {"event": "ended", "status": WORDS[state]})

    def _trained(self, trial: optuna.Trial, cell: Cell, taken: list[int], tell: Tell) -> dict[str, Any]:
        """What the trial's process found; `taken` holds the steps so far."""
        folder = self.folder / "trials" / cell.id

        def heard(event: dict[str, Any]) -> None:
            if self._stopping.is_set():
                raise Stopped
            tell(cell, event)
            if event["event"] == "step":
                taken[0] = event["step"]
            if event["event"] == "val" and event["step"] < cell.recipe.training.steps:
                trial.report(event["val_score"], event["step"])
                if trial.should_prune():
                    raise Poor

        facts: dict[str, Any] = local.answers(MODULE, [cell], {"folder": str(folder.resolve())}, heard)[0]
        shutil.rmtree(folder, ignore_errors=True)
        if "error" in facts:
            raise CellFailed(facts["error"])
        return facts


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    """A trial that was killed is no trial: it is asked for again."""
    return [t for t in study.get_trials(deepcopy=False) if t.state in WORDS and "killed" not in t.user_attrs]


def _take_up(study: optuna.Study) -> None:
    """Trials that ran when the study was killed are asked for again; they go on from their checkpoints."""
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.RUNNING:
            study._storage.set_trial_user_attr(trial._trial_id, "killed", True)
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)


def _suggested(trial: optuna.Trial, key: str, what: Range | list[Scalar]) -> Scalar:
    if isinstance(what, list):
        chosen: Scalar = trial.suggest_categorical(key, what)
        return chosen
    log = what.scale == "log"
    if isinstance(what.low, int) and isinstance(what.high, int):
        return trial.suggest_int(key, what.low, what.high, log=log)
    return trial.suggest_float(key, what.low, what.high, log=log)


def _any(what: Range | list[Scalar]) -> Scalar:
    return what[0] if isinstance(what, list) else what.low


def _trial(trial: FrozenTrial) -> Trial:
    said, looks = trial.user_attrs, trial.intermediate_values
    score = trial.value if trial.state == TrialState.COMPLETE else (looks[max(looks)] if looks else None)
    return Trial(
        trial.number,
        WORDS[trial.state],
        score,
        int(said["steps"]),
        float(said["seconds"]),
        trial.params,
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
