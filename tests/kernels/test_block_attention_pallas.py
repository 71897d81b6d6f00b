"""The Pallas kernels against the reference: interpreted on a CPU, and as they are where there is a GPU or a TPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from random import Random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from full import Full
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from lra_bench.errors import ConfigError
from lra_bench.kernels import triton
from lra_bench.kernels.block_attention import block_attention, block_attention_reference
from lra_bench.kernels.block_attention_pallas import _listed, _met, block_attention_pallas
from lra_bench.kernels.impl import FORMS
from lra_bench.kernels.patterns import Blocks, Everything, Pairs, Pattern, RandomBlocks, Window

Arrays = tuple[jax.Array, ...]
PATTERNS: dict[str, Pattern] = {
    "window and the first": Window(11, first=3, size=8),  # the first block of keys is met by all
    "blocks of 5 before": Blocks(5, before=2),
    "random blocks": RandomBlocks(16, near=1, random=2, blocks=9),
    "a block of two tiles": Blocks(70),
}


@settings(deadline=None)
@given(st.integers(0, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_each_tile_has_the_list_of_those_it_meets(rows: int, columns: int, draw: Random) -> None:
    met = np.array([[draw.random() < 0.6 for _ in range(columns)] for _ in range(rows)], bool).reshape(rows, columns)
    table, start, count = map(np.asarray, _listed(met))
    for n in range(rows):
        assert table[start[n] : start[n] + count[n]].tolist() == np.flatnonzero(met[n]).tolist()


@pytest.mark.parametrize("pattern", [Everything(), Everything(causal=True), Window(256, first=64, size=64)])
def test_the_lists_of_65536_tokens_fit_in_a_tpus_scalar_memory(pattern: Pattern) -> None:
    """1 MiB of 32-bit numbers."""
    met = _met(pattern, 65_536, 65_536)
    assert sum(x.nbytes for x in _listed(met)) < 2**18
    assert sum(x.nbytes for x in _listed(met.T)) < 2**18


def arrays(queries: int, length: int, dtype: type = jnp.float32, width: int = 8) -> Arrays:
    """q, k, v, mask (a text that is full, one half full, one empty), and the cotangents of both results."""
    draw = np.random.default_rng(length)
    q, k, v, g, g_sum = (
        jnp.asarray(draw.normal(size=(3, 2, *shape)), jnp.float32)
        for shape in [(queries, width), (length, width), (length, width + 3), (queries, width + 3), (queries,)]
    )
    mask = jnp.arange(length) < jnp.array([length, (length + 1) // 2, 0])[:, None]
    return *(x.astype(dtype) for x in (q, k, v)), mask, g.astype(dtype), g_sum


def values_and_gradients(attend: Callable[..., Arrays], arguments: Arrays) -> Arrays:
    @jax.jit
    def both(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, *g: jax.Array) -> Arrays:
        parts, pull = jax.vjp(lambda q, k, v: attend(q, k, v, mask), q, k, v)
        return *parts, *pull(g)

    with jax.default_matmul_precision("highest"):
        return both(*arguments)


def compare(
    pattern: Pattern, arguments: Arrays, near: float = 2e-5, impl: str = FORMS["cpu"], **places: jax.Array
) -> None:
    fast, plain = (
        values_and_gradients(partial(attend, pattern=pattern, **places), arguments)
        for attend in (partial(block_attention_pallas, impl=impl), block_attention_reference)
    )
    for a, b in zip(fast, plain, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.float32(a), np.float32(b), atol=near, rtol=max(near, 2e-4))


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_values_and_gradients(pattern: Pattern) -> None:
    compare(pattern, arrays(131, 131))


def test_as_many_queries_as_one_likes() -> None:
    compare(Full(16), arrays(queries=41, length=7))
    compare(Pairs(8), arrays(queries=12, length=24))


def test_places_after_a_sort() -> None:
    """The table goes by where tokens stand, the bias by where they came from, otherwise in each text."""
    draw = np.random.default_rng(0)
    i, j = (jnp.array([draw.permutation(37) for _ in range(3)]) for _ in "ij")
    compare(Window(6, first=2, size=8), arrays(37, 37), i=i, j=j)


def test_bfloat16() -> None:
    compare(Window(11, size=8), arrays(40, 40, jnp.bfloat16), near=0.05)


def test_mapped_over_a_further_axis() -> None:
    q, k, v, mask, *_ = arrays(20, 20)
    attend = partial(block_attention_pallas, pattern=Window(5, size=8))
    rows, texts = (jax.jit(f) for f in (jax.vmap(attend), attend))
    for a, b in zip(rows(*(x[:, None] for x in (q, k, v, mask))), texts(q, k, v, mask), strict=True):
        np.testing.assert_allclose(a[:, 0], b, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("backend", "kind", "call"), [("gpu", "NVIDIA H100 80GB HBM3", "triton"), ("tpu", "TPU v5 lite", "tpu_custom_call")]
)
def test_lowers_for_what_is_not_here(backend: str, kind: str, call: str, dtype: type) -> None:
    """As far as a compiler's input, all three kernels: the shapes and the operations are those it takes."""
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays(300, 300, dtype, width=40)[:4]]

    def loss(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
        return block_attention_pallas(q, k, v, mask, Window(100, first=1), impl=FORMS[backend])[0].sum()

    platforms = ("cuda" if backend == "gpu" else backend,)
    device = AbstractDevice(kind, num_cores=1, platform=backend)
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=device)):
        lowered = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(*shapes).lower(lowering_platforms=platforms)
    assert lowered.as_text().count(call) >= 3


def test_a_jax_without_triton_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax.experimental.pallas.triton", None)
    monkeypatch.delattr("jax.experimental.pallas.triton", raising=False)
    with pytest.raises(
        ConfigError, match=r"impl: 'pallas' needs Pallas' Triton backend on a GPU, which jax \d.* not have"
    ):
        triton.params()


def test_which_one_runs() -> None:
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays(20, 20)[:4]]
    for impl, there in (("xla", False), ("batched", False), ("pallas-interpret", True)):
        attend = partial(block_attention, pattern=Window(5, size=8), impl=impl)
        assert ("pallas_call" in str(jax.make_jaxpr(attend)(*shapes))) is there


@pytest.mark.parametrize("name", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("gpu", "tpu")])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("pattern", [Window(128, first=1), Blocks(128, 1, 1), Full()], ids=str)
def test_on_an_accelerator(name: str, pattern: Pattern, dtype: type) -> None:
    if jax.default_backend() != name:
        pytest.skip(f"there is no {name}")
    compare(pattern, arrays(1000, 1000, dtype, width=64), near=2e-3 if dtype == jnp.float32 else 0.1, impl=FORMS[name])
