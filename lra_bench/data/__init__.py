"""The data: one source a file, built once, kept in a cache, cut into batches.

A source is found by looking into `sources/` for files that define `build`, or `draw` where its examples are only ever
drawn from a seed; there is no registry to edit. What such a file exports is written down in `Source` and in
`generated.Drawn`. A task may also name a file of the user's own, of which `custom.CustomSource` says what it must
export. Nothing here opens numpy until data are asked for.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from lra_bench.config import Overlay, Strict, TaskSpec, validated
from lra_bench.errors import TaskError, nearest

if TYPE_CHECKING:
    import numpy as np

    from lra_bench.data.made import About
    from lra_bench.shapes import Split

__all__ = [
    "Check",
    "Dataset",
    "Progress",
    "Source",
    "about",
    "arguments",
    "asked",
    "cache_root",
    "identified",
    "load",
    "names",
    "of",
    "prepare",
    "silent",
    "values",
    "verify",
    "vocabulary",
]

PACKAGE = Path(__file__).parent.parent

Progress = Callable[[str, int, int], None]
"""Called as work is done: what is being done, how much of it is done, out of how much."""


def silent(what: str, done: int, total: int) -> None:
    """The `Progress` of a caller who does not watch."""


class Source(Protocol):
    """What a source's file exports. `S` streams, `L` length; id 0 is padding and never a real symbol.

    `build` makes all splits at once, not one a call: they must not share an example, and only who sees them all can
    see to that.
    """

    VERSION: int
    """Raised whenever `build` gives other bytes than before for the same question."""

    HEADER: str
    """The first line of the tab-separated file that `row` writes the other lines of; "" if the field has none."""

    PUBLISHED: bool
    """Are the examples other people's, who may have some twice? No two that are generated are equal."""

    Args: type[Strict]
    """The task's `args`: what the source lets one choose, typed, without defaults."""

    @staticmethod
    def vocabulary(args: Strict) -> tuple[str, ...]:
        """The symbol of each id, padding first."""

    @staticmethod
    def files(folder: Path) -> dict[str, Path]:
        """The released files in the user's `folder` that `build` reads, by split. DataError: one is missing."""

    @staticmethod
    def build(
        args: Strict, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
    ) -> dict[str, Split]:
        """So many examples of each split, padded to `length`: made from `seed`, or read from `folder` if it is given.

        A `made.Made` says what else is known of them.

        The same question has the same bytes for an answer on every machine. TaskError: what is asked cannot be made.
        DataError: a file is missing or wrong; it is named, with the line.
        """

    @staticmethod
    def check(args: Strict, tokens: np.ndarray, label: Any) -> None:
        """DataError says how an example, tokens [S, L], breaks the source's own rules, its label's among them."""

    @staticmethod
    def encode(text: str) -> np.ndarray:
        """The tokens [n] of one stream: what `decode` undoes. DataError: there is no such token."""

    @staticmethod
    def decode(tokens: np.ndarray) -> str:
        """One stream [n] as text, its padding left out."""

    @staticmethod
    def row(tokens: np.ndarray, label: Any) -> str:
        """An example, tokens [S, L], as a line of the field's own tab-separated form."""

    # A source whose symbols stand for numbers, as a picture's or a sound's do, exports besides
    # values(args) -> float32 [V, F], padding's 0. One whose labels an example's tokens do not tell, but what it was
    # made from does, exports derived(args, seed) -> label by tokens' bytes, of some examples. One whose answers are at
    # places exports asked(args, length), the most places that an example asks, where that is fewer than all. One whose
    # answers stand in the text itself, each a place after it is asked for, exports CAUSAL = True. One whose targets are
    # written symbol by symbol, for a source, exports START and END, the ids that stand before a target and are asked
    # for after it.


@dataclass(frozen=True)
class Dataset:
    """The examples of a task, memory-mapped from the cache."""

    splits: dict[str, Split]
    hash: str  # SHA-256 over the content of all splits, hexadecimal
    folder: Path
    fresh: bool  # built by this call, not found
    about: About  # what is known of them beside


class Check(NamedTuple):
    """One thing that `verify` checked."""

    name: str
    ok: bool
    detail: str


@functools.cache
def names() -> tuple[str, ...]:
    """The sources that ship with the package, sorted."""
    return tuple(sorted(_found(PACKAGE)))


