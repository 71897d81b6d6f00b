"""A run's model exported, read again, and held against the run."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax

from lra_bench import data
from lra_bench.config import TaskSpec
from lra_bench.data.batches import in_order
from lra_bench.errors import ConfigError, nearest
from lra_bench.export import artifact
from lra_bench.kernels.impl import KERNELS
from lra_bench.metrics import EXACT_MATCH, METRICS, SQUARED_ERROR, Metric
from lra_bench.mixers.base import Target
from lra_bench.records import store
from lra_bench.runs.build import model_spec
from lra_bench.runs.loaded import Trained
from lra_bench.techniques.quantize import RANGES
from lra_bench.training.program import Program, abstract

PLATFORMS = {"cpu": "cpu", "cuda": "gpu", "rocm": "gpu", "tpu": "tpu"}  # and what a mixer calls them
SIZES = (1, 7, 32)  # examples at once, by which the file is held against the run
CLOSE = 1e-4  # of the largest logit


class Exported(NamedTuple):
    """What came of holding a file against its run, on the platform that is here."""

    path: Path
    bytes: int
    batch: int | None  # the only size that it takes; None: any
    checked: tuple[str, ...]  # the platforms on which it was held against the run: this one, or none
    unchecked: tuple[str, ...]  # the others that it is for: traced here, and run by nobody
    furthest: float | None = None  # greatest difference of two logits, of the largest logit
    examples: int = 0
    other_answers: int = 0  # of them, those answered otherwise

    @property
    def ok(self) -> bool:
        return self.furthest is None or (self.furthest <= CLOSE and not self.other_answers)


def exported(trained: Trained, path: Path, batch: int | None, platforms: Sequence[str] | None) -> Exported:
    """Write the run's model to `path`, for any number of examples at once or for `batch`, read it, and compare.

    A mixer has the implementation that each of `platforms` wants, or the one that is here, but no kernel of Pallas or
    cuDNN: other versions need not know them, and they want to know how many examples there are.

    One that does not answer as the run does is taken away again. One that is for other platforms alone is kept, and
    nobody has compared it.

    Raises:
        ConfigError: the model cannot be exported so, or does not answer as the run does.
    """
    for name in platforms or ():
        if name not in PLATFORMS:
            raise ConfigError(f"--platforms: '{name}'; {nearest(name, PLATFORMS)}")
    platforms = platforms or [export.default_export_platform()]
    S, L = trained.program.shape
    shape = (batch, S, L) if batch else export.symbolic_shape(f"b, {S}, {L}")
    try:
        models = {name: model_spec(trained.run, Target(PLATFORMS[name], KERNELS)) for name in platforms}
        programs = {name: trained.program.of(model) for name, model in models.items()}
        leaves, function = _by_platform(trained, programs, mapped=not batch)
        made = export.export(jax.jit(function), platforms=platforms)(*leaves, jax.ShapeDtypeStruct(shape, jnp.int32))
    except ValueError as error:
        raise ConfigError(f"{trained.run.model} cannot be exported: {' '.join(str(error).split())[:200]}") from error
    artifact.write(path, made, leaves, store.finite(card(trained) | {"impl": _implementations(programs)}))
    held = _held(trained, path)
    if not held.ok:
        path.unlink()
        raise ConfigError(
            f"{path}: taken away: {held.other_answers} of {held.examples} answers are others than the run's, logits "
            f"{held.furthest:.2g} off"
        )
    return held


def one_by_one(function: Any) -> Any:
    """The same, made of one example at a time: code that asks how many there are finds a number, 1."""

    def mapped(*arguments: jax.Array) -> jax.Array:
        *weights, tokens = arguments
        return jax.vmap(lambda one: function(*weights, one[None])[0])(tokens)

    return mapped


def _implementations(programs: Mapping[str, Program]) -> dict[str, str]:
    return {name: abstract(program.setup.model).impl for name, program in programs.items()}


def _by_platform(trained: Trained, programs: Mapping[str, Program], *, mapped: bool) -> tuple[list[jax.Array], Any]:
    """The weights, and (*weights, tokens) -> logits by the program of the platform that runs it."""
    leaves, _ = _function(trained, trained.program)
    each = {name: _function(trained, program)[1] for name, program in programs.items()}
    each = {name: one_by_one(function) for name, function in each.items()} if mapped else each
    if len(each) == 1:
        return leaves, *each.values()
    return leaves, lambda *arguments: lax.platform_dependent(*arguments, **each)


def _function(trained: Trained, program: Program) -> tuple[list[jax.Array], Any]:
    """The weights, and (*weights, tokens) -> logits."""
    given = {name: value for name, value in program.given.items() if name == RANGES}
    leaves, tree = jax.tree.flatten((given, program.kept(trained.params), trained.rest))

    def function(*arguments: jax.Array) -> jax.Array:
        *weights, tokens = arguments
        return program.objective.answer(program.answers(*jax.tree.unflatten(tree, weights), tokens, tokens > 0))

    return leaves, function


def predictor(trained: Trained) -> Callable[[np.ndarray], np.ndarray]:
    """What the run's model says: tokens [B, S, L] -> logits."""
    leaves, function = _function(trained, trained.program)
    compiled = jax.jit(function)
    return lambda tokens: np.asarray(compiled(*leaves, jnp.asarray(tokens)))


