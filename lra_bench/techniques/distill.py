"""A student that learns from a teacher's answers, and from what it has inside.

Hinton et al. (arXiv 1503.02531, section 2): with softened answers p(z) = softmax(z / T),
    loss = (1 - soft) task + soft T^2 KL(p(teacher) || p(student))
TinyBERT (Jiao et al., arXiv 1909.10351): with student layer m taught by teacher layer g(m), and g(0) = 0,
    hidden = mean over m of |H_m W - H_g(m)|^2      W learned, if the teacher is of another width: W_e for the
                                                    embeddings, m = 0, W_h for the layers            (equations 8, 9)
    attention = mean over m of |S_m - S_g(m)|^2     scores S = Q K^T / sqrt K of each head                 (equation 7)
Numbers are taught by their squared distance, labels that may be several by the KL of each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from lra_bench import config
from lra_bench.errors import ConfigError
from lra_bench.kernels.dense import exact, instead
from lra_bench.metrics import EXACT_MATCH, SQUARED_ERROR, Metric
from lra_bench.mixers.heads import HeadsMixer
from lra_bench.techniques.base import Dependencies, Technique
from lra_bench.techniques.parameters import Flat, flat, nested
from lra_bench.training.objective import Objective, mean_where_asked
from lra_bench.training.setup import TRAINED, InitialState, LossInputs, TrainingSetup

TRANSLATION = "translation"  # the part of what is trained that holds W_e and W_h, and no part of the model


class Distillation(Technique[config.Distill]):
    """A student, and a teacher that a step is given."""

    def training(self, setup: TrainingSetup, dependencies: Dependencies) -> TrainingSetup:
        """The loss is taught; W_e and W_h are trained beside the student, and are no part of it."""
        teacher = dependencies.teacher
        if teacher is None:  # it was taught in the run that this one starts from
            return setup

        def begun(state: InitialState) -> InitialState:
            params = nested({**flat(state.params), **self._translation()}) if self._translates else state.params
            return InitialState(params, state.rest, {**state.given, "teacher": (teacher.params, teacher.rest)})

        setup = replace(setup, loss=DistillationLoss(self.options, teacher.graph)).beginning(begun)
        return setup.mapped(lambda trained, given: untranslated(trained)) if self._translates else setup

    @property
    def _translates(self) -> bool:
        return self.options.hidden > 0 and self._widths[0] != self._widths[1]

    @property
    def _widths(self) -> tuple[int, int]:
        """D of the student, and of the teacher."""
        assert self.run.teacher is not None
        return self.run.recipe.backbone.width, self.run.teacher.recipe.backbone.width

    def _translation(self) -> Flat:
        return translation(*self._widths, self.run.seed)


def translation(width: int, teacher: int, seed: int) -> Flat:
    """W_e and W_h, [D, D of the teacher], drawn from N(0, 1 / D); none where the two are as wide."""
    if width == teacher:
        return {}
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), 2)
    draw = lambda key: nnx.Param(jax.random.normal(key, (width, teacher)) * width**-0.5)  # noqa: E731
    return {(TRANSLATION, name): draw(key) for name, key in zip(("embeddings", "hidden"), keys, strict=True)}


def untranslated(params: nnx.State[Any, Any]) -> nnx.State[Any, Any]:
    """What is trained, without W_e and W_h."""
    return nested({path: variable for path, variable in flat(params).items() if path[0] != TRANSLATION})


def layer_map(student: int, teacher: int, how: str) -> list[int]:
    """g(1) to g(M), the teacher's layer of each of the student's: spread over all, or the last ones."""
    if how == "last":
        return [max(1, teacher - student + m) for m in range(1, student + 1)]
    return [max(1, round(m * teacher / student)) for m in range(1, student + 1)]


def soft_loss(student: Array, teacher: Array, label: Array, metric: Metric, temperature: float) -> Float[Array, "B"]:
    """The distance of the student's answers from the teacher's, an example."""
    T = temperature
    if metric is SQUARED_ERROR:
        return jnp.square(student - teacher).mean(-1)
    if metric is EXACT_MATCH:
        student, teacher = (jnp.stack([z, jnp.zeros_like(z)], -1) for z in (student, teacher))
        return T**2 * divergence(student / T, teacher / T).mean(-1)
    apart = T**2 * divergence(student / T, teacher / T)
    return mean_where_asked(apart, label) if metric.everywhere else apart


def divergence(student: Float[Array, "*N C"], teacher: Float[Array, "*N C"]) -> Float[Array, "*N"]:
    """KL(softmax(teacher) || softmax(student))."""
    p = jax.nn.softmax(teacher)
    return (p * (jax.nn.log_softmax(teacher) - jax.nn.log_softmax(student))).sum(-1)


@dataclass(frozen=True)
class DistillationLoss:
    """What the student's loss is made of."""

    technique: config.Distill
    teacher: nnx.GraphDef[Any]

    def __call__(self, model: Any, asked: LossInputs, objective: Objective, given: Any) -> jax.Array:
        """The mean over a slice of a batch.

        Raises:
            ConfigError: what is inside the two models cannot be compared.
        """
        teacher = nnx.merge(self.teacher, *jax.lax.stop_gradient(given["teacher"]))
        inside = self.technique.hidden or self.technique.attention
        ours: list[Array] | None = [] if inside else None
        theirs: list[Array] | None = [] if inside else None
        places, label = objective.places(asked.label), objective.labels(asked.label)
        logits = model(asked.tokens, asked.mask, key=asked.key, states=ours, places=places)
        with instead(exact):
            taught = teacher(asked.tokens, asked.mask, key=None, states=theirs, places=places)
        apart = soft_loss(logits, taught, label, objective.metric, self.technique.temperature).mean()
        loss = (1 - self.technique.soft) * objective.loss(logits, asked.label).mean() + self.technique.soft * apart
        if ours is None or theirs is None:
            return loss
        there = model.there(asked.tokens, asked.mask)
        return loss + self._inside(model, teacher, _as_wide(ours, given[TRAINED]), ours, theirs, there)

    def _inside(
        self,
        model: Any,
        teacher: Any,
        wide: list[Array],
        ours: list[Array],
        theirs: list[Array],
        there: Bool[Array, "B N"],
    ) -> jax.Array:
        layers = layer_map(len(ours) - 1, len(theirs) - 1, self.technique.layers)
        loss = jnp.float32(0)
        if self.technique.hidden:
            pairs = zip(wide, [0, *layers], strict=True)
            loss += self.technique.hidden * _mean([far(h, theirs[g], there[..., None], "hidden") for h, g in pairs])
        if self.technique.attention:
            both = there[:, None, :, None] & there[:, None, None, :]
            scored = [(scores(model, m, ours), scores(teacher, g, theirs)) for m, g in enumerate(layers, 1)]
            loss += self.technique.attention * _mean([far(a, b, both, "attention") for a, b in scored])
        return loss


