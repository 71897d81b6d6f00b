"""A source in a file of the user's own, which a task's YAML names by its path: `source: mine.py`.

The file has to say two things; all else that a `Source` exports it may leave out; `CustomSource` says what holds then:

    import numpy as np
    from lra_bench.shapes import Split

    def vocabulary(args):
        return ("<pad>", "a", "b")

    def build(args, length, splits, seed, folder, progress):
        draw = np.random.default_rng(seed)
        def examples(n):
            tokens = draw.integers(1, 3, (n, 1, length))
            return Split(tokens, np.full((n, 1), length), (tokens == 1).sum((1, 2)) % 2)
        return {split: examples(n) for split, n in splits.items()}

Its code, and that of the user's own files that it imports, is in the cache's key and in the ids of runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from lra_bench import source_code
from lra_bench.config import Strict
from lra_bench.data import Progress
from lra_bench.data.formats import labels
from lra_bench.errors import DataError, LraError, TaskError
from lra_bench.shapes import Split

T = TypeVar("T")


class Nothing(Strict):
    """There is nothing to choose."""


@functools.cache
def load(path: Path, digest: str) -> CustomSource:
    """The source in the file, whose code is still of that hash.

    Raises:
        TaskError: it is not, cannot be imported, or lacks `build` or `vocabulary`.
    """
    if source_code.hash_of(path, TaskError) != digest:
        raise TaskError(f"{path}: has changed since it was read; its hash was {digest}")
    module = source_code.imported(path, TaskError)
    missing = [name for name in ("build", "vocabulary") if not callable(getattr(module, name, None))]
    if missing:
        raise TaskError(f"{path}: a source's file has functions build and vocabulary; {missing[0]} is missing")
    if not issubclass(getattr(module, "Args", Nothing), Strict):
        raise TaskError(f"{path}: Args must be a lra_bench.config.Strict")
    return CustomSource(path, module)


class CustomSource:
    """A user's module as `Source` wants one. An exception in it is told in one line, with the line that it is from."""

    def __init__(self, path: Path, module: ModuleType) -> None:
        self._path, self._module = path, module
        self.VERSION: int = getattr(module, "VERSION", 1)
        """1: the code's hash is in the cache's key; to be raised when what lies outside of the file has changed."""

        self.HEADER: str = getattr(module, "HEADER", "")
        """No first line."""

        self.PUBLISHED: bool = getattr(module, "PUBLISHED", False)
        """No two examples are equal."""

        self.Args: type[Strict] = getattr(module, "Args", Nothing)
        """The task's `args` are {}."""

        if hasattr(module, "values"):
            self.values: Callable[[Strict], np.ndarray] = functools.partial(self._ask, module.values)

    def vocabulary(self, args: Strict) -> tuple[str, ...]:
        """The symbol of each id, padding first. Required."""
        return tuple(map(str, self._ask(self._module.vocabulary, args)))

    def build(
        self, args: Strict, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
    ) -> dict[str, Split]:
        """So many examples of each split. Required. Numbers may be of any type: they are made what a `Split` wants.

        Raises:
            DataError: it ends in an exception, or what it returns is no such splits.
        """
        made = self._ask(self._module.build, args, length, splits, seed, folder, progress)
        symbols = len(self.vocabulary(args))
        try:
            return {split: _held(made[split], n, length, symbols) for split, n in splits.items()}
        except Exception as fault:
            what = fault if isinstance(fault, DataError) else f"{type(fault).__name__}: {fault}"
            raise DataError(f"{self._path}: build returns no splits of {dict(splits)} examples: {what}") from None

    def files(self, folder: Path) -> dict[str, Path]:
        """Unless the file says better: all files in the folder, at any depth, but hidden ones and Python's caches."""
        if hasattr(self._module, "files"):
            return self._ask(self._module.files, folder)
        within = ((path.relative_to(folder), path) for path in sorted(folder.rglob("*")) if path.is_file())
        return {
            name.as_posix(): path
            for name, path in within
            if not any(part.startswith((".", "__pycache__")) for part in name.parts)
        }

    def check(self, args: Strict, tokens: np.ndarray, label: Any) -> None:
        """Unless the file says better: no stream is empty."""
        if hasattr(self._module, "check"):
            self._ask(self._module.check, args, tokens, label)
        elif not (tokens > 0).any(-1).all():
            raise DataError("it is empty")

    def encode(self, text: str) -> np.ndarray:
        """Unless the file says better: ids with spaces between them."""
        if hasattr(self._module, "encode"):
            return self._ask(self._module.encode, text)
        return np.array(text.split(), np.uint32)

    def decode(self, tokens: np.ndarray) -> str:
        """Unless the file says better: ids with spaces between them."""
        if hasattr(self._module, "decode"):
            return self._ask(self._module.decode, tokens)
        return " ".join(map(str, tokens[tokens > 0].tolist()))

    def row(self, tokens: np.ndarray, label: Any) -> str:
        """Unless the file says better: the label, its numbers with spaces between them, and each stream as text."""
        if hasattr(self._module, "row"):
            return self._ask(self._module.row, tokens, label)
        return "\t".join([" ".join(map(str, np.ravel(label))), *map(self.decode, tokens)])

    def _ask(self, function: Callable[..., T], *arguments: Any) -> T:
        try:
            return function(*arguments)
        except LraError:
            raise
        except Exception as fault:
            where, name = source_code.place(self._path, fault), getattr(function, "__name__", "it")
            raise DataError(f"{where}: {name}: {type(fault).__name__}: {fault}") from fault


def _held(split: Split, n: int, length: int, symbols: int) -> Split:
    """The split, its numbers of the types that it wants.

    Raises:
        DataError: it is of another shape, or a token is no symbol, or a label is none.
    """
    tokens, lengths, label = map(np.asarray, (split.tokens, split.lengths, split.label))
    if tokens.ndim != 3 or (len(tokens), tokens.shape[2]) != (n, length) or tokens.dtype.kind not in "iu":
        raise DataError(f"tokens are {tokens.dtype}{list(tokens.shape)}, not integers [{n}, S, {length}]")
    if lengths.shape != tokens.shape[:2] or lengths.dtype.kind not in "iu":
        raise DataError(f"lengths are {lengths.dtype}{list(lengths.shape)}, not integers {list(tokens.shape[:2])}")
    if label.ndim == 0 or len(label) != n or label.dtype.kind not in "biuf":
        raise DataError(f"label is {label.dtype}{list(label.shape)}, not a number, or numbers, for each of {n}")
    if tokens.min() < 0 or tokens.max() >= symbols:
        raise DataError(f"tokens are from {tokens.min()} to {tokens.max()}, and there are {symbols} symbols")
    if lengths.min() < 0 or lengths.max() > length:
        raise DataError(f"lengths are from {lengths.min()} to {lengths.max()}, and must be from 0 to {length}")
    return Split(tokens.astype(np.min_scalar_type(symbols - 1)), lengths.astype(np.int32), _label(label))


def _label(label: np.ndarray) -> np.ndarray:
    """Numbers as float32; classes as int32; several labels, or symbols that are asked for, as small as they are.

    Raises:
        DataError: one is below 0, or no number, or the type cannot hold it.
    """
    try:
        if label.dtype.kind == "f":
            return labels.kept(label.reshape(len(label), -1)).reshape(label.shape)
        if label.ndim == 1:
            return labels.whole(label)
    except DataError as fault:
        raise DataError(f"label{fault}") from None
    if label.min() < 0:
        raise DataError(f"label[{np.argwhere(label < 0)[0, 0]}]: {label.min()} is below 0")
    return label.astype(np.min_scalar_type(label.max()))
