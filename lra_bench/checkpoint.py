"""Save, restore, resume: atomic, so that a kill at any moment leaves the step before or the step after."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from lra_bench import hosts


class Checkpoints:
    """The latest state of one run, in its folder.

    A checkpoint is a tree of arrays and a progress record (JSON). Orbax writes it under a temporary name and renames
    it when it is whole; what a kill left half written is not listed, and is removed with the next save. Several
    processes share the folder and call together; the progress that is kept is the first one's.
    """

    def __init__(self, folder: Path) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=1, create=True, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def save(self, step: int, state: Any, progress: dict[str, Any]) -> None:
        """Write `state` and `progress` as they are after `step` steps."""
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress))
        self._manager.save(step, args=args, force=True)

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The latest state, on the devices of `like`, and its progress; None before the first save."""
        step = self._manager.latest_step()
        if step is None:
            return None
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(shapes), progress=ocp.args.JsonRestore())
        kept = self._manager.restore(step, args=args)
        return kept["state"], kept["progress"]

    def close(self) -> None:
        self._manager.close()


@contextlib.contextmanager
def opened(folder: Path, *, fresh: bool) -> Iterator[Checkpoints]:
    """The checkpoints in `folder`; `fresh` forgets what is there."""
    if fresh and hosts.is_first():
        shutil.rmtree(folder, ignore_errors=True)
    hosts.barrier()
    checkpoints = Checkpoints(folder)
    try:
        yield checkpoints
    finally:
        checkpoints.close()
