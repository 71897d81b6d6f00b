"""Softmax attention: several implementations, one function; which one runs is known before it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import Values, apply, compare, draw, texts
from flax import nnx
from jaxtyping import Array

from lra_bench.errors import ConfigError
from lra_bench.kernels.softmax_attention import softmax_attention_reference
from lra_bench.kernels.splash_attention import splash_attention
from lra_bench.mixers.base import Dims, Target
from lra_bench.mixers.softmax import Config, Mixer, by_cudnn

DIMS = Dims(16, 2, 4, 300)


@pytest.mark.parametrize("impl", ["auto", "blockwise", "batched", "pallas", "sdpa"])
def test_one_function(impl: str) -> None:
    x = normal(3, 300, 16)
    mask = np.arange(300) < np.array([300, 77, 0])[:, None]
    values = [apply(draw(Mixer, Config(impl=i), DIMS), x, mask) for i in (impl, "plain")]
    np.testing.assert_allclose(*values, atol=1e-5)
    assert not values[0][2].any()


def causal_equation(p: Values, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """One head, row by row: the keys up to each query."""
    q, k, v = np.split(x @ p["qkv"], 3, axis=-1)
    y = np.zeros(x.shape)
    for t in range(len(x)):
        there = np.flatnonzero(mask[: t + 1])
        weights = np.exp(q[t] @ k[there].T / np.sqrt(k.shape[1]))
        y[t] = weights / weights.sum() @ v[there] @ p["out"] if len(there) else 0
    return y


@pytest.mark.parametrize("impl", ["blockwise", "batched", "pallas", "sdpa", "plain"])
def test_the_causal_equation(impl: str) -> None:
    compare(draw(Mixer, Config(impl=impl), Dims(8, 1, 8, 300, causal=True)), causal_equation, *texts(300, 8))


def test_which_one_runs() -> None:
    made = {i: draw(Mixer, Config(impl=i), DIMS).impl for i in ("auto", "blockwise", "sdpa", "plain", "pallas")}
    assert made == {i: i for i in made} | {"auto": "blockwise", "pallas": "pallas-interpret"}


@pytest.mark.parametrize(
    ("platform", "dtype", "refused", "impl"),
    [
        ("gpu", "float32", (), "pallas-triton"),
        ("gpu", "bfloat16", (), "cudnn"),
        ("gpu", "bfloat16", ("cudnn",), "pallas-triton"),
        ("gpu", "float32", ("pallas",), "batched"),
        ("tpu", "float32", (), "splash"),
        ("tpu", "bfloat16", ("splash",), "pallas-mosaic"),
    ],
)
def test_by_platform(platform: str, dtype: str, refused: tuple[str, ...], impl: str) -> None:
    dims = replace(DIMS, dtype=dtype, target=Target(platform, frozenset(refused)))
    assert draw(Mixer, Config(), dims).impl == impl


def test_splash_is_asked_for_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted: lengths and widths that are no multiple of its blocks, and a text without a key. Two blocks."""
    monkeypatch.setattr("lra_bench.kernels.splash_attention.BLOCK", 128)
    q, k, v = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 2, 200, 8)), jnp.float32)
    mask = jnp.arange(200) < jnp.array([200, 77, 0])[:, None]
    ours = splash_attention(q, k, v, mask, interpret=True)
    exact = softmax_attention_reference(q, k, v, mask)
    there = mask[:, None, :, None]
    np.testing.assert_allclose(jnp.where(there, ours, 0), jnp.where(there, exact, 0), atol=1e-5)
    assert not ours[2].any()

    def slopes(attention: Callable[..., Array]) -> tuple[Array, ...]:
        weights = there * jnp.cos(jnp.arange(200))[:, None]
        return jax.grad(lambda *x: (weights * attention(*x, mask)).sum(), (0, 1, 2))(q, k, v)

    interpreted = partial(splash_attention, interpret=True)
    for a, b in zip(slopes(interpreted), slopes(softmax_attention_reference), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_cudnn_is_asked_for_the_same_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of cuDNN, done by XLA: under a mask with gaps, and for a text without a key."""
    real = jax.nn.dot_product_attention
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *a, implementation, **k: real(*a, **k))
    q, k, v = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 20, 2, 8)), jnp.bfloat16)
    mask = jnp.asarray(np.random.default_rng(1).random((3, 20)) < 0.6).at[2].set(False)
    y = by_cudnn(q, k, v, mask)
    assert y.dtype == jnp.bfloat16
    weights = jnp.exp(jnp.einsum("blhk,bmhk->bhlm", *jnp.float32((q, k))) / 8**0.5) * mask[:, None, None]
    exact = jnp.einsum("bhlm,bmhk->blhk", weights, jnp.float32(v)) / weights.sum(-1).swapaxes(1, 2)[..., None]
    np.testing.assert_allclose(jnp.float32(y)[:2], exact[:2], atol=0.02)
    assert jnp.isfinite(y).all()


@pytest.mark.gpu
def test_cudnn() -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 300, 64)), jnp.bfloat16)
    mask = jnp.arange(300) < jnp.array([300, 77, 0])[:, None]
    dims = Dims(64, 2, 32, 300, dtype="bfloat16", target=Target("gpu"))
    mixer, plain = (draw(Mixer, Config(impl=i), dims) for i in ("cudnn", "plain"))
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
        by_cudnn(x, x, x, jnp.ones((1, 4), bool))
