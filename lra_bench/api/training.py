"""Runs and their results."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lra_bench import config as configs
from lra_bench import sweeps
from lra_bench.cli import progress
from lra_bench.cli.options import RECIPE, RESULTS, TECHNIQUE
from lra_bench.errors import ConfigError
from lra_bench.launch.engine import Order, Stopped
from lra_bench.records import store
from lra_bench.records.schema import COLUMNS, Result
from lra_bench.sweeps import Request

if TYPE_CHECKING:
    import pandas as pd

BY = "setting"  # what a message calls one

Names = str | Path | Iterable[str | Path]  # one name, several in a comma list, or an iterable of names


def run(
    model: str | Path,
    task: str | Path,
    config: str | Path = RECIPE,
    *,
    seed: int = 0,
    technique: str = TECHNIQUE,
    length: int | None = None,
    limit: int | None = None,
    results: str | Path = RESULTS,
    overwrite: bool = False,
    verbose: bool = True,
    **settings: Any,
) -> Result:
    """Train a model on a task in a process of its own, and return its result; one that is finished is not run again.

    Args:
        model: a name, `name[option=value]`, `a+b` (one mixer per layer), or the path of a mixer's file.
        task: a name, `name@variant`, or the path of a task's YAML file.
        config: the training config: a name, or the path of a YAML file.
        seed: random seed for initialization, data order and dropout.
        technique: a technique's name or file, or several joined by `+`.
        length: sequence length, in place of the task's own.
        limit: use at most so many examples of each split.
        results: the results folder.
        overwrite: run it again if it is finished, and discard its checkpoints.
        verbose: show progress on stderr.
        settings: values to override, as sections (`training={"steps": 50}`), or as dotted keys
            (`**{"training.steps": 50}`).

    Returns:
        The result, whose `status` says whether the run failed, and whose `error` says why.

    Raises:
        LraError: what is asked for is unknown or wrong; the message names it and the nearest valid name.
        KeyboardInterrupt: Ctrl-C; the run is saved, and the same call resumes it.
    """
    request = Request(
        str(model), str(task), str(config), (seed,), length, _said(settings), limit, techniques=technique, by=BY
    )
    asked = sweeps.runs(request)
    if len(asked) != 1:
        raise ConfigError(f"{model} on {task}: {len(asked)} runs; lra.sweep runs several")
    (result,) = _executed(asked, Order(Path(results), overwrite), verbose)
    return result


def sweep(
    models: Names,
    tasks: Names,
    config: str | Path = RECIPE,
    *,
    seeds: Sequence[int] = (0,),
    techniques: Names = TECHNIQUE,
    length: int | None = None,
    limit: int | None = None,
    jobs: int | None = None,
    results: str | Path = RESULTS,
    overwrite: bool = False,
    verbose: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """Train every model on every task with every seed and technique, and return one line for each run.

    A warning names each model that cannot be what a task or a setting asks for, and why; it has no line.

    The arguments are those of `run`, and

    Args:
        models: names, globs, `family:NAME` or files, as a comma list or as an iterable.
        tasks: names, globs or files, likewise.
        seeds: random seeds.
        techniques: names or files, likewise; `a+b` applies both.
        jobs: number of runs at a time, which each result records; `None`: as the command line has it.

    Returns:
        A table with the columns of a result, in the order in which the runs were asked for.

    Raises:
        LraError: as `run`.
        KeyboardInterrupt: Ctrl-C; what ran is saved, and the same call resumes.
    """
    import pandas as pd

    request = Request(
        _listed(models), _listed(tasks), str(config), tuple(seeds), length, _said(settings), limit,
        techniques=_listed(techniques), by=BY,
    )  # fmt: skip
    able, left_out = sweeps.able(sweeps.runs(request))
    for line in left_out:
        warnings.warn(line, stacklevel=2)
    every = _executed(able, Order(Path(results), overwrite, jobs=jobs), verbose)
    return pd.DataFrame([result.as_dict() for result in every], columns=list(COLUMNS))


def results(path: str | Path | Iterable[str | Path] = RESULTS) -> pd.DataFrame:
    """The results in results folders, single runs and exported tables (.csv, .json), one line each.

    Returns:
        A table with the columns of a result; `origin` is the path that a line came from, and `folder` the run's.

    Raises:
        ConfigError: a path is not there, or holds no results.
    """
    return store.to_dataframe([Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path])


def _executed(asked: Sequence[configs.Run], order: Order, verbose: bool) -> list[Result]:
    with progress.watching(len(sweeps.with_needs(asked))) if verbose else nullcontext(_silent) as tell:
        try:
            return sweeps.run(asked, configs.launcher(None), order, tell)
        except Stopped as stopped:
            raise KeyboardInterrupt(str(stopped)) from None


def _silent(run: configs.Run, event: Mapping[str, Any]) -> None:
    """The watch of a caller who does not watch."""


def _listed(names: Names) -> str:
    return str(names) if isinstance(names, str | Path) else ",".join(map(str, names))


def _said(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """As `--set` has them."""
    return tuple(f"{key}={_word(value)}" for key, value in configs.flat(settings))


def _word(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value)
