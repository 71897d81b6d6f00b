"""A place on disk for what is being made, so that a process that is killed loses little, and memory need not hold it.

The cache opens a place while it lets a source build. Arrays are then files that are mapped into memory, and a `Journal`
of examples is there again when the same data are asked for after a kill. Without a place both are plain memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import numpy as np

from lra_bench.data.splits import cut, taken
from lra_bench.errors import PlaceError, TaskError
from lra_bench.shapes import Split

DIGEST = 16  # bytes by which an example is told from others
NOTES = "journal.json"

_open: ContextVar[Path | None] = ContextVar("_open", default=None)


@contextlib.contextmanager
def place(folder: Path) -> Iterator[None]:
    """Keep in `folder` what is made meanwhile.

    It is taken away in the end, unless a journal in it is of use to another try. Where another process has it, or none
    can be made, memory is used instead.
    """
    with _locked(folder) as ours:
        token = _open.set(folder if ours else None)
        spent = True
        try:
            yield
        except TaskError:
            raise
        except BaseException:
            spent = not (folder / NOTES).exists()
            raise
        finally:
            _open.reset(token)
            if ours and spent:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def in_memory() -> Iterator[None]:
    """Keep in memory what is made meanwhile: little, beside what has the open place to itself."""
    token = _open.set(None)
    try:
        yield
    finally:
        _open.reset(token)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Is the folder there, and ours alone until the end? The system unlocks it when a process dies."""
    lock = folder.with_name(f"{folder.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(lock.open("wb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.fstat(file.fileno()).st_ino == lock.stat().st_ino
            folder.mkdir(exist_ok=True)
        except OSError:
            ours = False
        if ours:
            stack.callback(lock.unlink, missing_ok=True)
        yield ours


def array(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array of zeros: a file of the open place, or memory.

    Raises:
        PlaceError: the disk has no room for it. That is asked at once: a full disk would later kill the process.
    """
    folder = _open.get()
    if folder is None or 0 in shape:
        return np.zeros(shape, dtype)
    path = folder / f"{name}.npy"
    try:
        mapped = np.lib.format.open_memmap(path, "w+", dtype, shape)
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise PlaceError(f"{path}: no room for it; $LRA_CACHE may name another place: {error}") from error
    return mapped


class Journal:
    """Up to `total` examples, none twice, taken down chunk by chunk."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.rows = 0  # examples so far
        self.chunks = 0  # of the stream they come from
        self._seen: set[bytes] = set()
        self._whole: Split | None = None
        self._folder = _open.get()
        if self._folder is not None and (self._folder / NOTES).exists():
            try:
                self._resume(self._folder)
            except (OSError, ValueError, KeyError, TypeError):
                (self._folder / NOTES).unlink()

    def add(self, chunk: Split, digests: list[bytes]) -> int:
        """Take down those of the next chunk that are new; how many of it were, wanted or not."""
        first = {digest: i for i, digest in reversed([*enumerate(digests)])}
        new = sorted(i for digest, i in first.items() if digest not in self._seen)
        kept = taken(chunk, np.array(new[: self.total - self.rows], np.int64))
        if self._whole is None:
            self._whole = self._blank(chunk)
        for name, values in vars(self._whole).items():
            values[self.rows : self.rows + len(kept)] = getattr(kept, name)
        self.rows += len(kept)
        self.chunks += 1
        fresh = set(first) - self._seen
        self._seen |= fresh
        if self._folder is not None:
            self._note(self._folder, b"".join(fresh))
        return len(new)

    def whole(self) -> Split:
        """The examples so far."""
        assert self._whole is not None
        return cut(self._whole, 0, self.rows)

    def _blank(self, chunk: Split) -> Split:
        arrays = {n: array(n, (self.total, *values.shape[1:]), values.dtype) for n, values in vars(chunk).items()}
        return Split(**arrays)

    def _note(self, folder: Path, digests: bytes) -> None:
        """Put the state on disk: what was made first, then that it was."""
        for values in vars(self._whole).values():
            if isinstance(values, np.memmap):
                values.flush()
        with (folder / "digests").open("r+b" if len(self._seen) * DIGEST > len(digests) else "wb") as file:
            file.seek(len(self._seen) * DIGEST - len(digests))
            file.write(digests)
            file.flush()
            os.fsync(file.fileno())
        notes = {"total": self.total, "rows": self.rows, "chunks": self.chunks, "digests": len(self._seen)}
        unfinished = folder / f"{NOTES}.unfinished"
        unfinished.write_text(json.dumps(notes), encoding="utf-8")
        unfinished.replace(folder / NOTES)

    def _resume(self, folder: Path) -> None:
        """Go on where a process was killed; what is not whole there is an exception, and nothing has changed."""
        notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
        whole = Split(*(np.load(folder / f"{name}.npy", mmap_mode="r+") for name in Split.__dataclass_fields__))
        digests = (folder / "digests").read_bytes()[: notes["digests"] * DIGEST]
        if (len(whole), notes["total"], len(digests)) != (self.total, self.total, notes["digests"] * DIGEST):
            raise ValueError(f"{folder}: its journal is of other data")
        self._seen = {digests[i : i + DIGEST] for i in range(0, len(digests), DIGEST)}
        self._whole, self.rows, self.chunks = whole, notes["rows"], notes["chunks"]
