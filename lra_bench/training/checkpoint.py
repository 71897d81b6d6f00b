"""Save, restore, resume: atomic, so that a kill at any moment leaves the step before or the step after."""

from __future__ import annotations

import contextlib
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from lra_bench import distributed
from lra_bench.errors import ConfigError, place_at_fault

KEPT = 2  # checkpoints of a run
SUMS = "sums"  # in the progress record: a checksum of each array


class Damaged(Exception):
    """A checkpoint that is not as it was written."""

    def __init__(self, step: int, path: Path, why: str) -> None:
        super().__init__(f"{path}: the checkpoint is damaged: {why}")
        self.step = step


class Checkpoints:
    """The latest state of one run, in its folder, and the one before it, for when the latest is damaged.

    A checkpoint is a tree of arrays and a progress record (JSON), which has a checksum of each array. Orbax writes it
    under a temporary name and renames it when it is whole; what a kill left half written is not listed, and is removed
    with the next save. Several processes share the folder and call together; the progress that is kept is the first
    one's.
    """

    def __init__(self, folder: Path) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, create=True, enable_async_checkpointing=False)
        self._folder = folder.resolve()
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, state: Any, progress: dict[str, Any]) -> None:
        """Write `state` and `progress` as they are after `step` steps."""
        kept = progress | {SUMS: _sums(state)}
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(kept))
        self._manager.save(step, args=args, force=True)

    def latest(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The latest state, on the devices of `like`, and its progress; None before the first save.

        Raises:
            ConfigError: it is damaged.
        """
        step = self._manager.latest_step()
        try:
            return None if step is None else self._read(step, like)
        except Damaged as damaged:
            raise self._lost([damaged]) from damaged

    def restore(self, like: Any, warn: Callable[[str], None]) -> tuple[Any, dict[str, Any]] | None:
        """`latest`; or, where that is damaged, which `warn` is told, the state before it, and the latest is removed.

        Raises:
            ConfigError: all are damaged.
        """
        steps, damaged = sorted(self._manager.all_steps(), reverse=True), list[Damaged]()
        for step in steps:
            try:
                found = self._read(step, like)
            except Damaged as fault:
                damaged.append(fault)
                continue
            for newer in damaged:
                warn(f"{newer}; the one before it, of step {step}, is used")
                self._manager.delete(newer.step)
            return found
        if damaged:
            raise self._lost(damaged) from damaged[0]
        return None

    def _lost(self, damaged: Sequence[Damaged]) -> ConfigError:
        said = "; ".join(map(str, damaged))
        return ConfigError(f"{said}; --overwrite trains it again")

    def _read(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), progress=ocp.args.JsonRestore())
        path = self._folder / str(step)
        try:
            kept = self._manager.restore(step, args=args)
        except Exception as error:
            if place := place_at_fault(error, path):
                raise place from error
            raise Damaged(step, path, " ".join(str(error).split())[:200] or type(error).__name__) from error
        state, progress = kept["state"], dict(kept["progress"])
        sums = progress.pop(SUMS, None)  # of earlier versions there are none
        if sums is not None and sums != _sums(state):
            raise Damaged(step, path, "its arrays are not those that were saved")
        return state, progress

    def close(self) -> None:
        self._manager.close()


@contextlib.contextmanager
def opened(folder: Path, *, fresh: bool) -> Iterator[Checkpoints]:
    """The checkpoints in `folder`; `fresh` forgets what is there."""
    if fresh and distributed.is_first():
        shutil.rmtree(folder, ignore_errors=True)
    distributed.barrier()
    checkpoints = Checkpoints(folder)
    try:
        yield checkpoints
    finally:
        checkpoints.close()


def _sums(state: Any) -> list[int | None]:
    """A checksum of each array, of those that this process has the whole of."""
    return [zlib.crc32(np.asarray(leaf).tobytes()) if _is_whole(leaf) else None for leaf in jax.tree.leaves(state)]


def _is_whole(leaf: Any) -> bool:
    return not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated
