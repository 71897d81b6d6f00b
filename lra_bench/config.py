"""YAML -> frozen, typed, strict. The only file that reads YAML.

A recipe (`configs/*.yaml`) says how we train, a task (`tasks/*.yaml`) what is asked. `configs/base.yaml` lists every
knob with its default; a recipe overrides it, its section for the task overrides that, `--set a.b=c` overrides all.
A `Cell` is one model on one task with one seed, fully resolved; its id is a hash of everything that decides the
numbers, so a changed default cannot hide behind an old row.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field

from lra_bench.errors import ConfigError, LraError, nearest
from lra_bench.shapes import SPLITS

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Scalar = bool | int | float | str | None


class Strict(BaseModel):
    """Frozen, no unknown key, no conversion, no default: every value stands in a YAML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Trunk(Strict):
    """The encoder that every mixer is put into."""

    layers: Count
    width: Count  # D
    heads: Count  # H
    qkv: Count | None  # the heads' joint width; null: D
    mlp: Count  # hidden width of the MLP block and of the head
    dropout: Share
    positions: Literal["sinusoidal", "learned", "rotary", "none"]
    patch: Count  # symbols a vector stands for, along each axis of an image
    pool: Literal["cls", "mean"]
    dtype: Literal["float32", "bfloat16"]
    remat: bool  # recompute each layer in the backward pass

    @pydantic.model_validator(mode="after")
    def _whole_heads(self) -> Trunk:
        joint = self.qkv or self.width
        if joint % self.heads:
            raise ValueError(f"{joint} wide cannot be cut into {self.heads} heads")
        if self.positions == "rotary" and joint // self.heads % 2:
            raise ValueError(f"rotary positions turn pairs, and a head is {joint // self.heads} wide")
        return self


class Optimizer(Strict):
    """AdamW."""

    lr: Annotated[float, Field(gt=0)]
    b1: Share
    b2: Share
    eps: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    clip: Annotated[float, Field(gt=0)] | None  # global norm; null: none


class Schedule(Strict):
    """The learning rate's factor over steps."""

    name: Literal["constant", "rsqrt", "warmup-cosine", "warmup-linear"]
    warmup: Annotated[int, Field(ge=0)]  # steps


class Training(Strict):
    """How long, how much at once, how often we look, and which step is kept."""

    steps: Count
    batch: Count
    accumulate: Count
    eval_every: Count
    checkpoint_every: Count
    select: Literal["best", "last"]

    @pydantic.model_validator(mode="after")
    def _whole_slices(self) -> Training:
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} cannot be cut into {self.accumulate} slices")
        return self


class Recipe(Strict):
    """How a cell is trained."""

    mark: str | None  # a word that stands beside every number of this recipe
    variant: str | None  # the task's named variant to use, where it has one
    trunk: Trunk
    optimizer: Optimizer
    schedule: Schedule
    training: Training


class TaskSpec(Strict):
    """What is asked: one YAML a task, its variant resolved."""

    name: str
    version: Count
    title: str
    paper: str
    source: str  # a file of lra_bench/data/
    args: dict[str, Scalar]  # the source's own
    folder: str | None  # a user's folder with the released files; null: the source makes or fetches them
    length: Count  # L
    grid: list[Count] | None  # rows and columns, where the sequence is an image; null: it is a text
    classes: Annotated[int, Field(ge=2)]
    streams: Literal[1, 2]
    splits: dict[str, Count]  # examples of train, val and test
    seed: Annotated[int, Field(ge=0)]  # of the data, not of the run
    metric: Literal["accuracy"]
    variant: str | None  # the variant that was used

    @pydantic.field_validator("splits")
    @classmethod
    def _all_splits(cls, splits: dict[str, int]) -> dict[str, int]:
        if set(splits) != set(SPLITS):
            raise ValueError(f"must name {', '.join(SPLITS)}")
        return splits

    @pydantic.model_validator(mode="after")
    def _whole_image(self) -> TaskSpec:
        if self.grid is not None and (len(self.grid) != 2 or self.grid[0] * self.grid[1] != self.length):
            raise ValueError(f"grid: must be [rows, columns] of {self.length} cells")
        return self


