"""Mechanisms of blocks: one function by either form of the block-sparse kernel, output and gradients."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lra_bench import mixers
from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims

IMPLS = ("xla", "pallas")
QUICK = {"xla_backend_optimization_level": "0"} if jax.default_backend() == "cpu" else {}
DIMS = Dims(8, 2, 4, 31)


def of_blocks(name: str) -> bool:
    """Whether the mixer runs through the block-sparse kernel."""
    return any(knob.name == "impl" and "pallas" in knob.meaning for knob in mixers.sheet(name).knobs)


FURTHER: list[tuple[str, dict[str, Any]]] = [
    ("local", {"dilation": 3, "near_heads": 1}),
    ("longformer", {"global_tokens": 0}),
    ("bigbird", {"tokens": 3}),
    ("sparse-transformer", {"pattern": "stride"}),
    ("reformer", {"across": True, "rounds": 1}),
]
CASES = [(name, {}) for name in mixers.names() if of_blocks(name)] + FURTHER


def test_every_mechanism_of_blocks_has_the_choice() -> None:
    named = {"local", "block-local", "dilated", "longformer", "bigbird", "sparse-transformer", "strided", "sinkhorn"}
    assert {*named, "reformer"} == {name for name, _ in CASES}


@pytest.mark.parametrize(("name", "knobs"), CASES)
def test_one_function_by_either_implementation(name: str, knobs: dict[str, Any]) -> None:
    sheet = mixers.sheet(name)
    module, turned = mixers.load(sheet.path), mixers.turned(sheet, {**sheet.card.short, **knobs})
    both = [module.Mixer(module.Config(**{**turned, "impl": i}), DIMS, rngs=nnx.Rngs(0)) for i in IMPLS]
    assert [m.impl for m in both] == ["xla", "pallas-interpret" if jax.default_backend() == "cpu" else "pallas"]
    x, g = (jnp.asarray(np.random.default_rng(seed).normal(size=(2, 31, 8)), jnp.float32) for seed in (0, 1))
    mask = jnp.arange(31) < jnp.array([31, 12])[:, None]

    def pulled(mixer: Any) -> Any:
        graph, params, rest = nnx.split(mixer, nnx.Param, ...)

        def run(params: Any, x: jax.Array) -> jax.Array:
            return (nnx.merge(graph, params, rest, copy=True)(x, mask, key=None) * g * mask[..., None]).sum()

        return jax.jit(jax.value_and_grad(run, (0, 1)), compiler_options=QUICK)(params, x)

    for one, other in zip(*(jax.tree.leaves(pulled(m)) for m in both), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_no_other_implementation(name: str) -> None:
    with pytest.raises(ConfigError, match=r"impl.*auto, xla, pallas"):
        mixers.load(mixers.sheet(name).path).Config(impl="triton")


def test_a_cut_sort_has_no_blocks() -> None:
    with pytest.raises(ConfigError, match=r"impl: 'pallas'; SortCut"):
        mixers.load(mixers.sheet("sinkhorn").path).Config(cut=2, impl="pallas")
