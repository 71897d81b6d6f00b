"""A value as it is given on a command line: text where text is declared, else read as YAML would."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from lra_bench.config.overlays import loaded
from lra_bench.config.schema import Recipe, Scalar, TaskSpec
from lra_bench.config.techniques import Techniques
from lra_bench.errors import ConfigError

Kinds = Collection[type]  # that a value may be of
NUMBER = re.compile(  # without a leading zero, which YAML takes for base 8, or a colon, for base 60
    r"[-+]?(?:0|[1-9][\d_]*|0x[\da-fA-F_]+"
    r"|(?:\d[\d_]*)?\.\d+|\d[\d_]*\.\d*"
    r"|(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+"
    r"|\.(?:inf|Inf|INF|nan|NaN|NAN))"
)
QUOTED = re.compile(r"""\s*(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')\s*""", re.DOTALL)
NONE, TRUTH = ("", "null"), ("true", "false")
SCALAR: Kinds = frozenset({bool, int, float, str, type(None)})


def setting(
    text: str, flag: str = "--set", kinds: Callable[[Sequence[str]], Kinds] | None = None
) -> tuple[list[str], Any]:
    """`a.b=c` as its path and its value, of one of the kinds that are declared for it; `flag` is where it was given.

    `kinds` says which, by the path; without it the recipe's, the task's and the techniques' schemas do.

    Raises:
        ConfigError: there is no `=`, or the value is no YAML where it should be.
    """
    dotted, equals, value = text.partition("=")
    if not equals or not dotted.strip():
        raise ConfigError(f"{flag} {text}: must be key=value")
    path = dotted.strip().split(".")
    try:
        return path, typed(value, (kinds or declared)(path))
    except yaml.YAMLError as error:
        raise ConfigError(f"{flag} {text}: {' '.join(str(error).split())}") from None


def typed(text: str, kinds: Kinds) -> Any:
    """The text as a value of one of the kinds; as it stands where it can be none, for whoever declared them to refuse.

    Raises:
        yaml.YAMLError: it is no YAML where it should be.
    """
    if type(None) in kinds and text.strip() in NONE:
        return None
    if str in kinds and QUOTED.fullmatch(text):
        return loaded(text)
    if set(kinds) <= {str, type(None)}:
        return text
    plain = text.strip()
    if str in kinds:
        return loaded(plain) if NUMBER.fullmatch(plain) or plain.lower() in TRUTH else text
    value = loaded(text)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return text if number and not NUMBER.fullmatch(plain) else value


def declared(path: Sequence[str]) -> Kinds:
    """The kinds that the schema has for a setting; those of a scalar where none says."""
    if path[0] == "task":
        return frozenset(_kinds(_below(TaskSpec, path[1:])))
    if path[0] in Techniques.model_fields:
        return frozenset(_kinds(_below(Techniques, path)))
    return frozenset(_kinds(_below(Recipe, path))) if path[0] in Recipe.model_fields else SCALAR


def _below(annotation: Any, path: Sequence[str]) -> Any:
    """What is declared under the path."""
    for key in path:
        schema = next((one for one in _members(annotation) if _is_schema(one)), None)
        of = next((get_args(one)[1] for one in _members(annotation) if get_origin(one) is dict), Scalar)
        fields = schema.model_fields if schema else {}
        annotation = fields[key].rebuild_annotation() if key in fields else of
    return annotation


def _members(annotation: Any) -> Iterator[Any]:
    """What a value may be, one by one."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for one in get_args(annotation):
            yield from _members(one)
    else:
        yield annotation


def _kinds(annotation: Any) -> Iterator[type]:
    for one in _members(annotation):
        if get_origin(one) is Literal:
            yield from map(type, get_args(one))
        elif _is_schema(one):
            yield dict
        else:
            yield get_origin(one) or one


def _is_schema(one: Any) -> bool:
    return isinstance(one, type) and issubclass(one, BaseModel)
