"""A causal model's decoding, ready to be run again and again: the prefill of a prompt, or one token after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lra_bench import data
from lra_bench.config import Run
from lra_bench.errors import ConfigError, RunFailed
from lra_bench.launch.refusals import refuse
from lra_bench.measure.clocks import StepTimer
from lra_bench.measure.machine import where
from lra_bench.model import Model, decoding
from lra_bench.runs.build import model_spec
from lra_bench.training import precision
from lra_bench.training.program import abstract, compiled, draw, parameters

EMPTY = 20  # runs of a function that does nothing, of which the median is the time to dispatch one


class DecodingBench:
    """The prefill of texts of the run's length from an empty state, or a token of each after so many.

    The model answers at each place, with the task's symbols. A state that is decoded from is as large as it is after
    the run's length, and filled with random numbers.

    Raises:
        ConfigError: the model is not causal, or writes a target for a source.
        RunFailed: it is, and does not decode.
    """

    def __init__(self, run: Run, mode: str) -> None:
        self.laps = StepTimer()
        if run.task.crosses:
            raise ConfigError(f"--mode {mode}: of one text; task {run.task.name} has a source and a target")
        refuse(run)
        spec = model_spec(run)
        symbols = len(data.vocabulary(run.task))
        room = run.task.length + (mode == "decode")
        asked = replace(spec.asked[0], everywhere=True, streams=1, classes=symbols - 1, answers=1, length=room)
        spec = replace(spec, asked=[asked])
        try:
            decoding.refuse(abstract(spec))
        except ConfigError as error:
            raise RunFailed(str(error)) from None
        model: Model = draw(spec, run.seed)
        step, weights = decoding.stepping(model)
        B = run.recipe.training.batch
        state = decoding.init_state(model, B, room)
        count = 1 if mode == "decode" else run.task.length
        tokens = np.random.default_rng(run.seed).integers(1, symbols, (B, count), np.int32)
        self.state = _after(state, run.task.length, run.seed) if mode == "decode" else state
        self._arguments = weights, self.state, jnp.asarray(tokens)
        with precision.within(run.recipe.backbone.matmul):
            self.made = compiled(jax.jit(step), self._arguments)
        self.facts = {
            "impl": model.impl,
            "params": parameters(spec),
            "compile_s": self.made.compile_s,
            "compiled_bytes": self.made.compiled_bytes,
            "flops_per_step": self.made.flops,
            "state_bytes": decoding.state_bytes(state),
            **where(),
            "devices": 1,
            **precision.facts(run.recipe),
        }

    def once(self) -> None:
        """Call it and wait for it."""
        self.laps.start()
        jax.block_until_ready(self.made.step(*self._arguments))
        self.laps.lap()

    def dispatch_ms(self) -> float | None:
        """Milliseconds until a function of the same arguments and results, that does nothing, is there."""
        function: Callable[..., Any] = jax.jit(_nothing, keep_unused=True).lower(*self._arguments).compile()
        laps, call = StepTimer(), partial(function, *self._arguments)
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
