"""Weights and activations as integers: symmetric, rounded to the nearest.

Krishnamoorthi (arXiv 1806.08342, sections 2.2, 2.6 and 3.1): W ~ s q with s = max |W| / q_max down a column, q in
[-q_max, q_max], q_max = 127 for 8 bits and 7 for 4. An activation x ~ s q likewise, with one s for each product, set by
the greatest |x| that was seen there on examples of train; what is beyond it is cut off.

- W8A32, W4A32: products are done in float32, with s q in W's place: what is saved is what a model takes to keep.
- W8A8: a product of activations with weights is one of integers, q_x q_W summed in int32, times s_x s_W. One that
  does not go through `kernels/dense.py`, as an einsum of a mixer's own, is done in float32, with s q in W's place.
- QAT (Jacob et al., arXiv 1712.05877, section 3): the same rounding in training's forward pass; backwards it is the
  identity, and 0 for an activation that is cut off. Ranges are those from before the first step, not averages of steps.

The library qwix (0.1.8) was tried: its provider for trained models cannot put arrays into modules that are made within
a call, as a backbone's layers are here (TraceContextError); the one for training sets ranges anew at each product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int8, UInt8

from lra_bench import config
from lra_bench.kernels.dense import exact, instead
from lra_bench.techniques.base import Dependencies, Technique
from lra_bench.techniques.parameters import flat, is_matrix, nested
from lra_bench.training.setup import InitialState, TrainingSetup, after

HALF_A_BYTE = 4
FLOAT = 32  # bits of a number as it was trained
MOST = 127  # q_max of an activation
RANGES = "ranges"  # the one thing given that a prediction depends on


class Codes(NamedTuple):
    """An array W of weights as q and s, W ~ s q."""

    q: Int8[Array, "*N I O"]
    s: Float[Array, "*N 1 O"]

    @property
    def numbers(self) -> Float[Array, "*N I O"]:
        """s q."""
        return self.s * self.q.astype(self.s.dtype)


@partial(jax.tree_util.register_dataclass, data_fields=("pairs", "s"), meta_fields=("rows",))
@dataclass(frozen=True)
class Nibbles:
    """Codes of 4 bits, two rows of q a byte: XLA does not take arrays of its own int4 from one program to another."""

    pairs: UInt8[Array, "*N J O"]  # J = I / 2, rounded up
    s: Float[Array, "*N 1 O"]
    rows: int  # I

    @classmethod
    def of(cls, code: Codes) -> Nibbles:
        """The codes, packed."""
        rows = code.q.shape[-2]
        odd = [(0, 0)] * (code.q.ndim - 2) + [(0, rows % 2), (0, 0)]
        q = jnp.pad(code.q, odd).astype(jnp.uint8)
        return cls((q[..., 0::2, :] & 15) | (q[..., 1::2, :] << 4), code.s, rows)

    @property
    def numbers(self) -> Float[Array, "*N I O"]:
        """s q."""
        signed = self.pairs.astype(jnp.int8)
        halves = jnp.stack([signed << 4 >> 4, signed >> 4], axis=-2)  # [*N, J, 2, O]: shifts keep the sign
        q = halves.reshape(*self.pairs.shape[:-2], -1, self.pairs.shape[-1])[..., : self.rows, :]
        return self.s * q.astype(self.s.dtype)


class Quantization(Technique[config.Quantize]):
    """Weights, and activations if it is asked for, as integers; in training, their rounding."""

    def training(self, setup: TrainingSetup, dependencies: Dependencies) -> TrainingSetup:
        """Codes are kept in the place of matrices, and products are done in them."""
        bits = self.options.weights
        setup = replace(
            setup,
            weights=after(setup.weights, lambda trained, given: rounded(trained, bits)),
            keep=after(setup.keep, lambda trained, given: quantized(trained, bits)),
            restore=lambda kept, given: restored(kept),
        )
        if self.options.activations == FLOAT:
            return setup
        ranges = self._ranges(setup, dependencies)

        def begun(state: InitialState) -> InitialState:
            return state._replace(given={**state.given, RANGES: ranges})

        return replace(
            setup.beginning(begun),
            learning=lambda given: simulated(given[RANGES]),
            predicting=lambda given: whole(given[RANGES], bits),
        )

    def _ranges(self, setup: TrainingSetup, dependencies: Dependencies) -> Ranges:
        """Of activations in the start's model, its weights rounded; 0 of each where it is not trained yet."""

        def answer(model: Any, asked: tuple[jax.Array, jax.Array]) -> jax.Array:
            return model(*asked, key=None)

        examples = dependencies.examples(self.options.examples)
        batches = [(jnp.asarray(b.tokens), jnp.asarray(b.mask)) for b in examples]
        if dependencies.start is None:
            graph, state = nnx.split(nnx.eval_shape(lambda: setup.model(rngs=nnx.Rngs(0))))
            return jnp.zeros(products(lambda b: answer(nnx.merge(graph, state), b), batches[0]))
        graph, params, rest = dependencies.start
        kept = rounded(params, self.options.weights)
        return calibrated(lambda b: answer(nnx.merge(graph, kept, rest), b), batches)


