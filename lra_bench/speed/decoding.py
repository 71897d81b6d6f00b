"""A causal model's decoding, ready to be run again and again: the prefill of a prompt, or tokens after it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lra_bench import data
from lra_bench.config import Run
from lra_bench.errors import ConfigError, RunFailed
from lra_bench.launch.refusals import refuse
from lra_bench.measure.clocks import StepTimer, lapped
from lra_bench.measure.machine import where
from lra_bench.model import Model, ModelSpec, decoding
from lra_bench.runs.build import model_spec
from lra_bench.training import precision
from lra_bench.training.program import Compiled, abstract, compiled, draw, parameters

Step = Callable[[Any, Any, jax.Array], tuple[Any, jax.Array]]  # of weights, state and tokens: the state, and logits
LAP = 256  # tokens that are decoded one after another and timed together: some mixers do more at every n-th one
EMPTY = 20  # runs of a function that does nothing, of which the median is the time to dispatch one


class Decoder(NamedTuple):
    """A causal model that answers at each place, with the task's symbols, and what one call of it reads."""

    spec: ModelSpec
    step: Step
    shape: tuple[int, int]  # texts, and tokens of each
    room: int  # places, of which the state keeps as many as its mixers do
    symbols: int

    def compiled(self, weights: Any, state: Any, tokens: Any) -> Compiled:
        """The call, for arrays or shapes."""
        return compiled(decoding.in_place(self.step), (weights, state, tokens))


def decoder(run: Run, mode: str) -> Decoder:
    """What decodes a prompt of the run's length, or one token, with room for a text of that length.

    Raises:
        ConfigError: the run cannot be.
        RunFailed: it is, and does not decode.
    """
    refuse(run)
    spec, symbols = model_spec(run), len(data.vocabulary(run.task))
    length = run.task.length
    asked = replace(spec.asked[0], everywhere=True, streams=1, classes=symbols - 1, answers=1, length=length)
    spec = replace(spec, asked=[asked])
    model = abstract(spec)
    try:
        decoding.refuse(model)
    except ConfigError as error:
        raise RunFailed(str(error)) from None
    shape = run.recipe.training.batch, 1 if mode == "decode" else length
    return Decoder(spec, decoding.stepping(model)[0], shape, length, symbols)


def planned_bytes(run: Run, mode: str) -> int:
    """What the compiler plans for it; nothing is drawn.

    Raises:
        ConfigError, RunFailed: as `decoder`.
    """
    asked = decoder(run, mode)
    weights = decoding.stepping(abstract(asked.spec))[1]
    state = decoding.state_shapes(asked.spec, asked.shape[0], asked.room)
    with precision.within(run.recipe.backbone.matmul):
        return asked.compiled(weights, state, jax.ShapeDtypeStruct(asked.shape, jnp.int32)).compiled_bytes


class DecodingBench:
    """The prefill of texts of the run's length from an empty state, or their last `LAP` tokens, one by one.

    A state that is decoded from is as large as it is after the run's length, and filled with random numbers, repeated
    for several texts; the next lap begins at the same place, with what this one has left. A lap is of all these tokens,
    and its time is that of one on average. There is never more than one state at a time.

    Raises:
        ConfigError, RunFailed: as `decoder`.
    """

    def __init__(self, run: Run, mode: str) -> None:
        self.laps = StepTimer()
        asked = decoder(run, mode)
        model: Model = draw(asked.spec, run.seed)
        weights, empty = decoding.stepping(model)[1], partial(decoding.init_state, model, asked.shape[0], asked.room)
        tokens = np.random.default_rng(run.seed).integers(1, asked.symbols, asked.shape, np.int32)
        self._steps = min(LAP, run.task.length) if mode == "decode" else 1
        self._length, self._state, self._empty = run.task.length, empty(), None if mode == "decode" else empty
        if mode == "decode":
            self._state = _filled(self._state, asked.shape[0], run.seed)
        self._weights, self._tokens = weights, jnp.asarray(tokens)
        with precision.within(run.recipe.backbone.matmul):
            self.made = asked.compiled(weights, self._state, self._tokens)
        self.facts = {
            "impl": model.impl,
            "params": parameters(asked.spec),
            "compile_s": self.made.compile_s,
            "compiled_bytes": self.made.compiled_bytes,
            "flops_per_step": self.made.flops,
            "state_bytes": decoding.state_bytes(self._state),
            **where(),
            "devices": 1,
            **precision.facts(run.recipe),
        }

    def once(self) -> None:
        """Call it as often as a lap has tokens, and wait for each."""
        state = jax.block_until_ready(self._begun())
        self.laps.start()
        for _ in range(self._steps):
            state, _ = jax.block_until_ready(self.made.step(self._weights, state, self._tokens))
        self.laps.lap(self._steps)
        self._state = state

    def shorten(self, seconds: float) -> int | None:
        """Have a lap take no more than so long, by the second of two tokens; how many it then has, if fewer."""
        whole, self._steps, took = self._steps, 1, deque[float]()
        for _ in range(2):
            with lapped(took):
                self.once()
        self._steps = max(1, min(whole, int(seconds * 1e3 / took[-1])))
        self.laps = StepTimer()
        return self._steps if self._steps < whole else None

    def _begun(self) -> Any:
        """The state that a lap begins with, in place of the one that the last lap has left."""
        if self._empty is None:
            return _at(self._length - self._steps, self._state)
        for leaf in jax.tree.leaves(self._state):
            leaf.delete()
        return self._empty()

    def dispatch_ms(self) -> float | None:
        """Milliseconds until a function of the same arguments, that does nothing, is there."""
        arguments = self._weights, self._state, self._tokens
        function: Callable[..., Any] = jax.jit(_nothing, keep_unused=True).lower(*arguments).compile()
        laps, call = StepTimer(), partial(function, *arguments)
        laps.start()
        for _ in range(1 + EMPTY):
            jax.block_until_ready(call())
            laps.lap()
        return laps.percentile(50)


def _nothing(weights: Any, state: Any, tokens: jax.Array) -> jax.Array:
    return jnp.zeros(len(tokens), jnp.float32)


def _filled(state: Any, texts: int, seed: int) -> Any:
    """The state with random numbers, repeated for several texts; what is given is dropped array by array, each before
    the one in its place is made.
    """
    leaves, tree = jax.tree.flatten(state)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(tree, [_random(leaf, texts, key) for leaf, key in zip(leaves, keys, strict=True)])


def _random(leaf: jax.Array, texts: int, key: jax.Array) -> jax.Array:
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return leaf
    texts = texts if leaf.size % texts == 0 else 1
    numbers = jax.random.normal(key, (leaf.size // texts,), leaf.dtype)
    leaf.delete()
    return _repeated(numbers, texts, leaf.shape)


@partial(jax.jit, static_argnums=(1, 2))
def _repeated(numbers: jax.Array, times: int, shape: tuple[int, ...]) -> jax.Array:
    return jnp.tile(numbers, times).reshape(shape)


def _at(place: int, state: Any) -> Any:
    """The state as if the text had so many tokens."""
    return jax.tree.map(lambda leaf: _placed(leaf, place), state)


def _placed(leaf: jax.Array, place: int) -> jax.Array:
    is_place = leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.integer)
    return jnp.full((), place, leaf.dtype) if is_place else leaf
