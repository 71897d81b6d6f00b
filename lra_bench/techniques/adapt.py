"""A trained backbone that stays as it is, and what is trained beside it on another task.

LoRA (Hu et al., arXiv 2106.09685, section 4.1): a matrix W of the backbone answers as W + (alpha / r) A B, A: [I, r]
drawn from N(0, 1 / r), B: [r, O] zero before the first step. Here every matrix of a layer has one, those of any mixer
too; to answer, the product is added to W once. `flax.nnx.LoRA` wraps a linear layer, and what mixers have are arrays.

Adapters (Houlsby et al., arXiv 1902.00751, section 2.1): beside them and the head, the LayerNorms of the backbone are
trained, two a layer and the last one; a mixer's own stay as they are.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lra_bench import config
from lra_bench.model import ModelSpec
from lra_bench.techniques.base import Dependencies, Technique
from lra_bench.techniques.parameters import HEAD, STACKED, Flat, Path, flat, is_matrix, nested
from lra_bench.techniques.start import drawn_anew
from lra_bench.training.optimizer import Params
from lra_bench.training.setup import InitialState, TrainingSetup

LORA = "lora"
ADAPTERS = "adapters"
NORMS, LAST_NORM = {"before_mixer", "before_mlp"}, "norm"  # the backbone's, of a layer and after the last


class Adaptation(Technique[config.Adapt]):
    """A head of its own on a backbone that was trained on another task; where that is frozen, LoRA and adapters."""

    def model(self, spec: ModelSpec) -> ModelSpec:
        """The layers have adapters."""
        return replace(spec, shape=replace(spec.shape, bottleneck=self.options.bottleneck))

    def training(self, setup: TrainingSetup, dependencies: Dependencies) -> TrainingSetup:
        """The backbone is given to a step, not trained, and its updates are added to it."""
        if not self.options.frozen:
            return setup

        def begun(state: InitialState) -> InitialState:
            ours, held = frozen(state.params, drawn_anew(self.run, dependencies, state.params))
            ours |= low_rank(held, self.options.rank, self.run.seed)
            return InitialState(nested(ours), state.rest, {**state.given, "frozen": nested(held)})

        def whole(trained: Params, given: Any) -> Params:
            return merged(trained, flat(given["frozen"]), self.options)

        return setup.beginning(begun).mapped(whole)


def frozen(params: nnx.State[Any, Any], anew: set[Path]) -> tuple[Flat, Flat]:
    """What is trained, and what is not: all but the head, adapters and beside them norms, and what is `anew`."""
    every = flat(params)
    ours = {path for path in every if path in anew or path[0] == HEAD or ADAPTERS in path}
    if any(ADAPTERS in path for path in ours):
        ours |= {path for path in every if path[0] == LAST_NORM or set(path) & NORMS}
    return {p: v for p, v in every.items() if p in ours}, {p: v for p, v in every.items() if p not in ours}


def low_rank(held: Flat, rank: int, seed: int) -> Flat:
    """A and B of each matrix of the layers; none at rank 0."""
    made: Flat = {}
    for path, variable in held.items() if rank else ():
        if path[0] != STACKED or not is_matrix(path, variable):
            continue
        key = jax.random.fold_in(jax.random.key(seed), zlib.crc32("/".join(map(str, path)).encode()))
        *batch, inputs, outputs = variable.shape
        made[(LORA, *path, "a")] = nnx.Param(jax.random.normal(key, (*batch, inputs, rank)) * rank**-0.5)
        made[(LORA, *path, "b")] = nnx.Param(jnp.zeros((*batch, rank, outputs)))
    return made


def merged(trained: nnx.State[Any, Any], held: Flat, technique: config.Adapt) -> nnx.State[Any, Any]:
    """The model's parameters: what is frozen, with A B added, and what is trained."""
    ours = flat(trained)
    every = {**held, **{path: variable for path, variable in ours.items() if path[0] != LORA}}
    for path in held:
        if (LORA, *path, "a") in ours:
            a, b = (ours[(LORA, *path, name)][...] for name in "ab")
            every[path] = held[path].replace(held[path][...] + technique.alpha / technique.rank * (a @ b))
    return nested(every)
