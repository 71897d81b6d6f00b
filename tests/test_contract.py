"""The seven promises of `lra_bench/mixers/base.py`, for every mixer that is found."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lra_bench import mixers
from lra_bench.kernels.softmax_attention import softmax_attention_reference
from lra_bench.measure.flops import flops
from lra_bench.mixers.base import Dims, MixerBase

B, L, D = 3, 37, 16
SMALL: dict[str, dict[str, Any]] = {"local": {"window": 5}, "linformer": {"rank": 8}}  # knobs that fit a short text


def make(name: str, dims: Dims | None = None, **knobs: Any) -> MixerBase:
    module = mixers.load(mixers.find(name))
    dims = dims or Dims(width=D, heads=2, head_width=4, length=L)
    return module.Mixer(module.Config(**(SMALL.get(name, {}) | knobs)), dims, rngs=nnx.Rngs(0))


def text(dtype: Any = jnp.float32) -> tuple[jax.Array, jax.Array]:
    """Three rows: full, half, and one without any token."""
    x = jax.random.normal(jax.random.key(1), (B, L, D), dtype)
    return x, jnp.arange(L) < jnp.array([L, L // 2, 0])[:, None]


def call(mixer: MixerBase) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The mixer as a compiled function of x and mask."""
    return jax.jit(lambda x, mask: mixer(x, mask, key=None))


every = pytest.mark.parametrize("name", mixers.names())


@every
def test_1_both_ways(name: str) -> None:
    x, mask = text()
    mixer = call(make(name))
    middle = jax.grad(lambda x: mixer(x, mask)[0, L // 2].sum())(x)[0]
    assert abs(middle[: L // 2]).max() > 0
    assert abs(middle[L // 2 + 1 :]).max() > 0


@every
def test_2_no_leak(name: str) -> None:
    x, mask = text()
    mixer = call(make(name))
    other = jnp.where(mask[..., None], x, 1e3 * jax.random.normal(jax.random.key(2), x.shape))
    a, b = (jnp.where(mask[..., None], mixer(x, mask), 0) for x in (x, other))
    np.testing.assert_array_equal(a, b)


@every
def test_3_finite(name: str) -> None:
    x, mask = text()
    graph, params = nnx.split(make(name))
    loss = lambda params, x: jnp.square(nnx.merge(graph, params)(x, mask, key=None)).sum()  # noqa: E731
    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    for scale in (1.0, 1e2):
        for leaf in jax.tree.leaves(gradient(params, scale * x)):
            assert jnp.isfinite(leaf).all()


@every
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_4_dtype_and_transformations(name: str, dtype: Any) -> None:
    x, mask = text(dtype)
    mixer = make(name)
    plain = mixer(x, mask, key=None)
    assert plain.dtype == dtype
    assert plain.shape == x.shape
    once = call(mixer)
    mapped = jax.vmap(once)(x[:, None], mask[:, None])[:, 0]
    _, scanned = jax.lax.scan(lambda c, row: (c, once(*row)), None, (x[:, None], mask[:, None]))
    tolerance = 1e-5 if dtype == jnp.float32 else 5e-2
    for y in (once(x, mask), mapped, scanned[:, 0]):
        assert y.dtype == dtype
        np.testing.assert_allclose(np.float32(y), np.float32(plain), rtol=tolerance, atol=tolerance)


@every
def test_5_rows_and_keys(name: str) -> None:
    x, mask = text()
    mixer = make(name)
    once = jax.jit(lambda x, mask: mixer(x, mask, key=jax.random.key(3)))
    together = once(x, mask)
    np.testing.assert_array_equal(together, once(x, mask))
    other = once(x.at[1:].set(7.0), mask.at[1:].set(True))
    np.testing.assert_array_equal(together[0], other[0])


def cost(name: str, length: int) -> tuple[float, float]:
    """Operations and planned bytes of value and gradient; nothing is run."""
    dims = Dims(width=256, heads=2, head_width=128, length=length)
    graph, params = nnx.split(nnx.eval_shape(lambda: make(name, dims, **({"window": 64} if name == "local" else {}))))
    x, mask = jax.ShapeDtypeStruct((1, length, 256), jnp.float32), jax.ShapeDtypeStruct((1, length), jnp.bool_)
    step = jax.jit(jax.grad(lambda p, x, mask: nnx.merge(graph, p)(x, mask, key=None).sum(), argnums=(0, 1)))
    plan = step.lower(params, x, mask).compile().memory_analysis()
    planned = plan.argument_size_in_bytes + plan.temp_size_in_bytes + plan.output_size_in_bytes
    return flops(jax.make_jaxpr(step)(params, x, mask)), planned


@every
def test_6_the_card_does_not_lie(name: str) -> None:
    card = mixers.read(mixers.find(name)).card
    (work, size), (work_twice, size_twice) = cost(name, 2048), cost(name, 4096)
    time, memory = math.log2(work_twice / work), math.log2(size_twice / size)
    assert abs(time - card.time) < 0.2, f"work grows as L^{time:.2f}, the card says {card.time}"
    assert abs(memory - card.memory) < 0.2, f"memory grows as L^{memory:.2f}, the card says {card.memory}"


def identity(mixer: MixerBase) -> MixerBase:
    mixer.project[...] = jnp.broadcast_to(jnp.eye(L), mixer.project.shape)
    return mixer


LIMITS: dict[str, Callable[[], MixerBase]] = {
    "softmax": lambda: make("softmax"),
    "local": lambda: make("local", window=L),
    "linformer": lambda: identity(make("linformer", rank=L, sharing="none")),
}


@every
def test_7_the_limit(name: str) -> None:
    if not mixers.read(mixers.find(name)).card.exact_when:
        assert name not in LIMITS
        return
    x, mask = text()
    mask = mask.at[:].set(True)  # linformer's r rows hold zeros for padding: its limit is for a full text
    exact, limit = make("softmax", impl="plain"), LIMITS[name]()
    np.testing.assert_array_equal(exact.qkv[...], limit.qkv[...])
    np.testing.assert_allclose(call(limit)(x, mask), call(exact)(x, mask), atol=1e-5)


def test_the_oracle_is_the_equation() -> None:
    q, k, v = jax.random.normal(jax.random.key(4), (3, 1, 1, 5, 4))
    weights = np.exp(np.asarray(q[0, 0] @ k[0, 0].T) / 2)
    weights[:, 4] = 0
    mask = jnp.array([[True, True, True, True, False]])
    y = softmax_attention_reference(q, k, v, mask)[0, 0]
    np.testing.assert_allclose(y, weights / weights.sum(1, keepdims=True) @ np.asarray(v[0, 0]), rtol=1e-5)
