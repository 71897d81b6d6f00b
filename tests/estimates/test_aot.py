"""Five steps compiled for a GPU and a TPU that are not here: what they launch, loop and plan stays what it is.

For who has the compilers (`make test-aot` installs them): each step takes some twenty seconds.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import pytest

from lra_bench import config, sweeps
from lra_bench.launch import local

pytestmark = pytest.mark.slow
HAS = {"h100": "jax_plugins", "v5e": "libtpu"}  # the module of each device's compiler
MODELS = "softmax,local,linformer,lru,gla"
# GiB at L = 4,096 and batch 32: on an H100 before there were implementations by platform (2026-11-28), and a quarter
# more; on a v5e, whose kernels pad heads of 32 to 128, what a step plans since 2026-11-30, and a tenth more.
MOST = {
    "h100": {"softmax": 1.07, "local": 1.01, "linformer": 0.97, "lru": 1.68, "gla": 1.51},
    "v5e": {"softmax": 1.90, "local": 1.91, "linformer": 1.58, "lru": 1.65, "gla": 1.90},
}
MARGIN = {"h100": 1.25, "v5e": 1.1}
LAUNCHES = 600
HELD = 1500  # of `block-recurrent`, whose walk starts 2,432 of 3,129 where no kernel holds its state


@cache
def estimated(device: str) -> dict[str, dict[str, Any]]:
    """By model."""
    if importlib.util.find_spec(HAS[device]) is None:
        pytest.skip(f"no compiler for {device} here: make test-aot")
    wanted = sweeps.Request(MODELS, "listops", "speed", length=4096, settings=("training.batch=32",))
    runs = sweeps.runs(wanted)
    found = local.answers("lra_bench.estimates", runs, config.device(device).model_dump(), lambda _: None)
    return {run.model: fact for run, fact in zip(runs, found, strict=True)}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("device", HAS)
@pytest.mark.parametrize("model", MODELS.split(","))
def test_launches_loops_and_memory(model: str, device: str) -> None:
    fact = estimated(device)[model]
    assert fact["status"] == "ok", fact["error"]
    assert fact["planned_bytes"] <= MARGIN[device] * MOST[device][model] * 2**30
    assert fact["hbm_bytes"] > 2**30
    assert all((loop["trips"] or 1) * loop["launches"] < LAUNCHES for loop in fact["loops"])
    assert fact["launches"] <= LAUNCHES
    if device == "h100":
        assert fact["impl"] in ("pallas-triton", "batched")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_walk_is_one_kernel_on_hopper(dtype: str) -> None:
    if importlib.util.find_spec(HAS["h100"]) is None:
        pytest.skip("no compiler for h100 here: make test-aot")
    settings = ("training.batch=32", f"backbone.dtype={dtype}")
    runs = sweeps.runs(sweeps.Request("block-recurrent", "listops", "speed", length=4096, settings=settings))
    (fact,) = local.answers("lra_bench.estimates", runs, config.device("h100").model_dump(), lambda _: None)
    assert fact["status"] == "ok", fact["error"]
    assert fact["impl"] == "hopper"
    assert fact["launches"] <= HELD
