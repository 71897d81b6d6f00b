"""What a user asked for -> runs: models x tasks x seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lra_bench import config, data, mixers
from lra_bench.config import NO_TECHNIQUE, Overlay, Recipe, RecipeFile, Run, TaskSpec, Techniques, tasks
from lra_bench.errors import ConfigError, nearest
from lra_bench.mixers import ModelCard
from lra_bench.records.schema import settings_of
from lra_bench.shapes import LAST_SEED
from lra_bench.sweeps.models import Choice, Part, fields, matching, models, parts
from lra_bench.sweeps.stages import staged

UNSAID = {  # decides no number, or has a column of its own
    "tag",
    "variant",
    "training.checkpoint_every",
    "task.folder",
    "task.title",
    "task.paper",
}
POOL = "backbone.pool"
BY_FLAG = "--set"  # by what a user gave a setting, for messages
NOTHING_BEFORE = {"start": None, "teacher": None, "beside": None}  # of a run that depends on no other


@dataclass(frozen=True)
class Request:
    """What a user asked for on the command line."""

    models: str  # a comma list of names, name[option=value], NAME+NAME, globs, family:NAME, files, causal or all
    tasks: str  # a comma list of names, globs, files, or all
    config: str
    seeds: tuple[int, ...] = (0,)
    length: int | None = None
    settings: tuple[str, ...] = ()  # a.b=c
    limit: int | None = None
    include: tuple[Path, ...] = ()
    techniques: str = NO_TECHNIQUE  # a comma list of names or files, NAME+NAME several at once, globs, or all
    by: str = BY_FLAG
    rates: tuple[float, ...] = ()  # a grid of learning rates; none: the config's own


def runs(request: Request) -> list[Run]:
    """The runs of a request, techniques within models within tasks within seeds.

    Raises:
        ConfigError, TaskError: something is not found, unknown or wrong; the message names it and the nearest.
    """
    choices = models(request.models)
    recipe = config.recipe(request.config, request.include)
    model_cards = [part.model_card for choice in choices for part in choice]
    settings = Settings.parse(request.settings, request.length, model_cards, request.by)
    names = task_names(request.tasks, request.include)
    applied = [config.techniques(names, settings.techniques, request.include) for names in technique_names(request)]
    every = [
        _staged(partial(_run, request, recipe, settings, seed, rate), choice, task, techniques)
        for seed in request.seeds
        for rate in request.rates or (None,)
        for task in names
        for choice in choices
        for techniques in applied
    ]
    return list({run.id: run for run in every}.values())


def _staged(run: Callable[[Choice, str], Run], choice: Choice, task: str, techniques: Techniques) -> Run:
    return staged(
        run(choice, task), techniques, lambda model: run(models(model)[0], task), lambda other: run(choice, other)
    )


def of_model(run: Run, choice: Choice, settings: Settings) -> Run:
    """Another model, trained as the run's was, and as the settings change that; no technique is applied.

    The options are those that the recipe, if it is here, sets for it.
    """
    found = config.recipe(run.config_name) if run.config_name in config.found("configs") else None
    turned = found.resolve(run.task.name)[1] if found else {}
    trained = run.trained_first
    recipe = config.changed(trained.recipe, settings.recipe)
    before = dict(part.split("=", 1) for part in settings_of(trained.changed))
    student = trained.model_copy(
        update={
            **fields(
                tuple(map(settings.turning, choice)),
                turned,
                recipe.backbone.layers,
                recipe.backbone.causal,
                crosses=run.task.crosses,
            ),
            **NOTHING_BEFORE,
            "techniques": Techniques(),
            "match": None,
            "task": run.task,
            "recipe": recipe,
            "changed": _words({**before, **settings.changing(trained.recipe, {})}),
            "config_hash": _hash(recipe) if settings.recipe else trained.config_hash,
        }
    )
    return _pooled(student, settings)


def on_task(run: Run, name: str, include: Sequence[Path], settings: Settings) -> Run:
    """The run's model and backbone on another task, trained there as its recipe says for it.

    Raises:
        ConfigError, TaskError: the recipe or the task is not found, or a setting is unknown.
    """
    name, variant = tasks.parted(name)
    file = config.recipe(run.config_name, include)
    recipe, _ = file.resolve(Path(name).stem, settings.recipe)
    changed = settings.changing(file.resolve(Path(name).stem)[0], tasks.said(name, include, variant or recipe.variant))
    task = data.identified(tasks.load(name, include, variant or recipe.variant, settings.task))
    same = recipe.model_copy(update={"backbone": run.recipe.backbone})
    return run.model_copy(
        update={
            "task": task,
            "recipe": same,
            "changed": _words(changed),
            "config_hash": _hash(recipe),
            "techniques": run.techniques.model_copy(update={"multitask": None}),
            **NOTHING_BEFORE,
        }
    )


def technique_names(request: Request) -> list[list[str]]:
    """The techniques that are applied at once, for each part of the comma list; `all` is none, and then each alone."""
    names = [config.NO_TECHNIQUE, *config.technique_files(request.include)]
    found: dict[tuple[str, ...], None] = {}
    for pattern in parts(request.techniques, "--technique"):
        if "+" in pattern:
            found[tuple(part.strip() for part in pattern.split("+"))] = None
        else:
            found |= {(name,): None for name in matching(pattern, names)}
    return [list(several) for several in found]


def parse_seeds(text: str) -> tuple[int, ...]:
    """The seeds in `0-4`, `0,3,7` or a mixture, each once, in order.

    Raises:
        ConfigError: a part is no number, and no range of two, or a seed is too large.
    """
    seeds: list[int] = []
    for part in parts(text, "--seeds"):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if not ends or (ends[2] and int(ends[2]) < int(ends[1])):
            raise ConfigError(f"--seeds {text}: '{part}' must be a number, or a range as 0-4")
        if int(ends[2] or ends[1]) > LAST_SEED:
            raise ConfigError(f"--seeds {text}: '{part}': a seed is at most {LAST_SEED}")
        seeds += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
    return tuple(dict.fromkeys(seeds))


def task(name: str, variant: str | None, settings: Sequence[str], include: Sequence[Path]) -> TaskSpec:
    """One task by name or path, as `--variant` and `--set task.a=b` make it.

    Raises:
        ConfigError, TaskError: something is not found, unknown or wrong.
    """
    name, own = tasks.parted(name)
    variant = variant or own
    if variant is not None:
        tasks.demanded(name, variant, include)
    parsed = Settings.parse(settings, None, [])
    if parsed.recipe:
        raise ConfigError(f"{parsed.recipe[0].origin}: only task.* can be set here")
    return tasks.load(name, include, variant, parsed.task)


def task_names(patterns: str, include: Sequence[Path]) -> list[str]:
    """The tasks that a comma list names, by name or as paths, with `@VARIANT` where one is named.

    Raises:
        TaskError: a name or glob matches nothing.
    """
    names: dict[str, None] = {}
    for pattern in parts(patterns, "--task"):
        name, variant = tasks.parted(pattern)
        is_file = name.endswith((".yaml", ".yml"))
        for found in [name] if is_file else matching(name, tasks.names(include)):
            names[f"{found}@{variant}" if variant else found] = None
    return list(names)


@dataclass(frozen=True)
class Settings:
    """The `--set` and `--length` of a request, by what they are laid over."""

    recipe: tuple[Overlay, ...]
    task: tuple[Overlay, ...]
    techniques: tuple[Overlay, ...]
    options: tuple[tuple[str, str, Any, str], ...]  # (model or "model", option, value, the flag)
    said: tuple[tuple[str, Any], ...]  # what of it a result says, of the recipe and the task, each key once, in order

    @classmethod
    def parse(
        cls, settings: Sequence[str], length: int | None, model_cards: Sequence[ModelCard], by: str = BY_FLAG
    ) -> Settings:
        """Sort them; `model_cards` are of the models whose options can be turned.

        Raises:
            ConfigError: one is no key=value, or names neither a section, nor `task`, nor a model.
        """
        recipe: list[Overlay] = []
        task: list[Overlay] = []
        techniques: list[Overlay] = []
        options: list[tuple[str, str, Any, str]] = []
        sections = ("tag", "variant", "backbone", "optimizer", "schedule", "training")
        of_techniques, said = tuple(Techniques.model_fields), dict[str, Any]()
        named = {"model"} | {model_card.name for model_card in model_cards}
        for text in settings:
            (head, *path), value = config.setting(text, kinds=partial(_kinds, model_cards))
            flag = f"{by} {text}"
            if head == "task" and path:
                task.append(Overlay(flag, config.nested(path, _placed(path, value))))
                said |= config.flat(config.nested(["task", *path], value))
            elif head in named and len(path) == 1:
                options.append((head, path[0], value, flag))
            elif head in sections:
                recipe.append(Overlay(flag, config.nested([head, *path], value)))
                said |= config.flat(config.nested([head, *path], value))
            elif head in of_techniques:
                techniques.append(Overlay(flag, config.nested([head, *path], value)))
            else:
                known = [*sections, *of_techniques, "task", *named]
                meant = None if path else _meant(head, model_cards)
                raise ConfigError(f"{flag}: '{head}': unknown; {meant or nearest(head, known)}")
        if length is not None:
            task.append(Overlay(f"--length {length}", {"length": length}))
            said["task.length"] = length
        for who, option, _, flag in options:
            have = {k.name for one in model_cards if who in ("model", one.name) for k in one.options}
            if option not in have:
                raise ConfigError(f"{flag}: no such option; {nearest(option, have)}")
        for unsaid in UNSAID:
            said.pop(unsaid, None)
        return cls(tuple(recipe), tuple(task), tuple(techniques), tuple(options), tuple(sorted(said.items())))

    def changing(self, recipe: Recipe, task: Mapping[str, Any]) -> dict[str, Any]:
        """What of it makes another of the recipe, or of what the task's file says, as they are without."""
        before = dict(config.flat({**recipe.model_dump(), "task": task}))
        return {key: value for key, value in self.said if key not in before or before[key] != value}

    def turning(self, part: Part) -> Part:
        """With the options that were set for the mixer: by its own name, or for every one that has them."""
        model_card, own = part.model_card, {option.name for option in part.model_card.options}
        turned = {
            name: value
            for who, name, value, _ in self.options
            if who == model_card.name or (who == "model" and name in own)
        }
        return Part(model_card, {**turned, **part.options})


