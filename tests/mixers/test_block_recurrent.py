"""Block-recurrent: block after block by hand, with both gates; blocks of padding leave the state as it is."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Values, apply, attention, compare, cut, draw, join, layer_norm, sigmoid, texts
from flax import nnx
from jax import lax

from lra_bench.conformance import implementations
from lra_bench.errors import ConfigError
from lra_bench.kernels import block_states_mosaic as kernel
from lra_bench.mixers import block_recurrent
from lra_bench.mixers.base import Dims, Target
from lra_bench.mixers.block_recurrent import Config, Mixer

W, S = 3, 2


def affine(p: Values, name: str, x: np.ndarray) -> np.ndarray:
    return x @ p[f"{name}.kernel"] + p[f"{name}.bias"]


@pytest.mark.parametrize(("gate", "causal"), [("fixed", False), ("lstm", False), ("fixed", True)])
def test_the_equations(gate: str, causal: bool) -> None:
    def equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        W_q, W_k, W_v = np.split(p["qkv"], 3, axis=1)
        state, rows, every = p["start"], [], np.ones(S, bool)
        for begin in range(0, len(x), W):
            both = slice(max(0, begin - W), begin + W)
            here, there = x[begin : begin + W], mask[begin : begin + W]
            c = layer_norm(state, p["norm.scale"], p["norm.bias"]) + p["ids"]
            own, across, keys, values = map(cut, np.split(c @ p["state"], 4, axis=1))
            q, asked, k, v = (cut(here @ w) for w in (W_q, p["query"], W_k, W_v))
            i, j = begin + np.arange(len(here))[:, None], np.arange(len(x))[both]
            near = attention(q, cut(x[both] @ W_k), cut(x[both] @ W_v), mask[both] & ((j <= i) | (not causal)))
            rows.append(join([*near, *attention(asked, keys, values, every)]))
            h = join([*attention(own, keys, values, every), *attention(across, k, v, there)])
            if gate == "fixed":
                share = sigmoid(p["share"])
                after = state * share + affine(p, "update", h) * (1 - share)
            else:
                admit, forget = sigmoid(affine(p, "admit", h) - 1), sigmoid(affine(p, "forget", h) + 1)
                after = state * forget + np.tanh(affine(p, "update", h)) * admit
            state = after if there.any() else state
        return np.concatenate(rows) @ p["out"]

    compare(draw(Mixer, Config(W, S, gate), Dims(8, 2, 4, 11, causal=causal)), equation, *texts(10, 8))


def test_a_block_of_padding_leaves_the_state_as_it_is() -> None:
    """One or two of them between three blocks and the last one, which then sees no other block but in the state."""
    mixer = draw(Mixer, Config(W, S), Dims(8, 2, 4, 6 * W))
    x, mask = np.asarray(normal(1, 6 * W, 8)).repeat(2, axis=0), np.ones((2, 6 * W), bool)
    x[1, 0] += 1
    mask[:, 3 * W : 5 * W] = False
    y = np.asarray(apply(mixer, x, mask))
    shorter = apply(mixer, *(np.delete(part, np.s_[4 * W : 5 * W], axis=1) for part in (x, mask)))
    np.testing.assert_allclose(y[:, 5 * W :], shorter[:, 4 * W :], atol=1e-6)
    assert abs(y[1, 5 * W :] - y[0, 5 * W :]).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "named"), [({"block": 0}, "block"), ({"states": 0}, "states"), ({"gate": "gru"}, "gate")]
)
def test_wrong_options(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**options)


FULL = Dims(64, 2, 32, 300, target=Target("gpu", capability="9.0"))  # of the speed recipe


@pytest.mark.parametrize(
    ("options", "dims", "impl"),
    [
        ({}, {}, "hopper"),
        ({}, {"dtype": "bfloat16"}, "hopper"),
        ({}, {"target": Target("gpu", capability="8.0")}, "pallas-triton"),
        ({}, {"target": Target("gpu", frozenset({"hopper"}), "9.0")}, "pallas-triton"),
        ({}, {"target": Target("gpu", frozenset({"hopper", "pallas"}), "9.0")}, "batched"),
        ({}, {"target": Target("tpu")}, "pallas-mosaic"),
        ({}, {"width": 128}, "pallas-triton"),
        ({"gate": "lstm"}, {}, "pallas-triton"),
        ({"block": 64}, {}, "pallas-triton"),
        ({"impl": "pallas"}, {}, "pallas-triton"),
    ],
)
def test_where_the_walk_is_a_kernel(options: dict, dims: dict, impl: str) -> None:
    made = nnx.eval_shape(lambda: Mixer(Config(**options), replace(FULL, **dims), rngs=nnx.Rngs(0)))
    assert made.impl == impl


def test_verify_holds_the_kernel_at_sizes_that_it_has() -> None:
    short = replace(FULL, width=16, head_width=8, length=150)
    options, dims = implementations.fitting(block_recurrent, {"block": 8, "states": 3, "impl": "hopper"}, short)
    assert implementations.is_there(block_recurrent, options, dims)
    assert not implementations.is_there(block_recurrent, options, short)
    assert implementations.fitting(block_recurrent, {"impl": "pallas"}, short) == ({"impl": "pallas"}, short)
    assert block_recurrent.implementations("gpu") == ["batched", "pallas", "hopper"]


@pytest.mark.parametrize(
    ("options", "dims", "said"),
    [
        ({}, {"target": Target("gpu", capability="8.0")}, "capability 9.0"),
        ({}, {"target": Target("cpu")}, "capability 9.0"),
        ({"gate": "lstm"}, {}, "fixed gate"),
        ({"states": 64}, {}, "as many tokens as states"),
    ],
)
def test_a_kernel_that_is_asked_for_in_vain(options: dict, dims: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=f"impl: hopper; .*{said}.*: auto"):
        Mixer(Config(**options, impl="hopper"), replace(FULL, **dims), rngs=nnx.Rngs(0))


@pytest.mark.slow
def test_the_kernel_is_handed_what_the_state_is_advanced_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks one after another by the kernel's reference, in its place; a text shorter than a block is not for it."""

    def walk(weights: kernel.Weights, start: jax.Array, *blocks: jax.Array) -> jax.Array:
        return lax.scan(lambda S, block: (kernel.advanced_reference(weights, S, *block), S), start, blocks)[1]

    def walk_back(weights: kernel.Weights, states: jax.Array, *given: jax.Array) -> tuple[jax.Array, jax.Array]:
        def back(after: jax.Array, piece: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
            S, *block, g = piece
            return g + jax.vjp(lambda S: kernel.advanced_reference(weights, S, *block), S)[1](after)[0], after

        return lax.scan(back, jnp.zeros_like(states[0]), (states, *given), reverse=True)

    handed = []
    monkeypatch.setattr(kernel, "walk", lambda *given: handed.append(given) or walk(*given))
    monkeypatch.setattr(kernel, "walk_back", walk_back)
    here = replace(FULL, target=Target("cpu", capability="9.0"))
    ours, theirs = (draw(Mixer, Config(64, 64, impl=impl), here) for impl in ("hopper", "xla"))
    x, mask = normal(2, 150, 64), jnp.arange(150) < jnp.array([150, 50])[:, None]
    for a, b in zip(pulled(ours, x, mask), pulled(theirs, x, mask), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4 * float(abs(b).max()))
    jax.eval_shape(lambda x: ours(x, mask[:, :50], key=None), x[:, :50])
    assert len(handed) == 1


def pulled(mixer: Mixer, x: jax.Array, mask: jax.Array) -> list[jax.Array]:
    graph, params = nnx.split(mixer)

    @jax.jit
    def of(params: nnx.State, x: jax.Array) -> tuple:
        y, pull = jax.vjp(lambda params, x: nnx.merge(graph, params, copy=True)(x, mask, key=None), params, x)
        return y, pull(jnp.cos(y))

    return jax.tree.leaves(of(params, x))
