"""The learning rate over steps, and AdamW."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from lra_bench import config
from lra_bench.mixers.base import Dynamics

Params = nnx.State[Any, Any]

DYNAMICS_LR = 1e-3


def learning_rate(optimizer: config.Optimizer, schedule: config.Schedule, steps: int) -> optax.Schedule:
    """The learning rate over steps, in `schedule`'s shape.

    `rsqrt` is Long Range Arena's `constant * linear_warmup * rsqrt_decay`: lr * min(1, s/w) / sqrt(max(s, w)).
    `warmup-linear` and `warmup-cosine` rise over the warmup and fall to 0 at the last step.
    """
    lr, warmup = optimizer.lr, schedule.warmup
    if schedule.name == "constant":
        return optax.warmup_constant_schedule(0.0 if warmup else lr, lr, warmup)
    if schedule.name == "warmup-cosine":
        return optax.warmup_cosine_decay_schedule(0.0, lr, warmup, max(steps, warmup + 1))
    if schedule.name == "warmup-linear":
        rise, fall = optax.linear_schedule(0.0, lr, warmup), optax.linear_schedule(lr, 0.0, max(steps - warmup, 1))
        return optax.join_schedules([rise, fall], [warmup])

    def rsqrt(count: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(count, jnp.float32)
        rise = jnp.minimum(1.0, step / warmup) if warmup else 1.0
        return lr * rise * jax.lax.rsqrt(jnp.maximum(step, max(warmup, 1)))

    return rsqrt


def optimizer(recipe: config.Recipe) -> optax.GradientTransformation:
    """AdamW with decoupled weight decay on every parameter, as in Long Range Arena, clipped first if asked.

    The dynamics of state spaces are trained at a rate of at most 1e-3, whatever the schedule, and without decay (S4,
    arXiv 2111.00396).
    """
    o = recipe.optimizer
    rate = learning_rate(o, recipe.schedule, recipe.training.steps)

    def capped(step: jax.typing.ArrayLike) -> jax.Array:
        return jnp.minimum(rate(step), DYNAMICS_LR)

    def adamw(rate: optax.Schedule, decay: float) -> optax.GradientTransformation:
        return optax.adamw(rate, o.b1, o.b2, o.eps, weight_decay=decay)

    rule = optax.partition({False: adamw(rate, o.weight_decay), True: adamw(capped, 0.0)}, dynamics)
    return optax.chain(optax.clip_by_global_norm(o.clip), rule) if o.clip else rule


def dynamics(params: Params) -> Any:
    """For each parameter, whether it is one of a state space's dynamics."""
    return jax.tree.map(
        lambda leaf: isinstance(leaf, Dynamics), params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
    )
