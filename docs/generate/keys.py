"""The keys of YAML files: configs, tasks, sweeps, techniques and launchers, each with its kind, default and meaning."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import pydantic

from generate import comments
from generate.writing import Folder, code, definitions, plain, with_code
from lra_bench import config
from lra_bench.config.calibration import Check

NAMES = {int: "integer", float: "number", str: "text", bool: "`true` or `false`", dict: "mapping"}
REQUIRED = "required"
INTRO = """\
# Keys of YAML files

A YAML file of yours says only what differs from the defaults. `--set KEY=VALUE` sets a key of a config or a technique
from the command line, `--set task.KEY=VALUE` one of a task, and `--set MODEL.OPTION=VALUE` an option of a mixer, which
the [pages of the models](models/index.myst) list. An unknown key is refused with the nearest valid name.
"""


class Kind(NamedTuple):
    """A kind of YAML file."""

    title: str
    about: str
    file: str  # whose values are the defaults, and whose comments say what the keys mean
    schema: type[pydantic.BaseModel]
    left_out: tuple[str, ...] = ()  # of the schema: what no file says


KINDS = (
    Kind("Configs", "How a run is trained: `configs/*.yaml`, `-c/--config`.", "configs/base.yaml", config.Recipe),
    Kind(
        "Techniques",
        "What is applied to a model beside the choice of its mixer: `configs/techniques/*.yaml`, `--technique`.",
        "configs/techniques/base.yaml",
        config.Techniques,
    ),
    Kind(
        "Tasks",
        "What is asked: `tasks/*.yaml`, `-t/--task`. `variants` maps names to the values that a variant changes.",
        "tasks/base.yaml",
        config.TaskSpec,
        ("name", "variant", "content", "of"),
    ),
    Kind("Sweeps", "Which runs `lra sweep FILE` does.", "configs/sweeps/base.yaml", config.Sweep),
    Kind(
        "Checks of the calibration",
        "Runs whose outcome is known, and what it is: `configs/calibration/*.yaml`, `lra calibrate`.",
        "configs/calibration/base.yaml",
        Check,
    ),
    Kind("Launcher: local", "`--launcher local`.", "configs/launchers/local.yaml", config.Local),
    Kind("Launcher: ray", "`--launcher ray`.", "configs/launchers/ray.yaml", config.Ray),
    Kind("Launcher: slurm", "`--launcher slurm`.", "configs/launchers/slurm.yaml", config.Slurm),
)


class Key(NamedTuple):
    """A key that a file may have."""

    name: str
    kind: str
    default: str
    meaning: str


def write(folder: Folder) -> None:
    """Write the page of all keys."""
    folder.put("keys", "\n".join([INTRO, *(_section(kind) for kind in KINDS)]))


def _section(kind: Kind) -> str:
    return f"## {kind.title}\n\n{kind.about}\n\n" + definitions(_entry(key) for key in every(kind))


def _entry(key: Key) -> tuple[str, str]:
    default = "It is required." if key.default == REQUIRED else f"Default: {key.default}."
    return f"{code(key.name)} ({key.kind})", f"{sentence(key.meaning)} {default}".strip()


def sentence(comment: str) -> str:
    """A comment, as Markdown, with a full stop, and a capital letter unless it lists values."""
    text = with_code(comment if " | " in comment else comment[:1].upper() + comment[1:])
    return text if not text or text[-1] in ".:?" else f"{text}."


def path(file: str) -> Path:
    """A file that ships with the package."""
    top, _, rest = file.partition("/")
    return config.shipped(top) / rest


def every(kind: Kind) -> Iterator[Key]:
    """The keys of a kind of file: those without a default first, then as its file has them."""
    values, said = config.read(path(kind.file)).values, comments.of_yaml(path(kind.file))
    beside = {field.name: field.says for field in comments.of_class(kind.schema)}
    for name, field in kind.schema.model_fields.items():
        if name not in values and name not in kind.left_out:
            yield Key(name, described(field.annotation, field.metadata), REQUIRED, beside.get(name, ""))
    for keys, value in _leaves(values):
        annotation, metadata, schema_says = _field(kind.schema, keys)
        meaning = said.get(keys, "") or schema_says
        yield Key(".".join(keys), described(annotation, metadata), _default(value), meaning)


def _leaves(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _field(schema: type[pydantic.BaseModel], keys: tuple[str, ...]) -> tuple[Any, Any, str]:
    """The annotation of a field below a schema, what narrows it, and the comment beside it."""
    own: Any = schema
    for key in keys[:-1]:
        own = _model(own.model_fields[key].annotation)
    field = own.model_fields.get(keys[-1])
    if field is None:
        return dict, [], ""
    says = {one.name: one.says for one in comments.of_class(own)}
    return field.annotation, field.metadata, says.get(keys[-1], "")


def _model(annotation: Any) -> Any:
    return next((arg for arg in get_args(annotation) if isinstance(arg, type) and arg is not type(None)), annotation)


def described(annotation: Any, metadata: Any = ()) -> str:
    """A type in words, as Markdown."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return described(args[0], args[1:])
    if origin is Literal:
        return _joined([code(arg) for arg in args])
    if origin in (typing.Union, types.UnionType):
        return _joined([part for arg in args for part in _parts(arg, metadata)])
    if origin is list:
        return f"list of {described(args[0])}"
    if annotation is type(None):
        return "`null`"
    return " ".join([NAMES.get(origin or annotation, "mapping"), *_bounds(metadata)]).strip()


def _parts(annotation: Any, metadata: Any) -> list[str]:
    """What a union is of: the values of a literal one by one."""
    if get_origin(annotation) is Literal:
        return [code(arg) for arg in get_args(annotation)]
    return [described(annotation, metadata)]


def _bounds(metadata: Any) -> Iterator[str]:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    each = [one for part in metadata for one in getattr(part, "metadata", [part])]
    said = [f"{word} {getattr(one, name):,g}" for one in each for name, word in words.items() if hasattr(one, name)]
    if said:
        yield " and ".join(said)


def _joined(parts: list[str]) -> str:
    *first, last = dict.fromkeys(parts)
    return f"{', '.join(first)} or {last}" if first else last


def _default(value: Any) -> str:
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(value) if value != "" else plain('""')
