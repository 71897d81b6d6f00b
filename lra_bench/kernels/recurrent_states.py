"""All states of S_{n+1} = step(learned, S_n, x_n), with as little as there can be in the walks, for accelerators.

The backward pass walks from the end through l_n, the gradient by S_n: l_n = g_n + (dstep / dS at S_n)^T l_{n+1}. Inputs
and what is learned have no part in that: their gradients are those of all steps in a few parts, pulled by l_{n+1}.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

PARTS = 4  # of all steps: the memory that one part takes is used again by the next
Step = Callable[[Any, Array, Any], Array]


class Walk(NamedTuple):
    """Both walks in other words, such as a kernel's."""

    forward: Callable[[Any, Array, Any], Array]  # (learned, start, inputs): S_n
    back: Callable[[Any, Array, Any, Array], tuple[Array, Array]]  # (learned, S_n, inputs, g_n): l_0, and all l_{n+1}


@partial(jax.custom_vjp, nondiff_argnums=(0, 4))
def recurrent_states(
    step: Step, learned: Any, start: Float[Array, "B *S"], inputs: Any, walk: Walk | None = None
) -> Float[Array, "N B *S"]:
    """The state before each input.

    Args:
        step: of rows of a batch, which do not see each other; of any number of rows.
        learned: what it is differentiated by beside rows.
        inputs: arrays [N, B, ...].
        walk: in place of the step's own; None: one step after another.
    """
    if walk:
        return walk.forward(learned, start, inputs)
    return lax.scan(lambda S, x: (step(learned, S, x), S), start, inputs)[1]


def _keep(step: Step, learned: Any, start: Array, inputs: Any, walk: Walk | None) -> tuple[Array, Any]:
    states = recurrent_states(step, learned, start, inputs, walk)
    return states, (learned, inputs, states)


def _back(step: Step, learned: Any, states: Array, inputs: Any, g: Array) -> tuple[Array, Array]:
    """l_0, and all l_{n+1}."""

    def back(after: Array, piece: tuple[Array, Any, Array]) -> tuple[Array, Array]:
        S, x, g = piece
        pull = jax.vjp(lambda S: step(learned, S, x), S)[1]
        return g + pull(after)[0], after

    return lax.scan(back, jnp.zeros_like(g[0]), (states, inputs, g), reverse=True)


def _backward(step: Step, walk: Walk | None, kept: Any, g: Array) -> tuple[Any, Array, Any]:
    learned, inputs, states = kept
    back = walk.back if walk else partial(_back, step)
    start, after = back(learned, states, inputs, g)
    parts = jax.tree.map(partial(_rows, math.gcd(len(states), PARTS)), (states, inputs, after))

    def pulled(total: Any, part: tuple[Array, Any, Array]) -> tuple[Any, Any]:
        S, x, after = part
        of_learned, of_x = jax.vjp(lambda learned, x: step(learned, S, x), learned, x)[1](after)
        return jax.tree.map(jnp.add, total, of_learned), jax.tree.map(_if_any, of_x)

    of_learned, of_inputs = lax.scan(pulled, jax.tree.map(jnp.zeros_like, learned), parts)
    return of_learned, start, jax.tree.map(partial(_rows, len(states)), of_inputs)


def _rows(parts: int, x: Shaped[Array, "N B ..."]) -> Shaped[Array, "parts M ..."]:
    """Steps as further rows of the batch, in parts; of as many parts as steps, the steps again."""
    return x.reshape(parts, -1, *x.shape[2:])


def _if_any(gradient: Array) -> Array | None:
    """None of an input that has none, as a mask."""
    return None if gradient.dtype == jax.dtypes.float0 else gradient


recurrent_states.defvjp(_keep, _backward)