@functools.cache
def _found(package: Path) -> dict[str, Path]:
    return {
        path.stem: path
        for path in (package / "data" / "sources").rglob("*.py")
        if re.search(r"^def (build|draw)\(", path.read_text(encoding="utf-8"), re.M)
    }


def path_of(name: str, package: Path = PACKAGE) -> Path:
    """The file of the source called `name`, in this package or in another version of it.

    Raises:
        TaskError: there is none.
    """
    found = _found(package)
    if name not in found:
        raise TaskError(f"source '{name}': not found; {nearest(name, names())}")
    return found[name]


def load(name: str) -> Source:
    """The source called `name`, or that in a user's own file, if `name` is a path to one, `#` and the hash of its code.

    Raises:
        TaskError: there is none, or it has changed meanwhile.
    """
    path, in_a_file, digest = name.rpartition(".py#")
    if in_a_file:
        from lra_bench.data import custom

        return cast(Source, custom.load(Path(f"{path}.py"), digest))
    within = path_of(name).relative_to(PACKAGE).with_suffix("")
    module = importlib.import_module(".".join((PACKAGE.name, *within.parts)))
    if hasattr(module, "build"):
        return cast(Source, module)
    from lra_bench.data.generated import Drawn

    return cast(Source, Drawn(module))


def of(task: TaskSpec) -> Source:
    """The task's source.

    Raises:
        TaskError: there is none, or it has changed meanwhile.
    """
    if task.of is None:
        return load(task.source)
    from lra_bench.data.denoising import Denoising

    return cast(Source, Denoising(task.of))


def arguments(task: TaskSpec, written: Sequence[Overlay] = ()) -> Strict:
    """The task's `args`, as its source types them; `written` is where they stand, for the message.

    Raises:
        TaskError: an unknown key, a missing one, or a wrong value.
    """
    origins = written or [Overlay(f"task '{task.name}'", {"args": task.args})]
    return validated(of(task).Args, task.args, origins, TaskError, ("args",))


def vocabulary(task: TaskSpec) -> tuple[str, ...]:
    """The symbol of each id of the task's tokens, padding first."""
    return of(task).vocabulary(arguments(task))


def values(task: TaskSpec) -> np.ndarray | None:
    """The numbers that each symbol of the task stands for, float32 [V, F]; None if they stand for none."""
    stand_for = getattr(of(task), "values", None)
    return None if stand_for is None else stand_for(arguments(task))


def asked(task: TaskSpec) -> int:
    """The most places of a text at which an example of the task asks for a symbol: L, if its source knows no better."""
    most = getattr(of(task), "asked", None)
    return task.length if most is None else int(most(arguments(task), task.length))


def looks_ahead(task: TaskSpec) -> bool:
    """Do the answers stand in the text itself, at places after those where they are asked for?"""
    return bool(getattr(of(task), "CAUSAL", False))


def windows(task: TaskSpec) -> bool:
    """Are its examples windows of one text, so that longer ones are fewer?"""
    return bool(getattr(of(task), "WINDOWS", False))


def cache_root() -> Path:
    """Where built data are kept: `$LRA_CACHE`, else `lra_bench` in `$XDG_CACHE_HOME`, else in `~/.cache`."""
    if custom := os.environ.get("LRA_CACHE"):
        return Path(custom).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lra_bench"


def prepare(task: TaskSpec, progress: Progress | None = None) -> Dataset:
    """The task's examples, from the cache, or built once into it.

    Raises:
        TaskError: what the task asks for cannot be made.
        DataError: a released file is missing or wrong, or there is no place for the cache.
    """
    from lra_bench.data import cache

    return cache.prepare(task, progress or silent)


def about(task: TaskSpec) -> About:
    """What is known of the task's examples beside them, if they are in the cache."""
    from lra_bench.data import cache

    return cache.about(task)


def identified(task: TaskSpec) -> TaskSpec:
    """The task with what the files in its folder hold as its `content`: other files make another question.

    Raises:
        DataError: a released file is missing.
        TaskError: the source is not found.
    """
    if task.folder is None:
        return task
    from lra_bench.data import cache

    return task.model_copy(update={"content": cache.content_of_files(task)})


def verify(task: TaskSpec, progress: Progress | None = None, include: Sequence[Path] = ()) -> list[Check]:
    """Check every example of the task, built first if need be, with the source's own rules.

    Its hash is held against the recorded one of the tasks' folders, `include` among them.

    Raises: as `prepare`.
    """
    from lra_bench.data import verification

    return verification.verify(task, progress or silent, include)
