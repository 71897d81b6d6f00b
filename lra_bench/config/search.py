"""A search space: a YAML of dotted keys, as `--set` has them, each with a list of values or a range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml
from pydantic import Field

from lra_bench.config.files import file_of
from lra_bench.config.files import found as found_files
from lra_bench.config.kinds import held
from lra_bench.config.overlays import Overlay, nested, read, validated
from lra_bench.config.recipes import RecipeFile
from lra_bench.config.schema import Scalar, Strict, Tuned
from lra_bench.errors import ConfigError

KIND = "configs/search"


class Range(Strict):
    """Numbers between two, both included; whole ones where both are."""

    model_config = pydantic.ConfigDict(populate_by_name=True)

    low: int | float = Field(alias="from")
    high: int | float = Field(alias="to")
    scale: Literal["uniform", "log"]

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.low >= self.high or (self.scale == "log" and self.low <= 0):
            raise ValueError(f"from {self.low} to {self.high}: must rise, and from above 0 where the scale is log")
        return self


Space = dict[str, Range | list[Scalar]]  # what may be chosen, by dotted key


def first(what: Range | list[Scalar]) -> Scalar:
    """One of the values."""
    return what[0] if isinstance(what, list) else what.low


def spaces(include: Sequence[Path] = ()) -> dict[str, Path]:
    """Every search space by its name."""
    return found_files(KIND, include)


def space(name: str, include: Sequence[Path] = ()) -> Space:
    """The search space called `name`, or in the file `name`.

    Raises:
        ConfigError: it is not found, or a range is none.
    """
    own = held(read(file_of(KIND, name, include)), "search space")
    found: Space = {}
    for key, value in own.values.items():
        if isinstance(value, Mapping):
            found[key] = validated(Range, value, [Overlay(f"{own.at((key,))}", value)])
        elif isinstance(value, list) and value:
            found[key] = value
        else:
            raise ConfigError(f"{own.at((key,))}: must be a list of values, or {{from: A, to: B, scale: uniform|log}}")
    return found


def recipe_text(recipe: RecipeFile, task: str, settings: Mapping[str, Any], tuned: Tuned, says: str) -> str:
    """A recipe's own file with other settings, as YAML; what is no section of a recipe is a model's option.

    Where the file has settings of the task's own, which come after all others, they are laid there.
    """
    values: dict[str, Any] = dict(recipe.overlays[-1].values) if len(recipe.overlays) > 1 else {}
    under = ["tasks", task] if task in recipe.tasks else []
    for key, value in settings.items():
        path = key.split(".")
        whole = path if path[0] in recipe.overlays[0].values else ["options", *path]
        values = _laid(values, nested([*under, *whole], value))
    values["tuned"] = tuned.model_dump()
    return "".join(f"# {line}\n" for line in says.splitlines()) + yaml.safe_dump(values, sort_keys=False)


def _laid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _laid(result[key], value) if both else value
    return result