def codes(W: Float[Array, "*N I O"], bits: int) -> Codes:
    """The integers nearest to W / s; a column of zeros has s = 1."""
    most = 2 ** (bits - 1) - 1
    largest = jnp.abs(W).max(-2, keepdims=True)
    s = jnp.where(largest > 0, largest / most, 1.0)
    return Codes(jnp.round(W / s).astype(jnp.int8), s)


def quantized(params: nnx.State[Any, Any], bits: int) -> nnx.State[Any, Any]:
    """Every matrix as its codes; at 32 bits nothing changes.

    Vectors (biases, scales of a LayerNorm) stay as they are, and so do the dynamics of a state space, which enter
    through an exponential.
    """
    return _of_matrices(params, lambda W: codes(W, bits) if bits > HALF_A_BYTE else Nibbles.of(codes(W, bits)), bits)


def restored(kept: nnx.State[Any, Any]) -> nnx.State[Any, Any]:
    """Parameters in float32, s q in the place of codes."""

    def one(variable: nnx.Variable[Any]) -> nnx.Variable[jax.Array]:
        code = variable.get_value()
        return variable.replace(code.numbers) if isinstance(code, Codes | Nibbles) else variable

    return nested({path: one(variable) for path, variable in flat(kept).items()})


def rounded(params: nnx.State[Any, Any], bits: int) -> nnx.State[Any, Any]:
    """Every matrix as its codes give it back; a gradient passes as if it were not."""

    def straight(W: jax.Array) -> jax.Array:
        return W + jax.lax.stop_gradient(codes(W, bits).numbers - W)

    return _of_matrices(params, straight, bits)


def _of_matrices(params: nnx.State[Any, Any], change: Callable[[jax.Array], Any], bits: int) -> nnx.State[Any, Any]:
    if bits == FLOAT:
        return params
    every = flat(params)
    changed = {path: W.replace(change(W[...])) for path, W in every.items() if is_matrix(path, W)}
    return nested({**every, **changed})


Ranges = Float[Array, "P"]  # the greatest |x| of each product of activations with weights, in the order of the trace


def calibrated(answer: Callable[[Any], Any], examples: Sequence[Any]) -> Ranges:
    """The ranges of the products in `answer`, a forward pass, over batches of examples of train.

    A backbone that scans over its layers has one range for a product in all of them.
    """
    seen: dict[int, float] = {}

    def keep(place: int, largest: Any) -> None:
        seen[place] = max(seen.get(place, 0.0), float(largest))

    def measured(place: int, x: jax.Array, w: jax.Array) -> jax.Array:
        jax.debug.callback(partial(keep, place), jnp.abs(x).max().astype(jnp.float32))
        return exact(x, w)

    def told(batch: Any) -> Any:
        with _each(measured):
            return answer(batch)

    told = jax.jit(told)
    for batch in examples:
        jax.block_until_ready(told(batch))
    jax.effects_barrier()
    return jnp.asarray([seen[place] for place in range(len(seen))], jnp.float32)


def products(answer: Callable[[Any], Any], example: Any) -> int:
    """How many products of activations with weights there are in a forward pass."""
    found: list[int] = []

    def counted(place: int, x: jax.Array, w: jax.Array) -> jax.Array:
        found.append(place)
        return exact(x, w)

    with _each(counted):
        jax.eval_shape(answer, example)
    return len(found)


@contextmanager
def whole(ranges: Ranges, weights: int) -> Iterator[None]:
    """Products of activations with weights, traced within, are of integers."""

    def product(place: int, x: jax.Array, w: jax.Array) -> jax.Array:
        s = _step(ranges[place])
        q = jnp.clip(jnp.round(x / s), -MOST, MOST).astype(jnp.int8)
        code = codes(w, weights)
        total = jnp.matmul(q, code.q, preferred_element_type=jnp.int32)
        return (total * (s * code.s[0])).astype(x.dtype)

    with _each(product):
        yield


@contextmanager
def simulated(ranges: Ranges) -> Iterator[None]:
    """The same in float32, with a gradient: weights are already rounded."""

    def product(place: int, x: jax.Array, w: jax.Array) -> jax.Array:
        s = _step(ranges[place])
        cut = jnp.clip(x, -MOST * s, MOST * s)
        return exact(cut + jax.lax.stop_gradient(jnp.round(cut / s) * s - cut), w)

    with _each(product):
        yield


def _step(largest: jax.Array) -> jax.Array:
    return jnp.where(largest > 0, largest / MOST, 1.0)


@contextmanager
def _each(product: Callable[[int, jax.Array, jax.Array], jax.Array]) -> Iterator[None]:
    """Products are told their place in the order of the trace."""
    places = iter(range(1 << 30))
    with instead(lambda x, w: product(next(places), x, w)):
        yield