def _kinds(model_cards: Sequence[ModelCard], path: Sequence[str]) -> Collection[type]:
    """The kinds that are declared for a setting: of a mixer's own where it is an option."""
    head, *rest = path
    ours = [model_card for model_card in model_cards if head in ("model", model_card.name)]
    return mixers.kinds(ours, ".".join(rest)) if ours else config.declared(path)


def _meant(key: str, model_cards: Sequence[ModelCard]) -> str | None:
    """The whole keys that end in one that was given alone, as a question; None if there is none."""
    base = config.recipe("base").overlays[0].values
    known = [dotted for dotted, _ in config.flat({k: v for k, v in base.items() if isinstance(v, Mapping)})]
    known += [f"task.{name}" for name in TaskSpec.model_fields]
    known += [f"{model_card.name}.{option.name}" for model_card in model_cards for option in model_card.options]
    ends = list(dict.fromkeys(dotted for dotted in known if dotted.rpartition(".")[2] == key))
    return f"did you mean {' or '.join(repr(one) for one in ends)}?" if ends else None


def _hash(recipe: Recipe) -> str:
    return config.digest(recipe.facts())[:10]


def _words(said: Mapping[str, Any]) -> str | None:
    """In the order of the keys, whatever the order in which they were given."""
    each = ((key, value if isinstance(value, str) else json.dumps(value)) for key, value in sorted(said.items()))
    return " ".join(f"{key}={value}" for key, value in each) or None


