"""Whose code a run's mixer is: this package's as it stands, that of another version of it, or a user's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lra_bench import mixers
from lra_bench.config import MixerSpec, Run
from lra_bench.errors import ConfigError, nearest
from lra_bench.records import store
from lra_bench.records.schema import SCORED

Origin = Literal["here", "other version", "own file"]


def of(run: Run) -> Origin:
    """By the names and the hashes of the code; where a file lay says only whether it was a user's own."""
    found = {_of(mixer_spec, run.task.crosses) for mixer_spec in run.mixer_specs}
    order: tuple[Origin, ...] = ("own file", "other version", "here")
    return next(one for one in order if one in found)


def _of(mixer_spec: MixerSpec, crosses: bool) -> Origin:
    name = mixer_spec.model
    if name in mixers.names() and hash_of(mixers.model_card(name).path, crosses=crosses) == mixer_spec.mixer_hash:
        return "here"
    shipped = Path(mixer_spec.mixer).parent.parts[-2:] == mixers.FOLDER.parts[-2:]
    return "other version" if shipped else "own file"


def answering(folder: Path) -> Run:
    """`finished`, of a run whose model answers one task.

    Raises:
        ConfigError: it is not there, or answers several.
    """
    run = finished(folder)
    if len(run.trains_on) > 1:
        raise ConfigError(f"{folder}: has the backbone of several tasks; open a run that began with it, on one of them")
    return run


def hash_of(path: Path, *, crosses: bool = False) -> str:
    """What a run's `mixer_hash` says of the mixer in a file; of a task whose target reads a source, where it `crosses`,
    of its cross form too."""
    return mixers.code_with_cross(path) if crosses else mixers.code(path)


def as_here(run: Run) -> Run:
    """The run with its mixers as they are here and now; the same run, of the same id, where none has changed.

    Raises:
        ConfigError: there is no such mixer here.
    """
    return run.with_mixers([_as_here(mixer_spec, run.task.crosses) for mixer_spec in run.mixer_specs])


def _as_here(mixer_spec: MixerSpec, crosses: bool) -> MixerSpec:
    path = mixer_spec.file
    if _of(mixer_spec, crosses) != "own file":
        path = mixers.model_card(_known(mixer_spec.model)).path
    elif not path.is_file():
        raise ConfigError(f"model '{mixer_spec.model}': was {path}, a file of its user's own, which is not here")
    return mixer_spec.model_copy(update={"mixer": mixers.place(path), "mixer_hash": hash_of(path, crosses=crosses)})


def _known(model: str) -> str:
    if model not in mixers.names():
        raise ConfigError(f"model '{model}': this version has no such mixer; {nearest(model, mixers.names())}")
    return model


def finished(folder: Path) -> Run:
    """What was asked in a run's folder, where all that it takes to run its model again is there.

    Raises:
        ConfigError: it is not.
    """
    run = store.read_run(folder)
    result = next(iter(store.read_results(folder)), None)
    if result is None or result.status not in SCORED:
        raise ConfigError(
            f"{folder}: {result.status if result else 'has no result yet'}; only a run that finished can be opened"
        )
    if not (folder / "checkpoints").is_dir():
        raise ConfigError(f"{folder}: has no checkpoints/, they stay where it ran; lra run with --overwrite makes them")
    for one in run.mixer_specs:
        if hash_of(one.file, crosses=run.task.crosses) != one.mixer_hash:
            raise ConfigError(f"{folder}: {one.mixer} has changed since; lra run trains it as it is now")
    return run
