"""Decoding: a causal model's answers, token by token from the state of its layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from samples import first_fast

from lra_bench import mixers
from lra_bench.config import Backbone
from lra_bench.errors import ConfigError
from lra_bench.metrics import BITS
from lra_bench.model import Asked, Choice, Model, ModelSpec, decoding

L, VOCAB = 23, 11
BACKBONE: dict[str, Any] = {
    "layers": 3, "width": 16, "heads": 2, "qkv": None, "mlp": 24, "dropout": 0.0, "causal": True,
    "positions": "learned", "patch": 1, "input": "symbols", "pool": "last", "dtype": "float32", "remat": False,
}  # fmt: skip
TOKENS = jax.random.randint(jax.random.key(9), (2, L), 1, VOCAB)


def choice(name: str, **options: Any) -> Choice:
    model_card = mixers.model_card(name)
    module = mixers.load(model_card.path)
    return Choice(module.Mixer, module.Config(**mixers.turned(model_card, options)))


def make(*choices: Choice, everywhere: bool = BITS.everywhere, length: int = L, **options: Any) -> Model:
    asked = Asked(vocab=VOCAB, length=length, classes=VOCAB - 1, everywhere=everywhere)
    return Model(choices, Backbone(**(BACKBONE | options)), asked, rngs=nnx.Rngs(0))


def at_once(model: Model, tokens: jax.Array = TOKENS) -> jax.Array:
    """The logits of whole texts, not token by token."""
    there = jnp.ones((len(tokens), 1, tokens.shape[1]), bool)
    return jax.jit(partial(model, key=None))(tokens[:, None], there)


THREE = choice("softmax"), choice("linear"), choice("local", window=4)


@pytest.mark.parametrize("positions", first_fast("learned", "rotary", "none"))
@pytest.mark.parametrize("first", [1, 9, L])
def test_logits_are_those_of_the_whole_text(positions: str, first: int) -> None:
    model = make(*THREE, positions=positions)
    whole = at_once(model)

    def run(tokens: jax.Array) -> jax.Array:
        state, begun = decoding.prefill(model, decoding.init_state(model, 2, L), tokens[:, :first])
        _, rest = jax.lax.scan(partial(decoding.step, model), state, tokens[:, first:].T)
        return jnp.concatenate([begun, rest.swapaxes(0, 1)], axis=1)

    made = jax.jit(run)(TOKENS)
    np.testing.assert_allclose(made, whole, atol=2e-5 * float(abs(whole).max()))


def test_values_from_weights_apart_are_the_models() -> None:
    model = make(choice("softmax"), choice("softmax"), choice("linear"))
    step, weights = decoding.stepping(model)
    assert {len(rows) for rows in weights[0]} == {1, 2}, "a stack of two layers, and one of a single layer"
    state, logits = jax.jit(step)(weights, decoding.init_state(model, 2, L), TOKENS)
    whole_state, whole = jax.jit(partial(decoding.prefill, model))(decoding.init_state(model, 2, L), TOKENS)
    np.testing.assert_allclose(logits, whole[:, -1], atol=1e-6 * float(abs(whole).max()))
    assert jax.tree.structure(state) == jax.tree.structure(whole_state)


def test_state_bytes_are_counted_from_the_arrays() -> None:
    def taken(name: str, length: int, **options: Any) -> int:
        model = make(choice(name, **options), layers=1, positions="none")
        return decoding.state_bytes(decoding.init_state(model, 1, length))

    counters = 2 * 4  # the model's place and the mixer's
    assert taken("softmax", 100) == 2 * 100 * 16 * 4 + counters
    assert taken("linear", 100) == taken("linear", 1000) == 2 * 8 * 9 * 4 + counters
    assert taken("local", 1000, window=4) == 2 * 5 * 16 * 4 + counters


def test_what_a_text_takes_is_of_models_that_read_symbols() -> None:
    def taken(**options: Any) -> int | None:
        asked = Asked(vocab=VOCAB, length=32, classes=4, everywhere=False)
        backbone = Backbone(**(BACKBONE | {"positions": "none", "layers": 1} | options))
        return decoding.bytes_of_a_text(ModelSpec((choice("axial"),), backbone, (asked,)), 32)

    assert taken()
    assert taken(patch=4) is None, "whose grid has a quarter of the places"


def test_what_does_not_decode_is_one_line() -> None:
    for model, said in (
        (make(choice("softmax"), causal=False), "backbone.causal: false"),
        (make(choice("softmax"), everywhere=False), "not after each token"),
        (make(choice("fnet")), "fnet does not decode"),
    ):
        with pytest.raises(ConfigError, match=said):
            decoding.init_state(model, 1, L)
    with pytest.raises(ConfigError, match="they end at 23"):
        decoding.init_state(make(choice("softmax")), 1, L + 1)


@pytest.mark.parametrize("prompt", first_fast(1, 5))
@pytest.mark.parametrize("name", ["axial", "compressed", "hierarchical", "long-short"])
def test_a_state_as_it_begins_can_be_donated(name: str, prompt: int) -> None:
    """Of mixers that have one array for two of its parts: `lra generate` had ended in an error."""
    model = make(choice(name), layers=1, positions="none")
    step, weights = decoding.stepping(model)
    state = decoding.init_state(model, 1, L)
    leaves = jax.tree.leaves(state)
    assert len({id(leaf) for leaf in leaves}) == len(leaves)
    assert decoding.in_place(step)(weights, state, TOKENS[:1, :prompt])[1].shape == (1, VOCAB - 1)


@pytest.mark.parametrize("length", first_fast(1, 2))
def test_a_text_may_be_shorter_than_a_cell(length: int) -> None:
    model = make(choice("compressed"), layers=1, positions="none")
    whole = at_once(model, TOKENS[:, :length])
    _, made = jax.jit(partial(decoding.prefill, model))(decoding.init_state(model, 2, length), TOKENS[:, :length])
    np.testing.assert_allclose(made, whole, atol=2e-5 * float(abs(whole).max()))


def test_sinusoids_go_on_beyond_the_length_that_a_model_was_made_for() -> None:
    long = jnp.concatenate([TOKENS, TOKENS], axis=1)
    short, far = (make(choice("linear"), layers=1, positions="sinusoidal") for _ in range(2))
    whole = at_once(make(choice("linear"), length=2 * L, layers=1, positions="sinusoidal"), long)
    with pytest.raises(ConfigError, match=f"sinusoidal; they end at {L}"):
        decoding.init_state(short, 2, 2 * L)
    decoding.lengthen(far, 2 * L)
    _, made = jax.jit(partial(decoding.prefill, far))(decoding.init_state(far, 2, 2 * L), long)
    np.testing.assert_allclose(made, whole, atol=2e-5 * float(abs(whole).max()))
