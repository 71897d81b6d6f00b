"""Softmax attention: three implementations, one function; which one runs is known before it does."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import apply, draw
from flax import nnx

from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims
from lra_bench.mixers.softmax import Config, Mixer, fused

DIMS = Dims(16, 2, 4, 300)


@pytest.mark.parametrize("impl", ["auto", "blockwise", "sdpa"])
def test_one_function(impl: str) -> None:
    x = normal(3, 300, 16)
    mask = np.arange(300) < np.array([300, 77, 0])[:, None]
    values = [apply(draw(Mixer, Config(impl=i), DIMS), x, mask) for i in (impl, "plain")]
    np.testing.assert_allclose(*values, atol=1e-5)
    assert not values[0][2].any()


def test_which_one_runs() -> None:
    made = {i: draw(Mixer, Config(impl=i), DIMS).impl for i in ("auto", "blockwise", "sdpa", "plain")}
    assert made == {"auto": "blockwise", "blockwise": "blockwise", "sdpa": "sdpa", "plain": "plain"}


def test_cudnn_is_asked_for_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of cuDNN, done by XLA: under a mask with gaps, and for a text without a key."""
    real = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *a, implementation, **k: real(*a, **k))
    q, k, v = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 20, 2, 8)), jnp.bfloat16)
    mask = jnp.asarray(np.random.default_rng(1).random((3, 20)) < 0.6).at[2].set(False)
    y = fused(q, k, v, mask)
    assert y.dtype == jnp.bfloat16
    weights = jnp.exp(jnp.einsum("blhk,bmhk->bhlm", *jnp.float32((q, k))) / 8**0.5) * mask[:, None, None]
    exact = jnp.einsum("bhlm,bmhk->blhk", weights, jnp.float32(v)) / weights.sum(-1).swapaxes(1, 2)[..., None]
    np.testing.assert_allclose(jnp.float32(y)[:2], exact[:2], atol=0.02)
    assert jnp.isfinite(y).all()


@pytest.mark.gpu
def test_cudnn() -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 300, 64)), jnp.bfloat16)
    mask = jnp.arange(300) < jnp.array([300, 77, 0])[:, None]
    mixer, plain = (draw(Mixer, Config(impl=i), Dims(64, 2, 32, 300)) for i in ("cudnn", "plain"))
    ours, exact = (jax.jit(lambda x, m=m: m(x, mask, key=None))(x) for m in (mixer, plain))
    np.testing.assert_allclose(jnp.float32(ours), jnp.float32(exact), atol=0.05)
    assert not ours[2].any()


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="impl"):
        Config(impl="flash")
    if jax.default_backend() != "gpu":
        with pytest.raises(ConfigError, match="cudnn; it runs on a GPU"):
            Mixer(Config(impl="cudnn"), DIMS, rngs=nnx.Rngs(0))
    x = jnp.zeros((1, 4, 2, 8))
    with pytest.raises(ConfigError, match="cudnn; it takes no float32"):
        fused(x, x, x, jnp.ones((1, 4), bool))