def card(trained: Trained) -> dict[str, Any]:
    """What one must know to use the file."""
    run, task, units = trained.run, trained.run.task, trained.program.objective.units
    return {
        "model": run.model, "techniques": run.techniques.words, "config": run.config_name, "seed": run.seed,
        "run": run.id,
        "task": task.model_dump(), "inputs": "int32 [B, S, L], ids of symbols, 0 on the right as padding",
        "outputs": f"float32 {_outputs(task)} of {task.classes}, by the metric {task.metric}",
        "classes": data.about(task).classes, "units": units and units.as_lists(),
        "vocabulary": list(data.vocabulary(task)), "jax": importlib.metadata.version("jax"),
    }  # fmt: skip


def _outputs(task: TaskSpec) -> str:
    return "numbers, in the labels' units," if METRICS[task.metric].real else "logits"


def _held(trained: Trained, path: Path) -> Exported:
    """The file, read again, against the run on val."""
    made, here = artifact.read(path), export.default_export_platform()
    platforms = made.function.platforms
    known = Exported(
        path,
        path.stat().st_size,
        made.batch,
        tuple(one for one in platforms if one == here),
        tuple(one for one in platforms if one != here),
    )
    if not known.checked:
        return known
    ours, theirs, tokens = [], [], []
    plain = predictor(trained)
    for size in (made.batch,) if made.batch else SIZES:
        batch = next(in_order(trained.splits["val"], size))
        ours.append(plain(batch.tokens))
        theirs.append(made(batch.tokens))
        tokens.append(batch.tokens)
    a, b = np.concatenate(ours), np.concatenate(theirs)
    furthest = float(np.abs(a - b).max() / np.abs(a).max())
    other = others(METRICS[trained.run.task.metric], a, b, np.concatenate(tokens), trained.splits["val"].label)
    return known._replace(furthest=furthest, examples=len(a), other_answers=int(other.sum()))


def others(metric: Metric, a: np.ndarray, b: np.ndarray, tokens: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which examples are answered otherwise by logits b than by a, as the metric has an answer: bool [N].

    A class, a set of labels, a symbol at each true token; a number is another where it is off by more than `CLOSE` of
    the spread of `labels`.
    """
    if metric is SQUARED_ERROR:
        return np.asarray((np.abs(a - b) > CLOSE * labels.std(0)).any(-1))
    if metric is EXACT_MATCH:
        return np.asarray(((a > 0) != (b > 0)).any(-1))
    apart = a.argmax(-1) != b.argmax(-1)
    return np.asarray((apart & (tokens[:, -1] > 0)).any(-1) if metric.everywhere else apart)
