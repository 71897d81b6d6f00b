"""Mechanisms of blocks: one function by either form of the block-sparse kernel, output and gradients."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import normal
from equations import draw, pulled

from lra_bench import mixers
from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Dims

IMPLS = ("xla", "pallas")
DIMS = Dims(8, 2, 4, 31)


def of_blocks(name: str) -> bool:
    """Whether the mixer runs through the block-sparse kernel."""
    return any(option.name == "impl" and "pallas" in option.meaning for option in mixers.sheet(name).options)


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


@pytest.mark.parametrize(("name", "options"), CASES)
def test_one_function_by_either_implementation(name: str, options: dict[str, Any]) -> None:
    sheet = mixers.sheet(name)
    module, turned = mixers.load(sheet.path), mixers.turned(sheet, {**sheet.card.short, **options})
    both = [draw(module.Mixer, module.Config(**{**turned, "impl": i}), DIMS) for i in IMPLS]
    assert [m.impl for m in both] == ["xla", "pallas-interpret" if jax.default_backend() == "cpu" else "pallas"]
    x, mask = normal(2, 31, 8), jnp.asarray(np.arange(31) < np.array([31, 12])[:, None])
    g = np.asarray(normal(2, 31, 8, seed=1) * mask[..., None])
    for one, other in zip(*(jax.tree.leaves(pulled(m, x, mask, g)) for m in both), strict=True):
        there = np.asarray(mask)[..., None] if one.shape == x.shape else 1
        np.testing.assert_allclose(one * there, other * there, atol=1e-4)


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_no_other_implementation(name: str) -> None:
    with pytest.raises(ConfigError, match=r"impl.*auto, xla, pallas"):
        mixers.load(mixers.sheet(name).path).Config(impl="triton")


def test_a_cut_sort_has_no_blocks() -> None:
    with pytest.raises(ConfigError, match=r"impl: 'pallas'; SortCut"):
        mixers.load(mixers.sheet("sinkhorn").path).Config(cut=2, impl="pallas")
