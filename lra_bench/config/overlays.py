"""YAML read, and laid one over another; a wrong value is traced to the file or flag that it came from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from lra_bench.config.schema import Strict
from lra_bench.errors import ConfigError, LraError, nearest

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Overlay:
    """Values, and the file or flag that they came from."""

    origin: str
    values: Mapping[str, Any]
    lines: Mapping[Keys, int] = field(default_factory=dict)  # of each key in its file
    under: Keys = ()  # the keys in the file that the values stand under

    def part(self, under: Keys, values: Mapping[str, Any]) -> Overlay:
        """Values that stand deeper in the same file."""
        return Overlay(self.origin, values, self.lines, (*self.under, *under))

    def at(self, path: Keys) -> str:
        """Where a key is found: the file with the line, or the flag, and the whole key; of all together, the file."""
        whole = (*self.under, *path)
        line = f":{self.lines[whole]}" if whole in self.lines else ""
        return f"{self.origin}{line}: {'.'.join(whole)}" if whole else self.origin


Schema = TypeVar("Schema", bound=Strict)


class _Loader(yaml.SafeLoader):
    """YAML as its users mean it: `1e-3` is a number, and a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"the key '{min(twice)}' stands twice, near line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read(path: Path) -> Overlay:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file cannot be read, is no YAML, or is no mapping.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8-sig"))
        node = loader.get_single_node()
        values = loader.construct_document(node) if node else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if node is None or not isinstance(values, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values")
    return Overlay(str(path), values, dict(_lines(node, ())))


def _lines(node: yaml.Node, path: Keys) -> Iterator[tuple[Keys, int]]:
    """The line of each key, counted from 1."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            yield here, key.start_mark.line + 1
            yield from _lines(value, here)


def loaded(text: str) -> Any:
    """The value that YAML reads in a text.

    Raises:
        yaml.YAMLError: it is none.
    """
    return yaml.load(text, _Loader)


def nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    """`value` under the keys of `path`."""
    for key in reversed(path):
        value = {key: value}
    return value


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value under its dotted path, as `--set` has it."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def fold(overlays: Sequence[Overlay]) -> dict[str, Any]:
    """Lay each overlay over those before it. Only what the first one names can be overridden.

    Raises:
        ConfigError: an overlay has a key that the first does not know.
    """
    first, *rest = overlays
    result = dict(first.values)
    for overlay in rest:
        result = _laid_over(result, overlay.values, overlay, ())
    return result


def _laid_over(below: Mapping[str, Any], above: Any, origin: Overlay, path: Keys) -> dict[str, Any]:
    if not isinstance(above, Mapping):
        raise ConfigError(f"{origin.at(path)}: must be a mapping of {', '.join(below)}")
    result = dict(below)
    for key, value in above.items():
        if key not in below:
            raise ConfigError(f"{origin.at((*path, str(key)))}: unknown key; {nearest(str(key), below)}")
        branch = isinstance(below[key], Mapping)
        result[key] = _laid_over(below[key], value, origin, (*path, key)) if branch else value
    return result


def validated(
    schema: type[Schema],
    values: Mapping[str, Any],
    overlays: Sequence[Overlay],
    error: type[LraError] = ConfigError,
    under: Keys = (),
) -> Schema:
    """`values`, found under the path `under` of the overlays, as a frozen `schema`.

    Raises:
        ConfigError, or `error`: names the file or flag that the wrong value came from, its key, and what is wrong.
    """
    try:
        return schema.model_validate(values)
    except pydantic.ValidationError as found:
        faults = found.errors(include_url=False)
        fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    path = (*under, *(str(part) for part in fault["loc"]))
    origin = next((o for o in reversed(overlays) if _has(o.values, path)), overlays[0])
    what = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        what = f"unknown key; {nearest(path[-1], schema.model_fields)}"
    elif fault["type"] == "missing":
        what = "missing"
    raise error(f"{origin.at(path)}: {what}")


def _has(values: Any, path: Sequence[str]) -> bool:
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True
