"""A training step that leaves padding out: a batch's micro-batches, sorted by length, each as long as it must be.

The batch, its loss and its gradient are the same to rounding, but for dropout, which is drawn for other shapes: what is
left out adds nothing where a model's function of a text does not depend on how far the text is padded. The step is a
compiled function for each of a few lengths, which adds up gradients, and one that updates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lra_bench.data.batches import Order, by_length, cut_to, drawn, remembered
from lra_bench.shapes import Batch, Split
from lra_bench.training.program import LEAST_MEMORY, Compiled, Program, compiled, known, shapes
from lra_bench.training.setup import LossInputs
from lra_bench.training.step import State, Totals, adding, dropout_keys, loss_scale, mean, nothing_yet, updating

STRIDE = 64  # lengths are multiples of it: blocks and tiles are filled


def ladder(longest: int, count: int) -> tuple[int, ...]:
    """At most `count` lengths up to the longest, evenly apart, in multiples of the stride."""
    even = (-(-longest * step // count) for step in range(1, count + 1))
    return tuple(sorted({min(longest, -(-length // STRIDE) * STRIDE) for length in even}))


@dataclass(frozen=True)
class BucketedProgram(Program):
    """What is compiled for one run whose micro-batches have lengths of their own."""

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """To which micro-batches are padded, ascending."""
        return ladder(self.shape[1], self.recipe.training.length_buckets)

    @cached_property
    def training(self) -> Compiled:
        """The training step: (state, each micro-batch) -> state, loss; the state is donated.

        Of its figures, memory is that of the longest micro-batch, and FLOPs are those of a batch of such ones.
        """
        each, update = self._each, self._update

        def step(state: State, *batch: tuple[jax.Array, ...]) -> tuple[State, jax.Array]:
            totals = self._begin(state)
            for index, asked in enumerate(batch):
                add = each[asked[0].shape[-1]]
                totals = add.step(self.given, state, totals, jnp.int32(index), *asked)
            return update.step(state, totals)

        longest = each[self.lengths[-1]]
        return Compiled(
            step,
            self.micro_batches * longest.flops + update.flops,
            max(part.compiled_bytes for part in (*each.values(), update)),
            sum(part.compile_s for part in (*each.values(), update)),
            longest.executable,
        )

    @cached_property
    def _each(self) -> dict[int, Compiled]:
        """By length, (given, state, totals, which, tokens, mask, label) -> totals, the old ones donated."""
        add = adding(self.graph, self.setup)

        def added(
            given: Any, state: State, totals: Totals, which: jax.Array, tokens: jax.Array, mask: jax.Array, label: Any
        ) -> Totals:
            key = dropout_keys(state, self.seed, self.micro_batches)[which]
            return add(state.params, given, loss_scale(state), totals, LossInputs(tokens, mask, label, key))

        function = jax.jit(self.precisely(added), donate_argnums=2)
        totals, which = self._shaped(self._begin, self.init), jax.ShapeDtypeStruct((), jnp.int32)
        return {
            length: compiled(function, (self.given, self.init, totals, which, *self._inputs(length)), self._options)
            for length in self.lengths
        }

    def _inputs(self, length: int) -> list[jax.ShapeDtypeStruct]:
        return shapes((self.size,), (self.shape[0], length), self.objective, self.devices.cut(0))

    @cached_property
    def _update(self) -> Compiled:
        """(state, totals) -> state, loss; the state is donated."""
        update = updating(self.recipe, self.setup)

        def updated(state: State, totals: Totals) -> tuple[State, jax.Array]:
            return update(state, mean(totals, self.micro_batches))

        function = jax.jit(self.precisely(updated), donate_argnums=0)
        return compiled(function, (self.init, self._shaped(self._begin, self.init)), self._options)

    @cached_property
    def _begin(self) -> Any:
        """state -> the totals before the first micro-batch, in memory of their own: they are donated."""

        def begun(state: State) -> Totals:
            return nothing_yet(self.setup, state._replace(rest=jax.tree.map(jnp.copy, state.rest)))

        return jax.jit(begun, out_shardings=self.devices.everywhere)

    def _shaped(self, function: Any, *arguments: Any) -> Any:
        """The shapes of what it gives, on all devices."""
        sharding = self.devices.everywhere
        made = jax.eval_shape(function, *arguments)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), made)

    @property
    def _options(self) -> Any:
        return known(LEAST_MEMORY.get(self.devices.platform, {}))

    def at(self, step: int, splits: Sequence[Split], order: Order) -> tuple[Any, ...]:
        """The batch of a training step on the devices: each micro-batch's tokens, mask and label."""
        (split,) = splits
        return tuple(
            self.show(cut_to(split, index[self.shown_rows], length)) for index, length in self._cut(step, split, order)
        )

    def feed(self, *batches: Batch) -> tuple[Any, ...]:
        """A training batch on the devices, none of it cut; of it, `fed_rows` are given."""
        (batch,) = batches
        parts = [np.split(a, self.micro_batches) for a in (batch.tokens, batch.mask, batch.label)]
        return tuple(self._placed(part, 0) for part in zip(*parts, strict=True))

    def _cut(self, step: int, split: Split, order: Order) -> list[tuple[np.ndarray, int]]:
        index = drawn(split, self.micro_batches * self.size, self.seed, step, order)
        return by_length(split, index, self.micro_batches, self.lengths)

    def computed(self, splits: Sequence[Split], steps: int) -> dict[str, float]:
        """FLOPs of a training step, on average, and the share of the padded tokens that are computed."""
        (split,) = splits
        order, found = remembered(1), Counter[int]()
        for step in range(steps):
            found.update(length for _, length in self._cut(step, split, order))
        if not found:
            return {}
        total = found.total()
        work = sum(self._each[length].flops * count for length, count in found.items()) / total
        share = sum(length * count for length, count in found.items()) / (total * self.shape[1])
        return {"flops_per_step": self.micro_batches * work + self._update.flops, "computed_tokens": share}
