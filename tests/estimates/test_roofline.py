"""The least time of a step, by hand; and which precision its products have."""

from __future__ import annotations

import pytest

from lra_bench import config, sweeps
from lra_bench.config import Backbone
from lra_bench.estimates.estimate import largest_batch
from lra_bench.estimates.hlo import Weight
from lra_bench.estimates.roofline import precision, roofline

H100, V5E = config.device("h100"), config.device("v5e")
PLAIN = sweeps.runs(sweeps.Request("linear", "listops", "base"))[0].recipe.backbone.model_dump()


def backbone(**changed: object) -> Backbone:
    return Backbone.model_validate(PLAIN | changed)


def test_the_longest_of_three_binds() -> None:
    bound = roofline(Weight(launches=1000, bytes=6_704_000_000), 494.7e9, H100, backbone())
    assert (bound.compute, bound.bandwidth, bound.launches) == pytest.approx((1.0, 2.0, 3.0))
    assert (bound.ms, bound.binds) == (pytest.approx(3.0), "launches")
    assert roofline(Weight(10, 6_704_000_000), 494.7e9, H100, backbone()).binds == "bandwidth"
    assert roofline(Weight(10, 10), 494.7e9, H100, backbone()).binds == "compute"


@pytest.mark.parametrize(
    ("device", "changed", "word"),
    [
        (H100, {}, "tf32"),
        (H100, {"matmul": "float32"}, "float32"),
        (H100, {"dtype": "bfloat16"}, "bf16"),
        (V5E, {}, "bf16"),
        (V5E, {"matmul": "tf32"}, "bf16_3x"),
        (V5E, {"matmul": "float32"}, "float32"),
    ],
)
def test_products_are_as_precise_as_the_platform_makes_them(
    device: config.Device, changed: dict[str, str], word: str
) -> None:
    assert precision(device, backbone(**changed)) == word


def test_the_largest_batch_shares_what_the_state_leaves() -> None:
    """A step of 4 plans 10 bytes, 2 of them its state: an example takes 2."""
    assert largest_batch(planned=10, state=2, batch=4, there=22) == 10
    assert largest_batch(planned=10, state=2, batch=4, there=1) == 0
