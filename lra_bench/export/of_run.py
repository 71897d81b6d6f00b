"""A run's model exported, read again, and held against the run."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from lra_bench import data
from lra_bench.data.batches import in_order
from lra_bench.errors import ConfigError
from lra_bench.export import artifact
from lra_bench.regimes import RANGES
from lra_bench.trained import Trained

SIZES = (1, 7, 32)  # examples at once, by which the file is held against the run
CLOSE = 1e-4  # of the largest logit


class Held(NamedTuple):
    """What came of holding a file against its run."""

    path: Path
    bytes: int
    batch: int | None  # the only size that it takes; None: any
    furthest: float  # greatest difference of two logits, of the largest logit
    examples: int
    other_answers: int  # of them, those answered otherwise

    @property
    def ok(self) -> bool:
        return self.furthest <= CLOSE and not self.other_answers


def exported(run: Trained, path: Path, batch: int | None, platforms: Sequence[str] | None) -> Held:
    """Write the run's model to `path`, for any number of examples at once or for `batch`, read it, and compare.

    One that does not answer as the run does is taken away again.

    Raises:
        ConfigError: the model cannot be exported so, or does not answer as the run does.
    """
    leaves, function = _function(run)
    S, L = run.program.shape
    one = function if batch else mapped(function)
    shape = (batch, S, L) if batch else export.symbolic_shape(f"b, {S}, {L}")
    try:
        made = export.export(jax.jit(one), platforms=platforms)(*leaves, jax.ShapeDtypeStruct(shape, jnp.int32))
    except ValueError as error:
        raise ConfigError(f"{run.cell.model} cannot be exported: {' '.join(str(error).split())[:200]}") from error
    artifact.write(path, made, leaves, card(run))
    held = _held(run, path)
    if not held.ok:
        path.unlink()
        raise ConfigError(
            f"{path}: taken away: {held.other_answers} of {held.examples} answers are others than the run's, logits "
            f"{held.furthest:.2g} off"
        )
    return held


def mapped(function: Any) -> Any:
    """The same, made of one example at a time: code that asks how many there are finds a number, 1."""

    def mapped(*arguments: jax.Array) -> jax.Array:
        *weights, tokens = arguments
        return jax.vmap(lambda one: function(*weights, one[None])[0])(tokens)

    return mapped


def _function(run: Trained) -> tuple[list[jax.Array], Any]:
    """The weights, and (*weights, tokens) -> logits."""
    program = run.program
    given = {name: value for name, value in program.given.items() if name == RANGES}
    leaves, tree = jax.tree.flatten((given, program.kept(run.params), run.rest))

    def function(*arguments: jax.Array) -> jax.Array:
        *weights, tokens = arguments
        return program.answers(*jax.tree.unflatten(tree, weights), tokens, tokens > 0)

    return leaves, function


def answering(run: Trained) -> Callable[[np.ndarray], np.ndarray]:
    """What the run's model says: tokens [B, S, L] -> logits."""
    leaves, function = _function(run)
    compiled = jax.jit(function)
    return lambda tokens: np.asarray(compiled(*leaves, jnp.asarray(tokens)))


def card(run: Trained) -> dict[str, Any]:
    """What one must know to use the file."""
    cell, task = run.cell, run.cell.task
    return {
        "model": cell.model, "levers": cell.levers.words, "recipe": cell.recipe_name, "seed": cell.seed,
        "cell": cell.id,
        "task": task.model_dump(), "inputs": "int32 [B, S, L], ids of symbols, 0 on the right as padding",
        "outputs": f"float32 logits of {task.classes}, by the metric {task.metric}",
        "vocabulary": list(data.vocabulary(task)), "jax": importlib.metadata.version("jax"),
    }  # fmt: skip


def _held(run: Trained, path: Path) -> Held:
    """The file, read again, against the run on val."""
    made = artifact.read(path)
    ours, theirs = [], []
    plain = answering(run)
    for size in (made.batch,) if made.batch else SIZES:
        batch = next(in_order(run.splits["val"], size))
        ours.append(plain(batch.tokens))
        theirs.append(made(batch.tokens))
    a, b = np.concatenate(ours), np.concatenate(theirs)
    furthest = float(np.abs(a - b).max() / np.abs(a).max())
    other = (a.argmax(-1) != b.argmax(-1)).reshape(len(a), -1).any(-1).sum()
    return Held(path, path.stat().st_size, made.batch, furthest, len(a), int(other))
