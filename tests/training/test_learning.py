"""Every mixer learns: 32 texts by heart, and to find the one loud symbol wherever it can reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from lra_bench import mixers
from lra_bench.config import Backbone
from lra_bench.mixers.base import Auxiliary
from lra_bench.model import Asked, Choice, Model
from lra_bench.training.optimizer import dynamics
from lra_bench.training.program import runs_once

B, L, SYMBOLS, LOUD = 32, 64, 8, 4
LR, MOST, LOOK = 3e-3, 480, 40  # steps a pupil may take, and after how many it is looked at
BACKBONE = Backbone(
    layers=2, width=32, heads=2, qkv=None, mlp=64, dropout=0.0, positions="learned", patch=1, input="symbols",
    pool="cls", dtype="float32", remat=False,
)  # fmt: skip

Texts = tuple[jax.Array, jax.Array, jax.Array]


def by_heart(_: jax.Array) -> Texts:
    """The same texts of random symbols and lengths, with labels that mean nothing."""
    a, b, c = jax.random.split(jax.random.key(1), 3)
    mask = jnp.arange(L) < jax.random.randint(b, (B, 1), L // 2, L + 1)
    return jax.random.randint(a, (B, L), 1, SYMBOLS + 1) * mask, mask, jax.random.randint(c, (B,), 0, SYMBOLS)


def a_loud_one(key: jax.Array) -> Texts:
    """New texts each time, in each of them one of four loud symbols, anywhere; the label is which."""
    a, b, c, d = jax.random.split(key, 4)
    length = jax.random.randint(b, (B, 1), L // 2, L + 1)
    at, label = jax.random.randint(c, (B, 1), 0, length), jax.random.randint(d, (B,), 0, LOUD)
    mask = jnp.arange(L) < length
    symbols = jax.random.randint(a, (B, L), 1, SYMBOLS + 1)
    return jnp.where(jnp.arange(L) == at, SYMBOLS + 1 + label[:, None], symbols) * mask, mask, label


class Pupil:
    """A small model around the mixer, with options that fit a short text, and its training step, compiled once."""

    def __init__(self, name: str) -> None:
        model_card = mixers.model_card(name)
        module = mixers.load(model_card.path)
        options = {option.name: option.default for option in model_card.options} | model_card.card.short
        self.model = Model(
            [Choice(module.Mixer, module.Config(**options))],
            BACKBONE,
            Asked(vocab=SYMBOLS + LOUD + 1, length=L, classes=SYMBOLS),
            rngs=nnx.Rngs(0),
        )
        self.graph, *self.start = nnx.split(self.model, nnx.Param, ...)
        self.rule = optax.partition({False: optax.adam(LR), True: optax.adam(1e-3)}, dynamics)
        self.step = runs_once(self._step)

    def _step(self, params: Any, rest: Any, opt: Any, texts: Texts, key: jax.Array) -> tuple[Any, Any, Any, jax.Array]:
        tokens, mask, label = texts

        def loss(params: Any) -> tuple[jax.Array, Any]:
            model = nnx.merge(self.graph, params, rest, copy=True)
            logits = model(tokens[:, None], mask[:, None], key=key)
            own = sum(leaf.sum() for leaf in jax.tree.leaves(nnx.state(model, Auxiliary)))
            value = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
            return value + own, (nnx.state(model, nnx.Not(nnx.Param)), (logits.argmax(-1) == label).mean())

        slope, (kept, hits) = jax.grad(loss, has_aux=True)(params)
        update, opt = self.rule.update(slope, opt, params)
        return optax.apply_updates(params, update), kept, opt, hits

    def learns(self, draw: Callable[[jax.Array], Texts], goal: float) -> bool:
        """Does the accuracy over eight batches, each predicted before it is trained on, come above the goal in time?"""
        params, rest = self.start
        opt, hits, draw = self.rule.init(params), [], jax.jit(draw)
        for key in jax.random.split(jax.random.key(2), MOST):
            params, rest, opt, hit = self.step(params, rest, opt, draw(key), key)
            hits.append(hit)
            if len(hits) % LOOK == 0 and float(jnp.stack(hits[-8:]).mean()) > goal:
                return True
        return False

    def reach(self) -> float:
        """The share of a text's tokens that, changed, change the vector that is read."""
        x = jax.random.normal(jax.random.key(0), (1, L + 1, BACKBONE.width))
        there = jnp.ones(x.shape[:2], bool)
        slope = jax.jit(jax.grad(lambda x: (self.model.layers(x, there, key=None)[0, 0] * x[0, 0]).sum()))(x)[0, 1:]
        return float((abs(slope).max(-1) > 0).mean())


@pytest.mark.sweep
@pytest.mark.parametrize("name", mixers.names())
def test_it_learns(name: str) -> None:
    pupil, chance = Pupil(name), 1 / LOUD
    assert pupil.learns(by_heart, 0.95)
    reach = pupil.reach()
    assert reach > 0.05
    assert pupil.learns(a_loud_one, chance + 0.5 * reach * (1 - chance))
