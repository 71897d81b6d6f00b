"""Which implementation runs, and how much of a batched one at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lra_bench.errors import ConfigError
from lra_bench.kernels.impl import AT_ONCE, FUSED, WALKED, at_once, chosen
from lra_bench.mixers import funnel, linformer, local, luna, nystromformer, perceiver, set_transformer
from lra_bench.mixers.base import Dims, Target, implementation


@pytest.mark.parametrize(
    ("platform", "asked", "there", "refused", "runs"),
    [
        ("cpu", "auto", FUSED, (), "xla"),
        ("gpu", "auto", FUSED, (), "pallas-triton"),
        ("tpu", "auto", FUSED, (), "pallas-mosaic"),
        ("gpu", "auto", FUSED, ("pallas",), "batched"),
        ("gpu", "auto", FUSED, ("pallas", "batched"), "xla"),
        ("gpu", "auto", WALKED, (), "batched"),
        ("gpu", "pallas", FUSED, ("pallas",), "pallas-triton"),
        ("cpu", "pallas", FUSED, (), "pallas-interpret"),
        ("gpu", "xla", FUSED, (), "xla"),
    ],
)
def test_by_platform_or_as_asked(
    platform: str, asked: str, there: tuple[str, ...], refused: tuple[str, ...], runs: str
) -> None:
    assert chosen(asked, platform, there, refused) == runs


@pytest.mark.parametrize(
    ("platform", "few", "width", "runs"),
    [
        ("tpu", 256, 64, "batched"),
        ("tpu", 257, 64, "pallas-mosaic"),
        ("tpu", 256, 128, "pallas-mosaic"),
        ("gpu", 256, 64, "pallas-triton"),
        ("cpu", 256, 64, "xla"),
    ],
)
def test_few_rows_of_narrow_heads_go_without_the_kernel_on_a_tpu(
    platform: str, few: int, width: int, runs: str
) -> None:
    dims = Dims(width, 1, width, 1024, target=Target(platform))
    for module in (linformer, luna, nystromformer, perceiver, set_transformer):
        assert implementation(module.Config(few), dims) == runs
    assert implementation(funnel.Config(), dims).startswith("pallas") == (platform != "cpu"), "of all tokens"


@pytest.mark.parametrize(
    ("platform", "length", "dtype", "runs"),
    [
        ("tpu", 65_536, "float32", "pallas-mosaic"),
        ("tpu", 84_000, "float32", "pallas-mosaic"),  # compiled for a v5e; 102,000 were not
        ("tpu", 102_000, "float32", "batched"),
        ("tpu", 131_072, "bfloat16", "pallas-mosaic"),
        ("gpu", 131_072, "float32", "pallas-triton"),
    ],
)
def test_keys_that_a_tpus_memory_on_the_chip_does_not_hold_go_without_the_kernel(
    platform: str, length: int, dtype: str, runs: str
) -> None:
    dims = Dims(64, 2, 32, length, dtype=dtype, target=Target(platform))
    assert implementation(local.Config(), dims) == runs
    assert implementation(local.Config(impl="pallas"), dims).startswith("pallas"), "as it is asked for"


def test_what_there_is_none_of() -> None:
    with pytest.raises(ConfigError, match="impl: 'palas'; did you mean 'pallas'"):
        chosen("palas", "cpu")
    with pytest.raises(ConfigError, match="impl: 'pallas'; "):
        chosen("pallas", "gpu", WALKED)


@given(st.integers(1, 5000), st.integers(1, 8 * AT_ONCE))
def test_so_many_rows_at_once(rows: int, numbers: int) -> None:
    some = at_once("batched", rows, numbers)
    assert some is not None
    assert 1 <= some <= rows
    assert some == 1 or numbers * (some - 1) / rows <= 1.25 * AT_ONCE
    assert at_once("xla", rows, numbers) is None


def test_parts_are_cut_without_a_rest_where_that_is_near() -> None:
    assert at_once("batched", 32, 5 * AT_ONCE) == 8
    assert at_once("batched", 31, 5 * AT_ONCE) == 7


def test_small_rows_are_taken_together_on_a_processor_too() -> None:
    assert at_once("xla", 64, 1600, in_cache=100) == 4
    assert at_once("xla", 64, 6400, in_cache=100) is None
    assert at_once("batched", 64, AT_ONCE, in_cache=100) == 64