class Cell(Strict):
    """One model on one task with one seed, fully resolved: written as cell.json before anything runs."""

    model: str
    family: str
    mixer: str  # the mixer's file
    mixer_hash: str  # of its code, without comments, docstrings and card
    knobs: dict[str, Scalar]
    task: TaskSpec
    recipe_name: str
    recipe: Recipe
    seed: Annotated[int, Field(ge=0)]
    limit: Count | None  # at most so many examples of each split
    changed: str | None  # the --set and --length that were given

    @property
    def id(self) -> str:
        """Ten hexadecimal digits over all that decides the numbers, however it was said."""
        return digest(self.model_dump(exclude={"mixer", "family", "changed"}))[:10]

    @property
    def folder(self) -> str:
        """The name of the cell's folder in the results."""
        return f"{self.model}-{self.task.name}-{self.recipe_name}-s{self.seed}-{self.id}"

    @property
    def mark(self) -> str | None:
        """What must stand beside the cell's numbers in every table, so that nobody takes them for full ones."""
        words = [self.recipe.mark, f"limit {self.limit}" if self.limit else None]
        return ", ".join(w for w in words if w) or None


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Overlay:
    """Values, and the file or flag that they came from."""

    origin: str
    values: Mapping[str, Any]


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
        values = yaml.load(path.read_text(), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values")
    return Overlay(str(path), values)


def setting(text: str, flag: str = "--set") -> tuple[list[str], Any]:
    """`a.b=c` as its path and its value, read as YAML would; `flag` is where it was given.

    Raises:
        ConfigError: there is no `=`, or the value is no YAML.
    """
    dotted, equals, value = text.partition("=")
    if not equals or not dotted:
        raise ConfigError(f"{flag} {text}: must be key=value")
    try:
        return dotted.strip().split("."), yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{flag} {text}: {' '.join(str(error).split())}") from None


def nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    """`value` under the keys of `path`."""
    for key in reversed(path):
        value = {key: value}
    return value


def fold(overlays: Sequence[Overlay]) -> dict[str, Any]:
    """Lay each overlay over those before it. Only what the first one names can be overridden.

    Raises:
        ConfigError: an overlay has a key that the first does not know.
    """
    first, *rest = overlays
    result = dict(first.values)
    for overlay in rest:
        result = _laid_over(result, overlay.values, overlay.origin, ())
    return result


def _laid_over(below: Mapping[str, Any], above: Any, origin: str, path: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(above, Mapping):
        raise ConfigError(f"{origin}: {'.'.join(path)}: must be a mapping of {', '.join(below)}")
    result = dict(below)
    for key, value in above.items():
        if key not in below:
            raise ConfigError(f"{origin}: {'.'.join((*path, str(key)))}: unknown key; {nearest(str(key), below)}")
        branch = isinstance(below[key], Mapping)
        result[key] = _laid_over(below[key], value, origin, (*path, key)) if branch else value
    return result


def validated(
    schema: type[Schema],
    values: Mapping[str, Any],
    overlays: Sequence[Overlay],
    error: type[LraError] = ConfigError,
    under: tuple[str, ...] = (),
) -> Schema:
    """`values`, found under the path `under` of the overlays, as a frozen `schema`.

    Raises:
        ConfigError, or `error`: names the file or flag that the wrong value came from, its key, and what is wrong.
    """
    try:
        return schema.model_validate(values)
    except pydantic.ValidationError as found:
        fault = found.errors(include_url=False)[0]
    path = (*under, *(str(part) for part in fault["loc"]))
    origin = next((o.origin for o in reversed(overlays) if _has(o.values, path)), overlays[0].origin)
    what = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        what = f"unknown key; {nearest(path[-1], schema.model_fields)}"
    elif fault["type"] == "missing":
        what = "missing"
    raise error(f"{origin}: {'.'.join(path)}: {what}")


def _has(values: Any, path: Sequence[str]) -> bool:
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return False
        values = values[key]
    return True


def shipped(kind: str) -> Path:
    """The package's own `tasks` or `configs`: inside a wheel, or beside the package in a checkout."""
    package = Path(__file__).parent
    inside = package / "shipped" / kind
    return inside if inside.is_dir() else package.parent / kind


def folders(kind: str, include: Sequence[Path]) -> list[Path]:
    """Where YAML files of a kind are looked for: the user's own first, then `--include-path`, then what ships."""
    named = [folder for path in include for folder in (path / kind, path)]
    every = [Path(kind), *named, shipped(kind)]
    return list({folder.resolve(): folder for folder in every if folder.is_dir()}.values())


def found(kind: str, include: Sequence[Path] = ()) -> dict[str, Path]:
    """Every YAML file of a kind by its name; the first folder that has one wins."""
    files: dict[str, Path] = {}
    for folder in folders(kind, include):
        for path in sorted(folder.glob("*.yaml")):
            files.setdefault(path.stem, path)
    return dict(sorted(files.items()))


def file_of(kind: str, name: str, include: Sequence[Path] = (), error: type[LraError] = ConfigError) -> Path:
    """The file of the recipe or task called `name`, or `name` itself if it is a path to a YAML file.

    Raises:
        ConfigError, or `error`: there is none; the nearest valid name is named.
    """
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise error(f"{name}: there is no such file")
        return Path(name)
    files = found(kind, include)
    if name not in files:
        raise error(f"{kind.removesuffix('s')} '{name}': not found; {nearest(name, files)}")
    return files[name]


def first_comment(path: Path) -> str:
    """The comment that a YAML file begins with, as one line."""
    return " ".join(_comment_lines(path))


def _comment_lines(path: Path) -> Iterator[str]:
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            return
        yield line.lstrip("# ").rstrip()


@dataclass(frozen=True)
class RecipeFile:
    """A recipe as it stands in the files: the overlays to fold, before a task or a model is known."""

    name: str
    path: Path
    overlays: tuple[Overlay, ...]

    def resolve(self, task: str, settings: Sequence[Overlay] = ()) -> tuple[Recipe, dict[str, dict[str, Scalar]]]:
        """The recipe for the task called `task`, and the mechanisms' knobs that it sets, by model.

        Raises:
            ConfigError: an unknown key or a wrong value.
        """
        overlays: list[Overlay] = []
        knobs: dict[str, dict[str, Scalar]] = {}
        for overlay in self.overlays:
            values = {key: value for key, value in overlay.values.items() if key not in ("tasks", "knobs")}
            own = self._section(overlay, "tasks").get(task) or {}
            overlays.append(Overlay(overlay.origin, values))
            overlays.append(Overlay(f"{overlay.origin}: tasks.{task}", {k: v for k, v in own.items() if k != "knobs"}))
            for section in (self._section(overlay, "knobs"), own.get("knobs") or {}):
                for model, turned in section.items():
                    knobs[model] = {**knobs.get(model, {}), **turned}
        overlays.extend(settings)
        return validated(Recipe, fold(overlays), overlays), knobs

    @staticmethod
    def _section(overlay: Overlay, key: str) -> Mapping[str, Any]:
        section = overlay.values.get(key) or {}
        if not isinstance(section, Mapping) or not all(isinstance(v, Mapping) for v in section.values()):
            raise ConfigError(f"{overlay.origin}: {key}: must map names to mappings")
        return section


def recipe(name: str, include: Sequence[Path] = ()) -> RecipeFile:
    """The recipe called `name`, or in the file `name`, over `base`.

    Raises:
        ConfigError: it is not found or not readable.
    """
    path = file_of("configs", name, include)
    base = read(file_of("configs", "base", include))
    overlays = (base,) if path.stem == "base" else (base, read(path))
    return RecipeFile(path.stem, path, overlays)
