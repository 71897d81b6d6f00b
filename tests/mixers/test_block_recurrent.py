"""Block-recurrent: block after block by hand, with both gates; blocks of padding leave the state as it is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from equations import attention, compare, heads, norm
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.block_recurrent import Config, Mixer

W, S = 3, 2


def affine(x: jax.Array, layer: nnx.Module) -> jax.Array:
    return x @ layer.kernel[...] + layer.bias[...]  # type: ignore[attr-defined]


@pytest.mark.parametrize("gate", ["fixed", "lstm"])
def test_the_equations(gate: str) -> None:
    def equation(mixer: Mixer, x: jax.Array, mask: jax.Array) -> jax.Array:
        W_q, W_k, W_v = jnp.split(mixer.qkv[...], 3, axis=1)
        state, rows, all_of_it = mixer.start[...], [], jnp.ones(S, bool)
        for begin in range(0, len(x), W):
            here, both, there = x[begin : begin + W], x[max(0, begin - W) : begin + W], mask[begin : begin + W]
            c = norm(state, mixer.norm) + mixer.ids[...]
            own, across, keys, values = (heads(c, w) for w in jnp.split(mixer.state[...], 4, axis=1))
            q, asked, k, v = (heads(here, w) for w in (W_q, mixer.query[...], W_k, W_v))
            near = zip(q, heads(both, W_k), heads(both, W_v), strict=True)
            near = [attention(*each, mask[max(0, begin - W) : begin + W]) for each in near]
            read = [attention(*each, all_of_it) for each in zip(asked, keys, values, strict=True)]
            rows.append(jnp.concatenate(near + read, axis=1))
            kept = [attention(*each, all_of_it) for each in zip(own, keys, values, strict=True)]
            seen = [attention(*each, there) for each in zip(across, k, v, strict=True)]
            h = jnp.concatenate(kept + seen, axis=1)
            if gate == "fixed":
                share = jax.nn.sigmoid(mixer.share[...])
                after = state * share + affine(h, mixer.update) * (1 - share)
            else:
                admit, forget = jax.nn.sigmoid(affine(h, mixer.admit) - 1), jax.nn.sigmoid(affine(h, mixer.forget) + 1)
                after = state * forget + jnp.tanh(affine(h, mixer.update)) * admit
            state = jnp.where(there.any(), after, state)
        return jnp.concatenate(rows) @ mixer.out[...]

    compare(Mixer(Config(W, S, gate), Dims(8, 2, 4, 11), rngs=nnx.Rngs(0)), equation, 10)


def test_a_block_of_padding_leaves_the_state_as_it_is() -> None:
    """One or two of them between three blocks and the last one, which then sees no other block but in the state."""
    mixer = Mixer(Config(W, S), Dims(8, 2, 4, 6 * W), rngs=nnx.Rngs(0))
    run = jax.jit(lambda x, mask: mixer(x, mask, key=None))
    x = jax.random.normal(jax.random.key(0), (1, 6 * W, 8))
    mask = jnp.ones(6 * W, bool).at[3 * W : 5 * W].set(False)[None]
    once = jnp.concatenate([x[:, : 4 * W], x[:, 5 * W :]], axis=1)
    shorter = run(once, jnp.concatenate([mask[:, : 4 * W], mask[:, 5 * W :]], axis=1))
    np.testing.assert_allclose(run(x, mask)[:, 5 * W :], shorter[:, 4 * W :], atol=1e-6)
    assert abs(run(x.at[0, 0].add(1.0), mask)[:, 5 * W :] - shorter[:, 4 * W :]).max() > 1e-3


@pytest.mark.parametrize(
    ("knobs", "named"), [({"block": 0}, "block"), ({"states": 0}, "states"), ({"gate": "gru"}, "gate")]
)
def test_wrong_knobs(knobs: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Config(**knobs)
