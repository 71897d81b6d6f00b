"""What training makes small, and what an example is scored: a loss and a score for each metric. Of a text that a model
writes, the score is that of the symbols it is asked for, in bits, and the text is scored when it is written.

`logits` [B, C], or [B, L, C] where a metric wants an answer everywhere; `label` as `metrics.Metric.shape` says. Each
function gives one number an example, [B]. Where an example asks at few of its places, K at the most, the model answers
at those alone, [B, K, C], and `Objective.places` says at which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int32

from lra_bench import data
from lra_bench.config import TaskSpec
from lra_bench.data import texts
from lra_bench.data.texts import Texts
from lra_bench.metrics import (
    ACCURACY,
    BITS,
    CHRF,
    EXACT_MATCH,
    METRICS,
    SQUARED_ERROR,
    TOKEN_ACCURACY,
    Metric,
    sentence_chrf,
)

Each = Callable[[Array, Array], Float[Array, "B"]]


class Units(NamedTuple):
    """What a model's answers are in, where they are numbers: standard deviations of train from its mean."""

    centre: np.ndarray  # float32 [C]
    spread: np.ndarray  # float32 [C]

    @classmethod
    def of(cls, train: np.ndarray) -> Units:
        """Those of the numbers in train [N, C]; a constant has a spread of 1."""
        sd = train.std(0, dtype=np.float64)
        return cls(train.mean(0, dtype=np.float64).astype(np.float32), np.where(sd > 0, sd, 1).astype(np.float32))

    def as_lists(self) -> dict[str, list[float]]:
        """As JSON can keep them, to the last bit."""
        return {name: numbers.tolist() for name, numbers in self._asdict().items()}

    @classmethod
    def kept(cls, lists: Mapping[str, Sequence[float]]) -> Units:
        """What `as_lists` gave."""
        return cls(**{name: np.array(numbers, np.float32) for name, numbers in lists.items()})


@dataclass(frozen=True)
class Objective:
    """A metric, made for the labels of one task."""

    metric: Metric
    label: jax.ShapeDtypeStruct  # of an example
    loss: Each
    score: Each
    answer: Callable[[Array], Array] = lambda logits: logits  # what the model says, in the labels' units
    units: Units | None = None  # of its numbers; None: it has none, or they are taken as they are
    asked: int | None = None  # K; None: everywhere, or the text as a whole
    texts: Texts | None = None  # how symbols are read, where what is scored is the text that a model writes

    def places(self, label: Array) -> Int32[Array, "B K"] | None:
        """The places at which a model is to answer, those that ask first; None: as it does without being told."""
        return None if self.asked is None else where_asked(label, self.asked)[0]

    def labels(self, label: Array) -> Array:
        """The labels of the answers that a model gives at `places`."""
        return label if self.asked is None else where_asked(label, self.asked)[1]

    def scores(self, found: np.ndarray, label: np.ndarray) -> np.ndarray:
        """The score of each example [N], of what a program's `answering` found for it."""
        return found if self.texts is None else sentence_chrf(self.texts.of(found), self.texts.of(label))


def objective(
    metric: Metric,
    classes: int,
    length: int,
    train: np.ndarray | None = None,
    units: Units | None = None,
    asked: int | None = None,
) -> Objective:
    """The loss and the score of a task of `classes` and `length`, which asks at `asked` places of a text at the most.

    Numbers are standardized by `units`, or by those in `train` [N, C]; without either, as where a step is only timed,
    they are taken as they are.
    """
    label = jax.ShapeDtypeStruct(metric.shape(classes, length), jnp.float32 if metric.real else jnp.int32)
    if metric is SQUARED_ERROR:
        found = units if units or train is None else Units.of(train)
        return Objective(metric, label, *_squared_errors(found), found)
    made = {
        ACCURACY: (optax.softmax_cross_entropy_with_integer_labels, _hit),
        EXACT_MATCH: (_binary_cross_entropy, _all_right),
        BITS: (_cross_entropy_where_asked, _bits),
        TOKEN_ACCURACY: (_cross_entropy_where_asked, _right_where_asked),
        CHRF: (_cross_entropy_where_asked, _bits),
    }
    loss, score = made[metric]
    if asked is None or asked >= length or not metric.everywhere:
        return Objective(metric, label, loss, score)
    return Objective(metric, label, _at_asked(loss, asked), _at_asked(score, asked), asked=asked)


def of_task(task: TaskSpec, train: np.ndarray | None = None, units: Units | None = None) -> Objective:
    """`objective`, of a task."""
    made = objective(METRICS[task.metric], task.classes, task.length, train, units, data.asked(task))
    return replace(made, texts=texts.of(task))


def _hit(logits: Array, label: Array) -> Float[Array, "B"]:
    return (jnp.argmax(logits, axis=-1) == label).astype(jnp.float32)


def _binary_cross_entropy(logits: Array, label: Array) -> Float[Array, "B"]:
    return optax.sigmoid_binary_cross_entropy(logits, label).mean(-1)


def _all_right(logits: Array, label: Array) -> Float[Array, "B"]:
    return ((logits > 0) == (label > 0)).all(-1).astype(jnp.float32)


def _squared_errors(units: Units | None) -> tuple[Each, Each, Callable[[Array], Array]]:
    """Of a model that answers in `units`: the loss in those, and in the labels' own its score and its answer."""
    centre, spread = units or (0.0, 1.0)

    def loss(logits: Array, label: Array) -> Float[Array, "B"]:
        return jnp.square(logits - (label - centre) / spread).mean(-1)

    def answer(logits: Array) -> Array:
        return logits * spread + centre

    def score(logits: Array, label: Array) -> Float[Array, "B"]:
        return jnp.square(answer(logits) - label).mean(-1)

    return loss, score, answer


def _cross_entropy_where_asked(logits: Array, label: Array) -> Float[Array, "B"]:
    """In nats a symbol, over the places where `label` is one, not 0."""
    return mean_where_asked(optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(label - 1, 0)), label)


def _bits(logits: Array, label: Array) -> Float[Array, "B"]:
    return _cross_entropy_where_asked(logits, label) / jnp.log(2.0)


def _right_where_asked(logits: Array, label: Array) -> Float[Array, "B"]:
    """The share of an example's asked places at which the answer is right."""
    return mean_where_asked((jnp.argmax(logits, axis=-1) == label - 1).astype(jnp.float32), label)


def mean_where_asked(each: Float[Array, "B L"], label: Array) -> Float[Array, "B"]:
    """The mean over the places where `label` [B, L] is a symbol, not 0; 0 of an example that asks for none."""
    asked = (label > 0).astype(jnp.float32)
    return (each * asked).sum(-1) / jnp.maximum(asked.sum(-1), 1)


def where_asked(label: Array, most: int) -> tuple[Int32[Array, "B K"], Int32[Array, "B K"]]:
    """The first `most` places at which a label [B, L] asks for a symbol, and those symbols.

    Where there are fewer, the others are place 0 and ask for nothing.
    """
    asked = label > 0
    slot = jnp.where(asked, jnp.cumsum(asked, axis=-1) - 1, most)
    rows = jnp.arange(len(label))[:, None]
    blank = jnp.zeros((len(label), most), jnp.int32)
    places = jnp.broadcast_to(jnp.arange(label.shape[-1]), label.shape)
    return tuple(blank.at[rows, slot].set(values, mode="drop") for values in (places, label))  # type: ignore[return-value]


def _at_asked(each: Each, most: int) -> Each:
    """The same of logits at those places alone."""
    return lambda logits, label: each(logits, where_asked(label, most)[1])
