"""A causal model's decoding, ready to be run again and again: the prefill of a prompt, or tokens after it."""

from __future__ import annotations

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
from lra_bench.measure.clocks import StepTimer
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

    A state that is decoded from is as large as it is after the run's length, and filled with random numbers. A lap is
    of all these tokens, and its time is that of one on average.

    Raises:
        ConfigError, RunFailed: as `decoder`.
    """

    def __init__(self, run: Run, mode: str) -> None:
        self.laps = StepTimer()
        asked = decoder(run, mode)
        model: Model = draw(asked.spec, run.seed)
        weights, state = decoding.stepping(model)[1], decoding.init_state(model, asked.shape[0], asked.room)
        tokens = np.random.default_rng(run.seed).integers(1, asked.symbols, asked.shape, np.int32)
        self._steps = min(LAP, run.task.length) if mode == "decode" else 1
        self._begun = _after(state, run.task.length - self._steps, run.seed) if mode == "decode" else state
        self._weights, self._tokens = weights, jnp.asarray(tokens)
        with precision.within(run.recipe.backbone.matmul):
            self.made = asked.compiled(weights, self._begun, self._tokens)
        self.facts = {
            "impl": model.impl,
            "params": parameters(asked.spec),
            "compile_s": self.made.compile_s,
            "compiled_bytes": self.made.compiled_bytes,
            "flops_per_step": self.made.flops,
            "state_bytes": decoding.state_bytes(state),
            **where(),
            "devices": 1,
            **precision.facts(run.recipe),
        }

    def once(self) -> None:
        """Call it on a state of its own, as often as a lap has tokens, and wait for each."""
        state = jax.block_until_ready(jax.tree.map(jnp.copy, self._begun))
        self.laps.start()
        for _ in range(self._steps):
            state, _ = jax.block_until_ready(self.made.step(self._weights, state, self._tokens))
        self.laps.lap(self._steps)

    def dispatch_ms(self) -> float | None:
        """Milliseconds until a function of the same arguments, that does nothing, is there."""
        arguments = self._weights, self._begun, self._tokens
        function: Callable[..., Any] = jax.jit(_nothing, keep_unused=True).lower(*arguments).compile()
        laps, call = StepTimer(), partial(function, *arguments)
        laps.start()
        for _ in range(1 + EMPTY):
            jax.block_until_ready(call())
            laps.lap()
        return laps.percentile(50)


def _nothing(weights: Any, state: Any, tokens: jax.Array) -> jax.Array:
    return jnp.zeros(len(tokens), jnp.float32)


def _after(state: Any, place: int, seed: int) -> Any:
    """A state as it is after so many tokens: its places are that, and its numbers random."""
    keys = iter(jax.random.split(jax.random.key(seed), len(jax.tree.leaves(state))))
    return jax.tree.map(lambda leaf: _filled(leaf, place, next(keys)), state)


def _filled(leaf: jax.Array, place: int, key: jax.Array) -> jax.Array:
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jax.random.normal(key, leaf.shape, leaf.dtype)
    return jnp.full(leaf.shape, place, leaf.dtype) if leaf.ndim == 0 else leaf
