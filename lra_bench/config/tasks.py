"""What is asked: one YAML a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lra_bench import config, source_code
from lra_bench.config import Overlay, TaskSpec
from lra_bench.errors import TaskError, nearest

BASE = "base"  # the YAML that says what a task's own need not


def names(include: Sequence[Path] = ()) -> tuple[str, ...]:
    """Every task that is found, sorted."""
    return tuple(found(include))


def found(include: Sequence[Path] = ()) -> dict[str, Path]:
    """Every task's file by the task's name."""
    return {name: path for name, path in config.found("tasks", include).items() if name != BASE}


def parted(text: str) -> tuple[str, str | None]:
    """What stands for a task on the command line, `NAME` or `NAME@VARIANT`, as its name, or path, and variant."""
    name, at, variant = text.rpartition("@")
    return (name, variant) if at and not variant.endswith((".yaml", ".yml")) else (text, None)


def demanded(name: str, variant: str, include: Sequence[Path] = ()) -> str:
    """The variant, which the task has.

    Raises:
        TaskError: it has none of that name.
    """
    known = variants(name, include)
    if variant not in known:
        raise TaskError(f"task '{name}': no variant '{variant}'; {nearest(variant, known)}")
    return variant


def load(
    name: str, include: Sequence[Path] = (), variant: str | None = None, settings: Sequence[Overlay] = ()
) -> TaskSpec:
    """The task called `name`, or in the YAML file `name`.

    `variant` is laid over it where the task has one of that name, then `settings` (of `--set task.a=b`).

    Raises:
        TaskError: it is not found, lacks a key, or a value is wrong.
        ConfigError: its file is no YAML, or a setting names an unknown key.
    """
    path = config.file_of("tasks", name, include, TaskError)
    overlays = [*written(name, include, variant), *settings]
    used = variant if variant in variants(name, include) else None
    folded = _placed(config.fold(overlays), path)
    return config.validated(TaskSpec, {"name": path.stem, "variant": used, **folded}, overlays, TaskError)


def said(name: str, include: Sequence[Path] = (), variant: str | None = None) -> dict[str, Any]:
    """`written`, folded.

    Raises: as `written`; ConfigError: a variant has an unknown key.
    """
    return config.fold(written(name, include, variant))


def written(name: str, include: Sequence[Path] = (), variant: str | None = None) -> list[Overlay]:
    """What the task's file says, and its variant's section, where there is one.

    Raises:
        TaskError: it is not found, or its variants are no sections.
        ConfigError: its file is no YAML.
    """
    base, whole = config.read(config.shipped("tasks") / f"{BASE}.yaml"), _file(name, include)
    sections = whole.values.get("variants") or {}
    if not isinstance(sections, Mapping):
        raise TaskError(f"{whole.at(('variants',))}: must map names to mappings")
    own = {key: value for key, value in whole.values.items() if key != "variants"}
    task = whole.part((), {**base.values, **own})
    return [task, whole.part(("variants", str(variant)), sections[variant])] if variant in sections else [task]


def variants(name: str, include: Sequence[Path] = ()) -> tuple[str, ...]:
    """The names of the task's variants."""
    return tuple(_file(name, include).values.get("variants") or {})


def _file(name: str, include: Sequence[Path]) -> Overlay:
    return config.held(config.read(config.file_of("tasks", name, include, TaskError)), "task")


def _placed(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """With `folder`, and a source in a file of the user's own, absolute: a YAML file names what is relative to it.

    Raises:
        TaskError: there is no such source's file, or it is no Python.
    """
    folder, source = values.get("folder"), values.get("source")
    if isinstance(folder, str):
        values["folder"] = str(_relative_to(path, folder))
    if isinstance(source, str) and source.endswith(".py"):
        own = _relative_to(path, source)
        values["source"] = f"{own}#{source_code.hash_of(own, TaskError)}"
    return values


def _relative_to(path: Path, named: str) -> Path:
    return (path.parent / Path(named).expanduser()).resolve()
