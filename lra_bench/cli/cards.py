"""One model, task, config or technique, for people: what it is, and in what it differs from its base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group

from lra_bench.cli import screen
from lra_bench.mixers.cross.card import YES

if TYPE_CHECKING:
    from lra_bench.config import RecipeFile

WHOLE = "--json has every value"
LABELS: Mapping[str, Callable[[Any], str]] = {  # of a model's card: what a person calls it, and how it is written
    "family": str,
    "paper": lambda id_: f"arXiv:{id_}",
    "equation": str,
    "year": str,
    "time": lambda power: f"{grown(power)}, with its hyperparameters held fixed",
    "memory": lambda power: f"{grown(power)}, likewise",
    "exact_when": str,
    "exact_without": str,
    "differs": str,
    "public": str,
    "causal": lambda said: "yes" if said is True else f"with {said}",
    "causal_form": str,
    "causal_growth": lambda said: ", ".join(f"{what} {grown(power)}" for what, power in said.items()),
    "segment": lambda option: f"one way between segments, which are as long as {option} says",
    "padded_length": str,
    "control": str,
    "file": str,
}
NAMES = {
    "equation": "in the paper",
    "time": "work grows as",
    "memory": "memory grows as",
    "exact_when": "is full attention when",
    "exact_without": "which is without",
    "differs": "differs from the paper",
    "public": "fastest public form",
    "padded_length": "changes with padding",
    "causal_form": "causal form",
    "causal_growth": "which grows as",
    "control": "a control",
}


def grown(exponent: float | None) -> str:
    """A power of the length."""
    return "no claim" if exponent is None else "L" if exponent == 1 else f"L^{exponent:g}"


def model(card: Mapping[str, Any]) -> Group:
    """A model's card, and its hyperparameters."""
    said = {NAMES.get(key, key): write(card[key]) for key, write in LABELS.items() if card.get(key)}
    said["cross"] = crossing(card["cross"])
    options = [
        {
            "hyperparameter": name,
            "type": option["type"],
            "default": str(option["default"]),
            "meaning": option["meaning"],
        }
        for name, option in card["options"].items()
    ]
    title = f"{card['name']}: {card['title']}"
    return Group(screen.card(title, said), *([screen.titled("hyperparameters", options)] if options else []))


def crossing(card: Mapping[str, Any] | None) -> str:
    """How a target reads a source by the mixer's cross form, whose card that is; None: it has none."""
    if card is None:
        return "no"
    said = [f"yes: arXiv:{card['paper']}, {card['equation']}"]
    said += [f"a growing target: {card['growing']}"] if card["growing"] != YES else []
    said += [f"differs: {card['differs']}"] if card["differs"] else []
    return "; ".join(said)


def task(values: Mapping[str, Any]) -> Group:
    """A task; of each variant the values that it changes."""
    from lra_bench import config

    own = {key: value for key, value in values.items() if key != "variants"}
    flat = dict(config.flat(own))
    said = {key: value for key, value in flat.items() if value is not None}
    lines = [
        {"variant": name, "key": key, "value": _text(value), "without it": _text(before)}
        for name, whole in values.get("variants", {}).items()
        for key, value, before in _changed(dict(config.flat(whole)), flat)
        if key != "variant"
    ]
    shown = [screen.titled(f"variants: {own['name']}@NAME, and what it changes", lines)] if lines else []
    return Group(screen.card(f"{own['name']}: {own['title']}", said), *shown)


def recipe(name: str, include: Sequence[Path]) -> Group:
    """A config: what it says otherwise than base, and for single tasks otherwise than for the rest."""
    from lra_bench import config
    from lra_bench.config import tasks

    file, base = config.recipe(name, include), config.recipe("base", include)
    own, before = (dict(config.flat(one.resolve("")[0].model_dump())) for one in (file, base))
    if file.path == base.path:
        return Group(_head(file), screen.titled("every value", [{"key": k, "value": _text(v)} for k, v in own.items()]))
    lines = [{"key": k, "value": _text(v), "base": _text(was)} for k, v, was in _changed(own, before)]
    for model, turned in file.resolve("")[1].items():
        lines += [{"key": f"{model}.{option}", "value": _text(value), "base": ""} for option, value in turned.items()]
    for_tasks = [
        {"task": task, "key": key, "value": _text(value), "else": _text(was)}
        for task in tasks.names(include)
        for key, value, was in _changed(dict(config.flat(file.resolve(task)[0].model_dump())), own)
    ]
    shown = [screen.titled("as base, but for", lines or [{"key": "nothing"}], [WHOLE])]
    shown += [screen.titled("for single tasks", for_tasks)] if for_tasks else []
    return Group(_head(file), *shown)


def _head(file: RecipeFile) -> Any:
    from lra_bench import config

    return screen.card(file.name, {"says": config.first_comment(file.path), "file": str(file.path)})


def technique(values: Mapping[str, Any]) -> Group:
    """A technique: what it says otherwise than the base of all."""
    from lra_bench import config

    base = dict(config.flat(config.read(config.shipped("configs") / "techniques/base.yaml").values))
    own = dict(config.flat({k: v for k, v in values.items() if k not in ("name", "file", "says")}))
    lines = [{"key": k, "value": _text(v), "base": _text(was)} for k, v, was in _changed(own, base)]
    head = screen.card(str(values["name"]), {"says": values["says"], "file": values["file"]})
    return Group(head, screen.titled("as base, but for", lines or [{"key": "nothing"}], [WHOLE]))


def _changed(own: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The keys whose values are not the base's: with both."""
    yield from ((key, value, base.get(key)) for key, value in own.items() if key not in base or base[key] != value)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
