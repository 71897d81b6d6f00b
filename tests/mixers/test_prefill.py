"""Mixers that read a prompt by the form that reads whole texts, and go on token by token: where the prompt ends makes
no difference."""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from samples import first_slow

from lra_bench import mixers
from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims, named
from lra_bench.model.writing import refuse_longer

L = 48
CASES: list[tuple[str, dict[str, Any]]] = [  # of 8 tokens, or segments, chunks, rows
    ("sinkhorn", {"block": 8}),
    ("axial", {"rows": 6}),
    ("reformer", {"chunk": 8}),
    ("routing", {"window": 8, "near_heads": 1}),
    ("compressive", {"segment": 8, "rate": 4, "compressed": 2}),
    ("hierarchical", {"block": 8}),
    ("block-recurrent", {"block": 8, "states": 4}),
    ("long-short", {"window": 8, "segment": 8, "segment_rank": 2}),
    ("long-short", {"segment": 2 * L}),
]

DECODING = [
    module
    for module in (mixers.load(mixers.model_card(name).path) for name in mixers.names())
    if module.Mixer.decodes() and module.CARD.can_be_causal
]


@pytest.mark.slow
def test_values_of_a_text_that_ends_before_a_grid_begins_are_those_of_a_longer_one() -> None:
    axial = mixers.load(mixers.model_card("axial").path)
    mixer = axial.Mixer(axial.Config(), Dims(16, 2, 8, 24, grid=(4, 5), causal=True), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (2, 24, 16))
    whole, short = (mixer(x[:, :n], jnp.ones((2, n), bool), key=None) for n in (24, 2))
    np.testing.assert_allclose(short, whole[:, :2], atol=2e-5 * float(abs(whole).max()))


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("first", first_slow(16, 15, L))
def test_values_after_a_prompt_are_those_of_the_whole_text(name: str, options: dict[str, Any], first: int) -> None:
    card = mixers.model_card(name)
    module = mixers.load(card.path)
    dims = Dims(16, 2, 8, L, rotary=module.Mixer.turns, causal=True)
    mixer = module.Mixer(module.Config(**options), dims, rngs=nnx.Rngs(0))
    graph, weights = nnx.split(mixer)
    x = jax.random.normal(jax.random.key(1), (2, L, 16))

    def run(weights: Any, x: jax.Array) -> jax.Array:
        mixer = nnx.merge(graph, weights)
        state, begun = mixer.prefill(mixer.init_state(2, L), x[:, :first])
        _, rest = jax.lax.scan(mixer.step, state, x[:, first:].swapaxes(0, 1))
        return jnp.concatenate([begun, rest.swapaxes(0, 1)], axis=1)

    whole = jax.jit(partial(mixer, key=None))(x, jnp.ones((2, L), bool))
    np.testing.assert_allclose(jax.jit(run)(weights, x), whole, atol=2e-5 * float(abs(whole).max()))


def test_a_text_of_the_wrong_length_is_refused_where_a_mixer_knows_of_places_and_nowhere_else() -> None:
    longest = {}
    for module in DECODING:
        dims = Dims(16, 2, 8, 16, causal=True)
        mixer = nnx.eval_shape(lambda m=module, d=dims: m.Mixer(m.Config(), d, rngs=nnx.Rngs(0)))
        longest[named(module.Mixer)] = mixer.longest
    known = {name for name, places in longest.items() if places is not None}
    assert known == {"axial", "cosformer", "sinkhorn", "synthesizer"}
    assert {longest[name] for name in known} == {16}


@pytest.mark.parametrize("module", DECODING, ids=lambda module: named(module.Mixer))
def test_values_of_a_text_longer_than_it_was_made_for_are_those_of_the_whole_or_refused(module: ModuleType) -> None:
    made, long = 16, 2 * L
    short = {name: 8 for name in ("block", "segment", "chunk") if name in module.Config.__dataclass_fields__}
    mixer = module.Mixer(module.Config(**short), Dims(16, 2, 8, made, causal=True), rngs=nnx.Rngs(0))
    if mixer.longest is not None:
        with pytest.raises(ConfigError, match=f"{named(module.Mixer)}: a text of {long} symbols; .* {made} at most"):
            refuse_longer([mixer], long)
        return
    graph, weights = nnx.split(mixer)
    x = jax.random.normal(jax.random.key(1), (1, long, 16))

    def run(weights: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        mixer = nnx.merge(graph, weights)
        state, begun = mixer.prefill(mixer.init_state(1, long), x[:, :L])
        _, rest = jax.lax.scan(mixer.step, state, x[:, L:].swapaxes(0, 1))
        whole = mixer(x, jnp.ones((1, long), bool), key=None)
        return jnp.concatenate([begun, rest.swapaxes(0, 1)], axis=1), whole

    y, whole = jax.jit(run)(weights, x)
    np.testing.assert_allclose(y, whole, atol=2e-5 * float(abs(whole).max()))
