"""The conformance checks of `mixers/cross/base.py`, one by one, for the cross form of any mixer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lra_bench import mixers
from lra_bench.conformance.causality import DECODED
from lra_bench.conformance.trial import EXACT, SHORT
from lra_bench.conformance.verdict import Shown, Verdict, verdicts
from lra_bench.mixers import CrossCard, ModelCard
from lra_bench.mixers.base import Dims
from lra_bench.mixers.cross.base import CrossBase, HeadsCross
from lra_bench.mixers.cross.card import YES
from lra_bench.training.program import runs_once

FIRST = 21  # number of the first of these checks
B, L, M = 3, SHORT.length, 29  # of a source and of a target
SPLIT = 17  # places of a target before which later ones change nothing
FURTHER = 50  # places to which a source is padded besides
LONGEST = replace(SHORT, length=FURTHER)
LAST = jnp.array([M, M // 2, M])  # tokens of each target
Array = jax.Array


def verify(model_card: ModelCard, options: Mapping[str, Any] | None = None) -> Iterator[Verdict]:
    """Hold the mixer's cross form, where it has one, its `options` turned, to its checks.

    Raises:
        ConfigError: a file cannot be imported, or there is no such option.
    """
    card, cross = mixers.cross(model_card.path), mixers.load_cross(model_card.path)
    if card is None or cross is None:
        return iter(())
    trial = Trial(model_card, card, mixers.turned(model_card, options or {}), mixers.load(model_card.path), cross)
    return verdicts(CHECKS, trial, FIRST)


@dataclass(frozen=True)
class Trial:
    """A cross form with options that fit short texts, and what it is asked, compiled once."""

    model_card: ModelCard
    card: CrossCard
    options: dict[str, Any]
    own: ModuleType
    module: ModuleType
    dims: Dims = LONGEST

    @property
    def grows(self) -> bool:
        """Does it read for a growing target?"""
        return self.card.growing == YES

    @cached_property
    def growing(self) -> Trial:
        """The same for a growing target."""
        return replace(self, dims=replace(self.dims, causal=True))

    @cached_property
    def parts(self) -> tuple[Any, Any, Any]:
        """Graph, parameters, and the rest."""
        config = self.own.Config(**self.options | self.model_card.card.short)
        graph, params, rest = nnx.split(self.module.Cross(config, self.dims, rngs=nnx.Rngs(0)), nnx.Param, ...)  # type: ignore[misc]
        return graph, params, rest

    @cached_property
    def pulled(self) -> Callable[..., tuple[Array, Any]]:
        """Of the target, the source, both masks and dL/dy: y, and dL/d(parameters, target, source)."""
        graph, params, rest = self.parts

        def pull(x: Array, memory: Array, there: Array, mask: Array, g: Array) -> tuple[Array, Any]:
            def run(params: Any, x: Array, memory: Array) -> Array:
                y: Array = nnx.merge(graph, params, rest, copy=True)(x, memory, there, mask, key=None)
                return y

            y, back = jax.vjp(run, params, x, memory)
            return y, back(g)

        return runs_once(pull)

    def seen(self, x: Array, memory: Array, there: Array, mask: Array) -> Array:
        """y at evaluation."""
        return self.pulled(x, memory, there, mask, jnp.zeros_like(x))[0]

    @property
    def ways(self) -> tuple[Trial, ...]:
        """For a whole target, and for one that grows where it reads for such."""
        return (self, self.growing) if self.grows else (self,)


def texts() -> tuple[Array, Array, Array, Array]:
    """Targets x, sources, and their masks; one source is half full, one has no token."""
    target, source = jax.random.split(jax.random.key(1))
    x, memory = (jax.random.normal(key, (B, n, SHORT.width), jnp.float32) for key, n in ((target, M), (source, L)))
    return x, memory, jnp.arange(M) < LAST[:, None], jnp.arange(L) < jnp.array([L, L // 2, 0])[:, None]


def no_leak(trial: Trial) -> Shown:
    """What stands in padding, of the source or of the target, changes nothing where a token of the target is."""
    x, memory, there, mask = texts()
    noise = partial(jax.random.normal, shape=memory.shape)
    loud = jnp.where(mask[..., None], memory, 1e3 * noise(jax.random.key(2)))
    beyond = jnp.where(there[..., None], x, 1e3 * noise(jax.random.key(3))[:, :M])
    found = {"source": 0.0, "target": 0.0}
    for one in trial.ways:
        y = one.seen(x, memory, there, mask)
        found["source"] = max(found["source"], _apart(there, y, one.seen(x, loud, there, mask)))
        found["target"] = max(found["target"], _apart(there, y, one.seen(beyond, memory, there, mask)))
    return max(found.values()) == 0, ", ".join(f"by the {what}'s padding {size:.1e}" for what, size in found.items())


def finite(trial: Trial) -> Shown:
    """Values and gradients are finite, for inputs a hundred times too large and for a source without a token."""
    x, memory, there, mask = texts()
    leaves = [
        leaf
        for one in trial.ways
        for scale in (1.0, 1e2)
        for leaf in jax.tree.leaves(one.pulled(scale * x, scale * memory, there, mask, jnp.ones_like(x)))
    ]
    count = sum(int((~jnp.isfinite(leaf)).sum()) for leaf in leaves)
    return count == 0, f"{count} numbers that are not finite"


def reads(trial: Trial) -> Shown:
    """The gradient of a place of the target reaches tokens of the source."""
    x, memory, there, mask = texts()
    g = jnp.zeros_like(x).at[0, SPLIT].set(1.0)
    slope = float(abs(trial.pulled(x, memory, there, mask, g)[1][2][0]).max())
    return slope > 0, f"slope {slope:.1e}"


def padded_source(trial: Trial) -> Shown:
    """How far a source is padded changes nothing."""
    x, memory, there, mask = texts()
    room = FURTHER - L
    longer = jnp.pad(memory, ((0, 0), (0, room), (0, 0))), jnp.pad(mask, ((0, 0), (0, room)))
    y, z = trial.seen(x, memory, there, mask), trial.seen(x, longer[0], there, longer[1])
    change = _apart(there, y, z) / float(abs(y[:2]).max())
    return change < EXACT, f"padded to {FURTHER}, not {L}: off by {change:.1e} of the largest"


def no_look_ahead(trial: Trial) -> Shown:
    """No later place of a growing target changes what an earlier one reads, nor how many there are."""
    if not trial.grows:
        return None, trial.card.growing
    x, memory, there, mask = texts()
    before = jnp.arange(M) < SPLIT
    noise = 1e3 * jax.random.normal(jax.random.key(2), x.shape)
    y = trial.growing.seen(x, memory, there, mask)
    others = (jnp.where(before[:, None], x, noise), there), (x, there & before)
    worst = max(_apart(there & before, y, trial.growing.seen(x, memory, seen, mask)) for x, seen in others)
    return worst == 0, f"largest change by later places {worst:.1e}"


def decoded(trial: Trial) -> Shown:
    """Place by place from what is kept of the source, y is that of the whole call for a growing target."""
    if not trial.grows or not trial.module.Cross.decodes():
        return None, trial.card.growing if not trial.grows else "it keeps nothing of a source"
    x, memory, there, mask = texts()
    graph, params, rest = trial.growing.parts

    def run(x: Array, memory: Array, mask: Array) -> Array:
        form: CrossBase = nnx.merge(graph, params, rest, copy=True)
        kept = form.init_memory(memory, mask)
        each = jax.lax.map(lambda i: form.read(kept, jnp.take(x, i[None], axis=1), i[None])[:, 0], jnp.arange(M))
        return each.swapaxes(0, 1)

    y = trial.growing.seen(x, memory, jnp.ones_like(there), mask)
    change = float(abs(runs_once(run)(x, memory, mask) - y).max() / abs(y).max())
    return change < DECODED, f"off by {change:.1e} of the largest"


def limit(trial: Trial) -> Shown:
    """At the limit that the card names it is softmax attention to the source, or comes nearer step by step."""
    if not trial.card.exact_when:
        return None, "the card names none"
    if trial.model_card.name in trial.model_card.card.aliases:
        return True, f"that of {mixers.read(trial.model_card.path).name}"
    errors = [_error(form) for form in trial.module.limits(replace(trial.dims, length=L), rngs=nnx.Rngs(0))]
    nearer = all(after < before for before, after in pairwise(errors))
    held = errors[0] < EXACT if len(errors) == 1 else nearer
    figures = ", ".join(f"{error:.1e}" for error in errors)
    return held, f"{trial.card.exact_when}: off by {figures} of the largest"


def _error(form: CrossBase) -> float:
    """How far the form is from softmax attention with the same projections, of the largest value."""
    assert isinstance(form, HeadsCross), "only a form of queries, keys and values has this limit"
    x, memory, there, mask = texts()
    there, mask = jnp.ones_like(there), jnp.ones_like(mask)
    module, cross = mixers.load(mixers.reference()), mixers.load_cross(mixers.reference())
    assert cross is not None
    exact = cross.Cross(module.Config(), replace(SHORT, length=L), rngs=nnx.Rngs(0))
    for name in ("q", "kv", "out"):
        getattr(exact, name)[...] = getattr(form, name)[...]
    y, z = (runs_once(partial(one, key=None))(x, memory, there, mask) for one in (form, exact))
    return float(abs(y - z).max() / abs(z).max())


def _apart(where: Array, a: Array, b: Array) -> float:
    return float(jnp.where(where[..., None], abs(a - b), 0).max())


CHECKS: dict[str, Callable[[Trial], Shown]] = {
    "cross: reads the source": reads,
    "cross: no leak of padding": no_leak,
    "cross: finite": finite,
    "cross: length of the source's padding": padded_source,
    "cross: no look ahead in a growing target": no_look_ahead,
    "cross: decode equals parallel": decoded,
    "cross: exactness condition": limit,
}
