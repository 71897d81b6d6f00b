"""A finished run done again from its own run.json, in a folder and a process of its own: did it come out the same?"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from lra_bench import config, statistics, sweeps
from lra_bench.config import Run
from lra_bench.errors import ConfigError
from lra_bench.launch.engine import Order
from lra_bench.records import provenance, store
from lra_bench.records.schema import FINAL, SCORED, Result

Verdict = Literal["identical", "agrees", "differs"]
OUTCOMES = ("status", "test_score", "val_score", "best_step", "train_loss", "data_hash", "params")
PLACE = ("platform", "device", "devices", "impl", "fallback")
KNOWN_LATER = ("matmul", "deterministic")  # columns of the place that a kept result may not have
# How variables begin that move times and memory alone; and the package's own version: its code has lines of its own.
MOVES_NO_NUMBER = (
    "MALLOC_", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION", "lra-bench",
)  # fmt: skip


class Line(NamedTuple):
    """One thing, as it was and as it is."""

    what: str
    old: Any
    new: Any
    same: bool
    apart: int | None = None  # of what has many parts, as many as differ


@dataclass(frozen=True)
class Ran:
    """A run that has come to its end, and the files that it left."""

    folder: Path
    run: Run
    result: Result
    scores: np.ndarray | None  # of every example of test, [N]
    curve: list[Any] | None

    @classmethod
    def open(cls, folder: Path) -> Ran:
        """The run in `folder`.

        Raises:
            ConfigError: it has no result, or a file of it cannot be read.
        """
        run, result = store.read_run(folder), next(iter(store.read_results(folder)), None)
        if result is None:
            raise ConfigError(f"{folder}: has no result yet; only a run that finished can be done again")
        curve = folder / "curve.json"
        return cls(folder, run, result, store.scores(folder), store.read_json(curve) if curve.exists() else None)


@dataclass(frozen=True)
class Reproduction:
    """A run beside itself done again."""

    old: Ran
    new: Ran
    outcome: tuple[Line, ...]  # what has to be the same, bit for bit
    place: tuple[Line, ...]  # what it was run by and on: where that differs, bits may
    paired: statistics.Paired | None  # new less old over the same examples of test

    @property
    def verdict(self) -> Verdict:
        """identical: every outcome. agrees: not that, but something of the place is another or bits are not promised
        there, data and parameters are the same, and test's examples tell no difference (p >= ALPHA). differs: else."""
        if all(line.same for line in self.outcome):
            return "identical"
        held = all(line.same for line in self.outcome if line.what in ("data_hash", "params"))
        moved = not self.promised or not all(line.same for line in self.place)
        return "agrees" if moved and held and self.paired and self.paired.p >= statistics.ALPHA else "differs"

    @property
    def promised(self) -> bool:
        """Is it the same bits each time where both ran? On a CPU it is; on a GPU, where XLA was told so."""
        return all(ran.result.platform in (None, "cpu") or ran.result.deterministic for ran in (self.old, self.new))


def finished(folder: Path) -> Ran:
    """The run in a folder, if it is one that would come out the same again.

    Raises:
        ConfigError: it is not.
    """
    ran = Ran.open(folder)
    if ran.result.status not in FINAL:
        raise ConfigError(
            f"{folder}: {ran.result.status}; only a run that finished, or diverged, can be held to its result"
        )
    if ran.result.status in SCORED and ran.scores is None:
        raise ConfigError(f"{folder}: has no per_example.json or scores.json, by which runs are compared")
    return ran


def again(
    old: Ran, tell: Callable[[Run, dict[str, Any]], None], *, keep: Path | None = None, jobs: int | None = None
) -> Reproduction:
    """Run it again, with its mixer as it is here, on one job's share of the cores; it and the old one.

    `keep` is a results folder that takes the new run, or resumes it; `jobs` are the result's own if not given.

    Raises:
        Stopped: Ctrl-C.
        ConfigError: its mixer or its data are not here, or `keep` has such a run.
    """
    run = provenance.as_here(old.run)
    with _results(keep) as results:
        folder = store.folder(results, run)
        if (folder / "result.json").exists():
            raise ConfigError(f"--keep {results}: has a result of this run already, {folder.name}")
        if (old.folder / "fallback.json").exists() and not folder.exists():
            folder.mkdir(parents=True)
            shutil.copy(old.folder / "fallback.json", folder)  # in the micro-batches in which it ran then
        order = Order(results, jobs=jobs or old.result.jobs or 1, processes=old.result.processes or 1)
        sweeps.run([run], config.launcher(None), order, tell)
        return compared(old, Ran.open(folder))


@contextlib.contextmanager
def _results(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="lra-reproduce-") as scratch:
        yield Path(scratch)


def compared(old: Ran, new: Ran) -> Reproduction:
    """The two runs, line by line."""
    results = old.result.as_dict(), new.result.as_dict()
    outcome = [_line(what, *(result[what] for result in results)) for what in OUTCOMES]
    outcome += [_many("test examples", old.scores, new.scores), _many("curve", old.curve, new.curve)]
    known = [what for what in KNOWN_LATER if all(result[what] is not None for result in results)]
    place = [_line(what, *(result[what] for result in results)) for what in (*PLACE, *known)]
    place += [*_inside("versions", *results), *_inside("environment", *results), *_code(*results)]
    place.append(_line("mixer", old.run.code, new.run.code))
    return Reproduction(old, new, tuple(outcome), tuple(place), _paired(old, new))


def _line(what: str, old: Any, new: Any) -> Line:
    return Line(what, old, new, old == new)


def _many(what: str, old: Any, new: Any) -> Line:
    """Of what has many parts, how many there are and a hash of them."""
    parts: list[Any] = [None if one is None else np.asarray(one).tolist() for one in (old, new)]
    old_said, new_said = (None if one is None else f"{len(one):,}: {config.digest(one)[:10]}" for one in parts)
    whole = None not in parts and len(parts[0]) == len(parts[1])
    apart = sum(a != b for a, b in zip(*parts, strict=True)) if whole else None
    return Line(what, old_said, new_said, parts[0] == parts[1], apart)


def _inside(column: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Line]:
    """A line for each key of a column that is a mapping in JSON."""
    values = [json.loads(result[column] or "{}") for result in (old, new)]
    for key in sorted({*values[0], *values[1]}):
        if not key.startswith(MOVES_NO_NUMBER):
            yield _line(key, *(value.get(key) for value in values))


def _code(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Line]:
    """The code that makes numbers; where that of one is not known, its commit; what is not as committed may be any."""
    if old["code_hash"] and new["code_hash"]:
        yield from (_line(column, old[column], new[column]) for column in ("code_hash", "parts_hash"))
        return
    before, now = (f"{(one['commit'] or '')[:10]}{' and changes' if one['dirty'] else ''}" for one in (old, new))
    yield Line(
        "commit", before or None, now or None, old["commit"] == new["commit"] and not old["dirty"] and not new["dirty"]
    )


def _paired(old: Ran, new: Ran) -> statistics.Paired | None:
    if old.scores is None or new.scores is None or len(old.scores) != len(new.scores) or len(old.scores) < 2:
        return None
    return statistics.paired(new.scores[None], old.scores[None])
