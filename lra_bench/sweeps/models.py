"""What a user calls a model -> the mixers of its layers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lra_bench import config, mixers
from lra_bench.config import AND, MixerSpec
from lra_bench.errors import ConfigError, nearest
from lra_bench.mixers import Card, ModelCard
from lra_bench.records import provenance

FAMILY = "family:"
CAUSAL = "causal"  # all models that have a causal form
T = TypeVar("T")
FILES = (".py", ".yaml", ".yml")
OUTSIDE = r"(?![^\[]*\])"  # what is split at stands in no bracket


class Part(NamedTuple):
    """A mixer, and the options that were turned where it was named."""

    model_card: ModelCard
    options: Mapping[str, Any]


Choice = tuple[Part, ...]  # a model: the mixers of its layers, in turn


def models(patterns: str) -> list[Choice]:
    """The models that a comma list names; of one whose layers have several mixers, `NAME+NAME`.

    Raises:
        ConfigError: a name, glob or family matches nothing, a layer's name several, or a bracket is no
            `[option=value,...]`.
    """
    found: list[Choice] = []
    for pattern in parts(patterns, "--model"):
        layers = [pattern] if Path(pattern).is_file() else re.split(re.escape(AND) + OUTSIDE, pattern)
        each = [_named(layer) for layer in layers]
        if len(each) == 1:
            found += [(part,) for part in each[0]]
            continue
        several = next((named for named in each if len(named) != 1), None)
        if several:
            names = ", ".join(part.model_card.name for part in several)
            raise ConfigError(f"--model {pattern}: a layer has one mixer, not one of {names}")
        found.append(tuple(part for named in each for part in named))
    return found


def _named(pattern: str) -> list[Part]:
    name, inside = pattern.strip(), ""
    if name.endswith("]"):
        name, _, inside = name.rpartition("[")
    elif "[" in name and not name.endswith(".py"):
        raise ConfigError(f"--model {pattern}: must be name[option=value,...]")
    said = [part for part in inside.rstrip("]").split(",") if part]
    return [Part(model_card, _turned(said, model_card)) for model_card in _model_cards(name)]


def _turned(said: Iterable[str], model_card: ModelCard) -> dict[str, Any]:
    """The options in `option=value`, read as the mixer declares them."""
    turned = (config.setting(part, "--model", lambda path: mixers.kinds([model_card], ".".join(path))) for part in said)
    return {".".join(path): value for path, value in turned}


def _model_cards(pattern: str) -> list[ModelCard]:
    if pattern.endswith(".py"):
        return [mixers.model_card(pattern)]
    if pattern.startswith(FAMILY):
        return _of_family(pattern.removeprefix(FAMILY))
    if pattern == CAUSAL:
        return [model_card for model_card in map(mixers.model_card, mixers.names()) if model_card.card.can_be_causal]
    return [mixers.model_card(name) for name in matching(pattern, mixers.names())]


def _of_family(family: str) -> list[ModelCard]:
    model_cards = [mixers.model_card(name) for name in mixers.names()]
    matched = [model_card for model_card in model_cards if model_card.card.family == family]
    if not matched:
        known = {model_card.card.family for model_card in model_cards}
        raise ConfigError(f"--model {FAMILY}{family}: no model; {nearest(family, known)}")
    return matched


def fields(
    choice: Choice,
    turned: Mapping[str, Mapping[str, Any]],
    layers: int,
    causal: bool = False,
    *,
    crosses: bool = False,
) -> dict[str, Any]:
    """What a run says of its mixers; `turned` are the options that a recipe sets, by model; `causal` is its backbone,
    and it `crosses` where its task has a source and a target.

    Raises:
        ConfigError: an option is unknown, or there are more mixers than layers.
    """
    each = in_turn([mixer_spec(part, turned, crosses=crosses) for part in choice], layers)
    families = {part.model_card.card.family: None for part in choice}
    reach = reached(
        [choice[i % len(choice)].model_card.card for i in range(layers)],
        [each[i % len(each)].options for i in range(layers)],
        causal,
    )
    return {**config.of_mixers(each), "family": AND.join(families), "reach": reach}


def reached(cards: Sequence[Card], options: Sequence[Mapping[str, Any]], causal: bool = False) -> int | None:
    """Places of a text that its first can learn of, through the layers of these mixers; None: all of them."""
    places = 1.0
    for card, turned in zip(reversed(cards), reversed(options), strict=True):
        places = card.seen_from(places, turned, causal)
    return None if math.isinf(places) else int(places)


def mixer_spec(part: Part, turned: Mapping[str, Mapping[str, Any]], *, crosses: bool = False) -> MixerSpec:
    """A mixer, and all its options."""
    model_card = part.model_card
    return MixerSpec(
        model=model_card.name,
        mixer=mixers.place(model_card.path),
        mixer_hash=provenance.hash_of(model_card.path, crosses=crosses),
        options=mixers.turned(model_card, {**turned.get(model_card.name, {}), **part.options}),
    )


def in_turn(each: Sequence[MixerSpec], layers: int) -> list[MixerSpec]:
    """The fewest that give the same layers.

    Raises:
        ConfigError: there are more than layers.
    """
    if len(each) > layers:
        named = AND.join(one.model for one in each)
        raise ConfigError(f"--model {named}: {len(each)} mixers for the {layers} layers of backbone.layers")
    return fewest([each[i % len(each)] for i in range(layers)])


def fewest(whole: Sequence[T]) -> list[T]:
    """The shortest turn that gives them all."""
    turn = next(n for n in range(1, len(whole) + 1) if all(one == whole[i % n] for i, one in enumerate(whole)))
    return list(whole[:turn])


def parts(patterns: str, flag: str) -> list[str]:
    """Of a comma list.

    Raises:
        ConfigError: there is none.
    """
    if patterns.endswith(FILES) and Path(patterns).is_file():
        return [patterns]  # a path may have a comma in it
    found = [part.strip() for part in re.split("," + OUTSIDE, patterns) if part.strip()]
    if not found:
        raise ConfigError(f"{flag}: names nothing")
    return found


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a glob matches; the pattern itself where nothing does, for whoever looks it up to refuse."""
    if pattern == "all":
        return list(names)
    return [name for name in names if fnmatchcase(name, pattern)] or [pattern]