def _as_wide(states: list[Array], trained: nnx.State[Any, Any]) -> list[Array]:
    """The student's states, as wide as the teacher's."""
    if TRANSLATION not in trained:
        return states
    first, *rest = (state.astype(jnp.float32) for state in states)
    own: Any = trained[TRANSLATION]
    W_e, W_h = (own[name][...] for name in ("embeddings", "hidden"))
    return [first @ W_e, *(state @ W_h for state in rest)]


def far(a: Array, b: Array, where: Bool[Array, "..."], what: str) -> jax.Array:
    """The mean squared distance of two arrays of one shape, over what is there.

    Raises:
        ConfigError: they are not of one shape.
    """
    if a.shape != b.shape:
        raise ConfigError(f"distill.{what}: the student's are {a.shape[1:]}, and the teacher's {b.shape[1:]}")
    apart = jnp.square(a.astype(jnp.float32) - b.astype(jnp.float32))
    return apart.mean(where=jnp.broadcast_to(where, apart.shape))


def scores(model: Any, layer: int, states: list[Array]) -> Float[Array, "B H N N"]:
    """Q K^T / sqrt K of each head of a layer, from 1 up, before any softmax or feature.

    Raises:
        ConfigError: its mixer has no queries and keys of tokens.
    """
    block = model.block(layer - 1)
    if not isinstance(block.mixer, HeadsMixer):
        raise ConfigError("distill.attention: a mixer without queries and keys of tokens has no such scores")
    q, k, _ = block.mixer.project(block.before_mixer(states[layer - 1]))
    return jnp.einsum("bhik,bhjk->bhij", q, k) * q.shape[-1] ** -0.5


def _mean(each: list[jax.Array]) -> jax.Array:
    return jnp.stack(each).mean()
