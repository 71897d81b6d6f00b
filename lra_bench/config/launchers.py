"""Who starts the runs: the settings of an engine, `configs/launchers/ENGINE.yaml`, or a file of one's own over it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lra_bench.config.files import file_of, shipped
from lra_bench.config.overlays import read, validated
from lra_bench.config.recipes import unsaid
from lra_bench.config.schema import Count, NoneOrMore, Strict
from lra_bench.errors import ConfigError, nearest

KIND = "configs/launchers"

Some = Annotated[float, Field(gt=0)]


class Launcher(Strict):
    """What every engine's settings say."""

    engine: str  # a file of lra_bench/launch/
    jobs: Count | None  # runs at once; null: as many as the engine has room for


class Local(Launcher):
    """Processes on this machine."""

    jobs: Count


class Ray(Launcher):
    """Tasks of a Ray cluster."""

    address: str | None
    cpus: Some
    gpus: Annotated[float, Field(ge=0)]
    memory: Some | None  # GiB
    retries: NoneOrMore


class Slurm(Launcher):
    """Jobs of Slurm, by submitit."""

    cluster: Annotated[str, Field(pattern="^(slurm|local)$")]
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    time: Count  # minutes
    requeues: NoneOrMore
    signal: Count  # seconds
    cpus: Count
    gpus: NoneOrMore
    memory: Some  # GiB
    setup: list[str]
    extra: dict[str, str | int | Literal[True]]
    poll: Some  # seconds


ENGINES: dict[str, type[Launcher]] = {schema.__name__.lower(): schema for schema in (Local, Ray, Slurm)}


def launcher(name: str | None, include: Sequence[Path] = ()) -> Launcher:
    """The settings called `name`, or in the file `name`, over those of its engine; None: a sweep's default.

    Raises:
        ConfigError: it is not found, names no engine, or a value is wrong.
    """
    own = read(file_of(KIND, name or unsaid().values["launcher"], include))
    engine = own.values.get("engine")
    if engine not in ENGINES:
        what = f"'{engine}'; {nearest(str(engine), ENGINES)}" if engine else f"missing; {nearest('', ENGINES)}"
        raise ConfigError(f"{own.at(('engine',))}: {what}")
    whole = own.part((), {**read(shipped(KIND) / f"{engine}.yaml").values, **own.values})
    return validated(ENGINES[engine], whole.values, [whole])
