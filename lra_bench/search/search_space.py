"""What a study asks: which settings and, of a search of architectures, which mixers; on what task, at what costs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna

from lra_bench import config, sweeps
from lra_bench.config import AND, Range, Run, Scalar, Space, Techniques
from lra_bench.errors import ConfigError
from lra_bench.records import fingerprint
from lra_bench.sweeps import Request

MODEL = "model"  # the key of a space that names what a layer's mixer may be


@dataclass(frozen=True)
class Question:
    """The settings of one model on one task; or of a backbone whose layers may have any of several mixers.

    Raises:
        ConfigError: the request is of several runs, or of one that depends on another, or a key of the space is none of
            a recipe's or of a model's.
    """

    request: Request
    space: Space
    seed: int
    costs: Mapping[str, float | None] = field(default_factory=dict)  # goals beside the score, and the most of each

    def __post_init__(self) -> None:
        runs = sweeps.runs(self.request)
        if len(runs) != 1:
            raise ConfigError(
                f"a study is of one model on one task, with one seed and one technique, not of {len(runs)}"
            )
        if self.run.needs:
            raise ConfigError(
                f"{self.run.techniques.words}: depends on another run; a study is of what is trained alone"
            )
        for key, what in self.settings.items():
            if key.split(".")[0] in ("task", *Techniques.model_fields):
                raise ConfigError(f"{key}: a search is of settings of the recipe and options of the model")
            self.asked({f"{MODEL}.1": model for model in self._models_of(key)} | {key: config.first(what)})

    @classmethod
    def of_architecture(cls, request: Request, space: Space, seed: int, costs: Mapping[str, float | None]) -> Question:
        """The question of a space that says, under `model`, what a layer's mixer may be; `request` names none.

        Raises:
            ConfigError: it says nothing, or what is no model; and as of any question.
        """
        models = space.get(MODEL)
        if not isinstance(models, list):
            raise ConfigError(f"{MODEL}: must be a list of the models that a layer may be of")
        for model in models:
            if len(sweeps.models(str(model))) != 1:
                raise ConfigError(f"{MODEL}: {model}: must be one model")
        return cls(replace(request, models=str(models[0])), space, seed, costs)

    @cached_property
    def run(self) -> Run:
        """With no setting changed."""
        return sweeps.runs(self.request)[0]

    @property
    def name(self) -> str:
        """The same for the same question, asked of the same data and of the same code."""
        asked = {**self.asked_of(self.run.id), "basis": self.basis}
        return f"{self.about}-{config.digest(asked)[:10]}"

    @property
    def about(self) -> str:
        """How its name begins."""
        of = [] if MODEL in self.space else [self.run.model]
        return "-".join([*of, self.run.task.name, self.run.config_name])

    def asked_of(self, run: str) -> dict[str, Any]:
        """The question, of the run that goes by an id."""
        said = {key: what if isinstance(what, list) else what.model_dump() for key, what in self.space.items()}
        return {"run": run, "space": said, "seed": self.seed, "costs": dict(self.costs)}

    @property
    def alike(self) -> str:
        """The same for the same question, whatever the data and the code that it is asked of."""
        return config.digest(self.asked_of(self.run.without_content.id))

    @cached_property
    def basis(self) -> dict[str, Any]:
        """The code and the data that its answer comes from."""
        models = [str(model) for model in self.space.get(MODEL, ())] or [self.request.models]
        runs = [sweeps.runs(replace(self.request, models=model))[0] for model in models]
        parts = config.digest([fingerprint.of(run)["parts_hash"] for run in runs])
        return fingerprint.full(self.run) | {"parts_hash": parts, "data_hash": self.run.task.content}

    @property
    def settings(self) -> Space:
        """What may be chosen beside mixers."""
        return {key: what for key, what in self.space.items() if key != MODEL}

    def _models_of(self, key: str) -> list[str]:
        """The model, of those that a layer may be of, whose option the key is."""
        models = map(str, self.space.get(MODEL, ()))
        return [model for model in models if key.split(".")[0] in _names(model)][:1]

    def chosen(self, trial: optuna.Trial) -> dict[str, Scalar]:
        """A trial's settings; `model.1` and so on are the mixers of the layers. Options are of mixers that are
        there."""
        for key, what in self.settings.items():
            if not self._models_of(key):
                _suggested(trial, key, what)
        if MODEL in self.space:
            for layer in range(self._layers(trial.params)):
                _suggested(trial, f"{MODEL}.{layer + 1}", self.space[MODEL])
        there = _names(self.model(trial.params))
        for key, what in self.settings.items():
            if self._models_of(key) and key.split(".")[0] in there:
                _suggested(trial, key, what)
        return dict(trial.params)

    def _layers(self, settings: Mapping[str, Scalar]) -> int:
        return int(settings.get("backbone.layers", self.run.recipe.backbone.layers))  # type: ignore[arg-type]

    def model(self, settings: Mapping[str, Scalar]) -> str:
        """Of these settings, as `--model` names it."""
        each = [str(value) for key, value in settings.items() if key.startswith(f"{MODEL}.")]
        return AND.join(sweeps.fewest(each)) if each else self.request.models

    def changed(self, settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """What of them is a recipe's or a model's option."""
        return {key: value for key, value in settings.items() if not key.startswith(f"{MODEL}.")}

    def asked(self, settings: Mapping[str, Scalar]) -> Run:
        """The run with these settings.

        Raises:
            ConfigError: they do not go together.
        """
        said = tuple(f"{key}={json.dumps(value)}" for key, value in self.changed(settings).items())
        request = replace(self.request, models=self.model(settings), settings=(*self.request.settings, *said))
        return sweeps.runs(request)[0]

    def recipe(self, settings: Mapping[str, Scalar], tuned: config.Tuned, says: str) -> str:
        """The recipe's file with these settings, and those that were given to the study, in it."""
        recipe = config.recipe(self.request.config, self.request.include)
        given = {".".join(path): value for path, value in map(config.setting, self._of_recipe)}
        return config.recipe_text(recipe, self.run.task.name, {**given, **self.changed(settings)}, tuned, says)

    @property
    def _of_recipe(self) -> list[str]:
        return [said for said in self.request.settings if said not in self._of_run]

    @property
    def _of_run(self) -> list[str]:
        """Settings of the task and of techniques, which no recipe has."""
        elsewhere = ("task", *Techniques.model_fields)
        return [said for said in self.request.settings if said.split(".")[0] in elsewhere]

    def command(self, settings: Mapping[str, Scalar], recipe: Path) -> str:
        """The line that runs these settings, which are in the recipe."""
        r = self.request
        words = ["lra", "run", "-m", self.model(settings), "-t", r.tasks, "-c", str(recipe)]
        words += ["--seed", str(self.run.seed)] if self.run.seed else []
        words += ["--limit", str(r.limit)] if r.limit else []
        for flag, several in (("--set", self._of_run), ("--include-path", r.include)):
            words += [word for one in several for word in (flag, str(one))]
        return shlex.join(words)


def _names(model: str) -> set[str]:
    """Of the mixers in it."""
    return {part.model_card.name for choice in sweeps.models(model) for part in choice}


def _suggested(trial: optuna.Trial, key: str, what: Range | list[Scalar]) -> Scalar:
    if isinstance(what, list):
        chosen: Scalar = trial.suggest_categorical(key, what)
        return chosen
    log = what.scale == "log"
    if isinstance(what.low, int) and isinstance(what.high, int):
        return trial.suggest_int(key, what.low, what.high, log=log)
    return trial.suggest_float(key, what.low, what.high, log=log)
