"""A study: trials that are asked of Optuna, run, and told; kept in SQLite, and resumed where it was left."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optuna
from sqlalchemy.pool import QueuePool

from lra_bench import config
from lra_bench.config import Run, Tuned
from lra_bench.errors import ConfigError, RunFailed, faults_told
from lra_bench.launch import local
from lra_bench.launch.engine import Stopped
from lra_bench.launch.place import Place, dealt, places
from lra_bench.measure.clocks import Stopwatch
from lra_bench.metrics import named
from lra_bench.records import fingerprint, store
from lra_bench.search import record
from lra_bench.search.record import Trial
from lra_bench.search.search_space import Question

MODULE = "lra_bench.search.trial"
ASKED = "asked.json"  # the question, without data and code, and those
STARTUP = 5  # trials before the first is pruned: a median needs some
MOMENT = 0.5  # seconds between two checks for a Ctrl-C
TOO_DEAR = "over the limit"
ORDER = ("done", "pruned", TOO_DEAR, "failed")

Tell = Callable[[Run, dict[str, Any]], None]


class Poor(Exception):
    """A trial that is worse than the median of those before it, at the same step."""


class Found(NamedTuple):
    """What a study came to."""

    trials: list[Trial]  # the best first, then those that were pruned, were not trained, or failed
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
    _alone: dict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock), init=False)

    @classmethod
    def of(cls, question: Question, root: Path) -> Study:
        """The question's study, which has a folder in `root`: the same question is the same study."""
        folder = root / question.name
        folder.mkdir(parents=True, exist_ok=True)
        store.write_json(folder / ASKED, {"alike": question.alike, "basis": question.basis})
        return cls(question, folder)

    def not_taken_up(self) -> Iterator[str]:
        """A line for each study of the same question on other data or by other code: its trials are not this one's."""
        for path in sorted(self.folder.parent.glob(f"{escape(self.question.about)}-*/{ASKED}")):
            asked = store.read_json(path)
            if path.parent != self.folder and asked["alike"] == self.question.alike:
                why = fingerprint.apart(self.question.basis, asked["basis"])
                yield f"{path.parent.name}, the same study, is not resumed: its trials are of {why}"

    @property
    def higher(self) -> bool:
        """Is a higher score the better one?"""
        return named(self.question.run.task.metric).higher

    def run(self, trials: int, jobs: int, tell: Tell) -> Found:
        """Go on until so many trials have ended, so many at once; what was found.

        What was tried before is not tried again, and counts once; where nothing else is suggested, that is the end.

        Raises:
            Stopped: Ctrl-C; the study, and the state of the trials that ran, are saved.
            ConfigError: times are asked for of trials that run side by side.
            PlaceError: a disk is full, or a place cannot be used.
        """
        if jobs > 1 and "inference_ms_p50" in self.question.costs:
            raise ConfigError("--max-ms: a trial's time is its own where none runs beside it; --jobs 1")
        with store.locked(self.folder), record.quiet(), faults_told(self.folder):
            study = self._opened()
            record.take_up(study)
            for line in self.not_taken_up():
                tell(self.question.run, {"event": "note", "said": line})
            free = places(jobs)
            if note := dealt(free):
                tell(self.question.run, {"event": "note", "said": note})
            with ThreadPoolExecutor(jobs, "trial") as pool:
                running: dict[Future[None], Place] = {}
                try:
                    while running or self._wants(study, trials):
                        while free and len(running) < self._wants(study, trials):
                            place = free.pop()
                            running[pool.submit(self._one, study, place, tell)] = place
                        for future in wait(running, MOMENT, FIRST_COMPLETED).done:
                            free.append(running.pop(future))
                            future.result()
                except BaseException:
                    self._stopping.set()
                    raise
            return self.found()

    def _wants(self, study: optuna.Study, trials: int) -> int:
        """Trials that are still to be begun or to end."""
        return 0 if record.exhausted(study) else max(0, trials - len(record.ended(study)))

    def found(self) -> Found:
        """What the study holds."""
        with record.quiet():
            study = self._opened()
            trials = sorted(map(record.read, record.ended(study)), key=self._rank)
            front = {t.user_attrs["run"] for t in study.best_trials}
        best = {t.number for t in record.ended(study) if t.user_attrs["run"] in front}
        pruned = sum(t.state == "pruned" for t in trials)
        steps, hours = sum(t.steps for t in trials), sum(t.seconds for t in trials) / 3600
        tuned = Tuned(trials=len(trials), pruned=pruned, steps=steps, hours=hours)
        return Found(trials, [t for t in trials if t.number in best], tuned)

    def _rank(self, trial: Trial) -> tuple[int, float]:
        score = trial.val_score
        return ORDER.index(trial.state), float("inf") if score is None else -score if self.higher else score

    def _opened(self) -> optuna.Study:
        costs: list[Literal["minimize"]] = ["minimize"] * len(self.question.costs)
        return optuna.create_study(
            storage=_sqlite(self.folder / "study.db"),
            study_name="study",
            load_if_exists=True,
            directions=["maximize" if self.higher else "minimize", *costs],
            sampler=optuna.samplers.TPESampler(seed=self.question.seed),
            pruner=optuna.pruners.NopPruner() if costs else optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
        )

    def _one(self, study: optuna.Study, place: Place, tell: Tell) -> None:
        """Ask for a trial, run it, and tell what became of it; of what was tried before, as it was told then."""
        trial = study.ask()
        settings = self.question.chosen(trial)
        try:
            run, why = self.question.asked(settings), None
        except ConfigError as error:
            run, why = self.question.run, str(error)
        same = run.id if why is None else config.digest(settings)
        with self._alone[same]:  # what is being tried just now is waited for
            before = next((t for t in record.ended(study) if t.user_attrs["run"] == same), None)
            if before is not None:
                record.tell(study, trial, self.question, {**before.user_attrs, "repeat": True})
                return
            if self._stopping.is_set():
                raise Stopped
            said: dict[str, Any] = {"run": same, "state": "failed", "steps": 0, "seconds": 0.0, "why": why}
            if why is None:
                said |= self._tried(trial, run, place, tell)
            record.tell(study, trial, self.question, said)
            score = said.get("facts", {}).get("val_score")
            tell(run, {"event": "ended", "status": said["state"], "val_score": score})

    def _tried(self, trial: optuna.Trial, run: Run, place: Place, tell: Tell) -> dict[str, Any]:
        """What became of a trial."""
        watch, taken = Stopwatch(), [0]
        said: dict[str, Any] = {"state": "failed"}
        try:
            facts = self._trained(trial, run, place, taken, tell)
            said = {"state": "done" if "val_score" in facts else TOO_DEAR, "facts": facts}
        except Poor:
            said = {"state": "pruned"}
        except (ConfigError, RunFailed) as error:
            said["why"] = str(error)
        return {**said, "steps": taken[0], "seconds": watch.seconds}

    def _trained(self, trial: optuna.Trial, run: Run, place: Place, taken: list[int], tell: Tell) -> dict[str, Any]:
        """What the trial's process found; `taken` holds the steps so far."""
        folder = self.folder / "trials" / run.id

        def heard(event: dict[str, Any]) -> None:
            if self._stopping.is_set():
                raise Stopped
            tell(run, event)
            if event["event"] == "step":
                taken[0] = event["step"]
            if event["event"] == "val" and event["step"] < run.recipe.training.steps and not self.question.costs:
                trial.report(event["val_score"], event["step"])
                if trial.should_prune():
                    raise Poor

        asked = {"folder": str(folder.resolve()), "costs": self.question.costs}
        facts: dict[str, Any] = local.answers(MODULE, [run], asked, heard, place)[0]
        shutil.rmtree(folder, ignore_errors=True)
        if "error" in facts:
            raise RunFailed(facts["error"])
        return facts


def _sqlite(path: Path) -> optuna.storages.RDBStorage:
    """A file of SQLite, whatever its name: in an address, `?`, `#`, `%` and braces would be more than a name."""
    creator = partial(sqlite3.connect, path, check_same_thread=False)
    return optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": creator, "poolclass": QueuePool})
