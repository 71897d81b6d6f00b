"""The code that makes a run's numbers, as two hashes.

`code_hash` is of what every run goes through: model, training, techniques, batches, scores. `parts_hash` is of what
this one is made of: its mixers and its source, with the kernels and whatever else of the package they import. Of the
syntax trees: comments, docstrings and cards are free. So the runs of a table are of the same code if their `code_hash`
is one and each model's `parts_hash` is; a new mixer, or another one's kernel, leaves both as they are.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lra_bench import data, mixers, source_code
from lra_bench.config import MixerSpec, Run, TaskSpec
from lra_bench.errors import ConfigError
from lra_bench.mixers.cross import card as cross_card
from lra_bench.records.schema import Result
from lra_bench.source_code import DIGITS, PACKAGE, Import

NUMERIC = {"kernels", "mixers", "model", "training", "techniques", "data", "runs", "metrics", "shapes"}
# What these find is in a run's parts; what the others do moves no number.
FREE = {
    "mixers/__init__.py",
    "mixers/card.py",
    "mixers/cross/card.py",
    "data/__init__.py",
    "training/checkpoint.py",
    "training/xla_flags.py",
}
ENTRIES = ("runs/build.py", "training/trainer.py", "runs/scoring.py", "runs/lengths.py")
LIBRARIES = ("jax", "jaxlib", "flax", "optax")
SAID = {
    "code_hash": "code",
    "parts_hash": "code of its mixer or source",
    "data_hash": "data",
    **{name: name for name in LIBRARIES},
}


def of(run: Run, package: Path = PACKAGE) -> dict[str, str]:
    """The columns `code_hash` and `parts_hash` of the run's result, by the code in `package`.

    Raises:
        ConfigError: a file of it is not there, or is no Python.
    """
    return {"code_hash": common(package), "parts_hash": of_files(_parts(run, package), package)}


def common(package: Path = PACKAGE) -> str:
    """The column `code_hash` of every result, by the code in `package`.

    Raises:
        ConfigError: a file of it is not there, or is no Python.
    """
    return of_files([package / name for name in ENTRIES], package)


def full(run: Run) -> dict[str, str | None]:
    """`of`, and the installed versions of the libraries that compute."""
    return {**of(run), **{name: importlib.metadata.version(name) for name in LIBRARIES}}


def apart(now: Mapping[str, Any], then: Mapping[str, Any]) -> str | None:
    """In words, in what of `full`, and in what data, two differ, as far as both are known; None if in nothing."""
    differing = [key for key in SAID if now.get(key) and then.get(key) and now[key] != then[key]]
    return ", ".join(f"{SAID[key]} {then[key][:DIGITS]} (now {now[key][:DIGITS]})" for key in differing) or None


def since(result: Result, run: Run) -> str | None:
    """By what other code the run's result was made than would make it here and now; None if by this."""
    if result.code_hash is None:
        return "code that is not known"
    then = {"code_hash": result.code_hash, "parts_hash": result.parts_hash, **json.loads(result.versions or "{}")}
    return apart(full(run), then)


def _parts(run: Run, package: Path) -> Iterator[Path]:
    for one in run.mixer_specs:
        yield (own := _mixer(one, package))
        if run.task.crosses and (cross := cross_card.path_of(own)):
            yield cross
    if run.task.crosses and run.recipe.backbone.self_mixer != "own":
        yield package / "mixers" / mixers.reference().name
    for task in run.tasks:
        yield from _sources(task, package)


def _mixer(one: MixerSpec, package: Path) -> Path:
    """Its file; in the package, wherever that lay when the run was asked for."""
    path = Path(one.mixer)
    shipped = path.parent.parts[-2:] == mixers.FOLDER.parts[-2:]
    return package / "mixers" / path.name if shipped else path


def _sources(task: TaskSpec, package: Path) -> Iterator[Path]:
    if task.of is not None:
        yield package / "data" / "denoising.py"
        yield from _sources(task.of, package)
        return
    own, in_a_file, _ = task.source.rpartition(".py#")
    yield Path(f"{own}.py") if in_a_file else data.path_of(task.source, package)
    yield package / "data" / ("custom.py" if in_a_file else "generated.py")


def of_files(entries: Iterable[Path], package: Path = PACKAGE) -> str:
    """Ten hexadecimal digits over the files' code and all that makes numbers of what they import, wherever they lie.

    Raises:
        ConfigError: one is not there, or is no Python.
    """
    own = {file.resolve() for file in entries}
    every = own | source_code.reached(own, partial(_numeric, package), ConfigError)
    every |= {file for path in own for file in source_code.local(path, ConfigError) if not path.is_relative_to(package)}
    return source_code.digest(sorted({source_code.text_of(path, ConfigError, mixers.is_card) for path in every}))


def _numeric(package: Path, one: Import) -> Path | None:
    """The file of a module of the package that makes numbers."""
    file = one.file([package.parent]) if one.of(PACKAGE.name) else None
    if file is None:
        return None
    within = file.resolve().relative_to(package.resolve())
    return None if within.as_posix() in FREE or within.parts[0].removesuffix(".py") not in NUMERIC else file