def _placed(path: Sequence[str], value: Any) -> Any:
    """A folder given on the command line is relative to where the user stands."""
    return str(Path(value).expanduser().resolve()) if path == ["folder"] and isinstance(value, str) else value


def _run(
    request: Request, recipe: RecipeFile, settings: Settings, seed: int, rate: float | None, choice: Choice, task: str
) -> Run:
    task, variant = tasks.parted(task)
    if variant:
        tasks.demanded(task, variant, request.include)
    section = Path(task).stem if task.endswith((".yaml", ".yml")) else task
    resolved, turned = recipe.resolve(section, settings.recipe)
    variant = variant or resolved.variant
    changed = settings.changing(recipe.resolve(section)[0], tasks.said(task, request.include, variant))
    known = {*mixers.names(), *(part.model_card.name for part in choice)}
    strange = next((name for name in turned if name not in known), None)
    if strange:
        raise ConfigError(f"{recipe.path}: options.{strange}: no such model; {nearest(strange, known)}")
    spec, backbone = data.identified(tasks.load(task, request.include, variant, settings.task)), resolved.backbone
    layers = tuple(map(settings.turning, choice))
    run = Run(
        **fields(layers, turned, backbone.layers, backbone.causal, crosses=spec.crosses),
        task=spec,
        config_name=recipe.name,
        recipe=resolved if rate is None else at_rate(resolved, rate),
        seed=seed,
        limit=request.limit,
        changed=_words(changed),
        config_hash=_hash(resolved),
        tuned=recipe.tuned,
        lr_grid=list(request.rates) or None,
    )
    return _pooled(run, settings)


def at_rate(recipe: Recipe, rate: float) -> Recipe:
    """The recipe with that learning rate."""
    return recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"lr": rate})})


def _pooled(run: Run, settings: Settings) -> Run:
    """Read out through the mean over tokens, where a cls token would not see them all and nobody asked for it; causally
    through the last token."""
    backbone = run.recipe.backbone
    blind = backbone.causal and backbone.pool == "cls"
    if not (blind or run.narrow) or POOL in dict(settings.said):
        return run
    backbone = backbone.model_copy(update={"pool": "last" if blind else "mean"})
    return run.model_copy(update={"recipe": run.recipe.model_copy(update={"backbone": backbone})})


def pooled_otherwise(run: Run) -> str | None:
    """A line where the run reads out another way than its recipe says, as nobody asked it to."""
    if run.reach is None or run.config_name not in config.found("configs") or POOL in (run.changed or ""):
        return None
    said, is_ = config.recipe(run.config_name).resolve(run.task.name)[0].backbone.pool, run.recipe.backbone.pool
    return None if said == is_ else f"backbone.pool: {is_}, not {said}: a cls token would see {run.reach - 1} tokens"
