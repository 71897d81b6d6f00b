"""Block-recurrent: block after block by hand, with both gates; blocks of padding leave the state as it is."""

from __future__ import annotations

import numpy as np
import pytest
from draws import normal
from equations import Values, apply, attention, compare, cut, draw, join, layer_norm, sigmoid, texts

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
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
