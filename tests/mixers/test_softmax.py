"""Softmax attention: three implementations, one function; which one runs is known before it does."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.softmax import Config, Mixer

DIMS = Dims(16, 2, 4, 300)


@pytest.mark.parametrize("impl", ["auto", "blockwise", "sdpa"])
def test_one_function(impl: str) -> None:
    x = jax.random.normal(jax.random.key(0), (3, 300, 16))
    mask = jnp.arange(300) < jnp.array([300, 77, 0])[:, None]
    mixer, plain = (Mixer(Config(impl=i), DIMS, rngs=nnx.Rngs(0)) for i in (impl, "plain"))
    values = [jax.jit(lambda x, m=m: m(x, mask, key=None))(x) for m in (mixer, plain)]
    np.testing.assert_allclose(*values, atol=1e-5)
    assert not values[0][2].any()


def test_which_one_runs() -> None:
    made = {i: Mixer(Config(impl=i), DIMS, rngs=nnx.Rngs(0)).impl for i in ("auto", "blockwise", "sdpa", "plain")}
    assert made == {"auto": "blockwise", "blockwise": "blockwise", "sdpa": "sdpa", "plain": "plain"}


def test_wrong_knobs() -> None:
    with pytest.raises(ConfigError, match="impl"):
        Config(impl="flash")
