"""A trained model and some examples, to be probed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Int32

from lra_bench.errors import RunFailed
from lra_bench.metrics import ACCURACY, Metric
from lra_bench.model import Model
from lra_bench.runs.loaded import Trained
from lra_bench.shapes import Batch

Tokens = Int32[np.ndarray, "B L"]


@dataclass(frozen=True)
class ProbedModel:
    """`read`: the places of each text whose vectors are probed, int [J, B]; two inputs are two texts."""

    graph: nnx.GraphDef[Any]
    state: tuple[Any, Any]
    metric: Metric
    scored: Callable[[Array, Array], Array]
    batch: Batch
    read: Int[np.ndarray, "J B"]
    places: Int32[Array, "B K"] | None  # at which the model answers; None: as it does without being told

    @classmethod
    def of(cls, trained: Trained, batch: Batch, places: int, draw: np.random.Generator) -> ProbedModel:
        """At random true tokens."""
        true = batch.mask.reshape(-1, batch.mask.shape[-1]).sum(-1)
        read = (draw.random((places, len(true))) * np.maximum(true, 1)).astype(int)
        objective = trained.program.objective
        graph, params, rest = trained.learned
        asked = objective.places(jnp.asarray(batch.label))
        return cls(graph, (params, rest), objective.metric, objective.score, batch, read, asked)

    @property
    def tokens(self) -> Tokens:
        return self.batch.tokens.reshape(-1, self.length)

    @property
    def mask(self) -> Bool[np.ndarray, "B L"]:
        return self.batch.mask.reshape(-1, self.length)

    @property
    def length(self) -> int:
        return int(self.batch.tokens.shape[-1])

    def gradients(self, place: int, draw: np.random.Generator) -> Float[np.ndarray, "L"]:
        """The norm of the gradient of a random direction of each text's vector at its `place`-th place, by distance."""
        direction = draw.standard_normal(self._vectors(self.tokens).shape[::2]).astype(np.float32)
        slopes = np.asarray(self._slopes(self.tokens, self.mask, self.read[place], direction), float)
        total = np.zeros(self.length)
        np.add.at(total, self._distance(place)[self.mask], slopes[self.mask])
        return total

    def moved(self, near: int, far: int, draw: np.random.Generator) -> float:
        """How far vectors move, of their length, when the tokens `near` to `far` off are resampled, on average.

        They are drawn from all tokens of these texts. Texts that have no token so far off are left out.
        """
        pool, apart = self.tokens[self.mask], []
        for place, read in enumerate(self.read):
            there = (self._distance(place) >= near) & (self._distance(place) <= far) & self.mask
            other = np.where(there, draw.choice(pool, self.tokens.shape), self.tokens)
            each = np.arange(len(read))
            before, after = (self._vectors(tokens)[each, read] for tokens in (self.tokens, other))
            size = np.linalg.norm(after - before, axis=-1) / np.linalg.norm(before, axis=-1)
            apart.append(size[there.any(-1)])
        every = np.concatenate(apart)
        return float(every.mean()) if len(every) else 0.0

    def shuffled(self, block: int, draw: np.random.Generator) -> tuple[float, float]:
        """The share of answers that change when blocks of so many tokens change places, and the score they get."""
        order = np.stack([_order(int(true), block, self.length, draw) for true in self.mask.sum(-1)])
        tokens = np.take_along_axis(self.tokens, order, axis=-1).reshape(self.batch.tokens.shape)
        logits = self._logits(tokens)
        return float(self._others(logits).mean()), self._score(logits)

    @cached_property
    def score(self) -> float:
        """On these examples."""
        return self._score(self._as_they_are)

    @cached_property
    def _as_they_are(self) -> np.ndarray:
        return self._logits(self.batch.tokens)

    def _others(self, logits: np.ndarray) -> Bool[np.ndarray, "..."]:
        """Which answers are others than before; of numbers, those that moved by a tenth of their spread."""
        before = self._as_they_are
        if self.metric is ACCURACY or self.metric.everywhere:
            return np.asarray(logits.argmax(-1) != before.argmax(-1))
        if self.metric.real:
            return np.asarray(np.abs(logits - before) > 0.1 * before.std())
        return np.asarray(((logits > 0) != (before > 0)).any(-1))

    def _distance(self, place: int) -> Int[np.ndarray, "B L"]:
        return np.abs(np.arange(self.length) - self.read[place][:, None])

    def _score(self, logits: np.ndarray) -> float:
        return float(np.asarray(self.scored(jnp.asarray(logits), jnp.asarray(self.batch.label))).mean())

    def _vectors(self, tokens: Tokens) -> np.ndarray:
        return np.asarray(self._left(tokens, self.mask))

    @cached_property
    def _left(self) -> Callable[..., Float[Array, "B L D"]]:
        """What the last layer leaves of each token, after the last norm."""
        return jax.jit(lambda tokens, mask: _vectors(self._model(), tokens, mask, 0.0))

    @cached_property
    def _slopes(self) -> Callable[..., Float[Array, "B L"]]:
        """The norms of the gradients of u . vector at a place, with respect to each embedding."""

        def slopes(tokens: Array, mask: Array, place: Array, u: Array) -> Array:
            model, each = self._model(), jnp.arange(len(tokens))
            width = model.backbone.width

            def told(nudge: Array) -> Array:
                return (_vectors(model, tokens, mask, nudge)[each, place] * u).sum()

            nudge = jnp.zeros((*tokens.shape, width), jnp.float32)
            return jnp.linalg.norm(jax.grad(told)(nudge), axis=-1)

        return jax.jit(slopes)

    @cached_property
    def _logits(self) -> Callable[[np.ndarray], np.ndarray]:
        forward = jax.jit(lambda tokens, mask: self._model()(tokens, mask, key=None, places=self.places))

        def finite(tokens: np.ndarray) -> np.ndarray:
            logits = np.asarray(forward(tokens, self.batch.mask), np.float32)
            if not np.isfinite(logits).all():
                raise RunFailed("the model's logits are not finite: nothing can be said of where it looks", "nan")
            return logits

        return finite

    def _model(self) -> Model:
        return nnx.merge(self.graph, *self.state, copy=True)


def _vectors(model: Model, tokens: Array, mask: Array, nudge: Array | float) -> Float[Array, "B L D"]:
    """The vectors of the tokens, embeddings moved by `nudge`; that of a place of the model's own is left out."""
    x, _ = model.vectors(tokens, mask, key=None, nudge=nudge)
    return model.norm(model.of_text(x, tokens.shape[1])).astype(jnp.float32)


def _order(true: int, block: int, length: int, draw: np.random.Generator) -> Int[np.ndarray, "L"]:
    """Places of a text whose whole blocks among `true` tokens have changed places; what is over stays."""
    order = np.arange(length)
    whole = true // block
    order[: whole * block] = draw.permutation(order[: whole * block].reshape(whole, block)).reshape(-1)
    return order
