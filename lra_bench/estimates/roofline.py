"""An estimate of a step's time: the longest of its arithmetic, its memory traffic and its launches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lra_bench.config import Backbone, Device
from lra_bench.estimates.hlo import Weight
from lra_bench.training.precision import products


class Roofline(NamedTuple):
    """Milliseconds of each, if nothing else took time."""

    compute: float
    bandwidth: float
    launches: float

    @property
    def ms(self) -> float:
        """The longest."""
        return max(self)

    @property
    def binds(self) -> str:
        """Which one that is."""
        return self._fields[self.index(self.ms)]


def roofline(weight: Weight, flops: float, device: Device, backbone: Backbone) -> Roofline:
    """Of a step that weighs so much and does so many floating-point operations."""
    return _reckoned(flops, weight.bytes, weight.launches, device, precision(device, backbone))


def elsewhere(fact: Mapping[str, Any], device: Device) -> dict[str, Any]:
    """An estimate, reckoned again for a device that runs the same compiled step at other rates."""
    bound = _reckoned(fact["flops"], fact["hbm_bytes"], fact["launches"], device, fact["precision"])
    times = {"compute_ms": bound.compute, "bandwidth_ms": bound.bandwidth, "launch_ms": bound.launches}
    return {**fact, **times, "estimate_ms": bound.ms, "binds": bound.binds, "device": device.name}


def alike(one: Device, other: Device) -> bool:
    """Is a step compiled for one what it is for the other?"""
    return (one.platform, one.capability, {*one.rates}) == (other.platform, other.capability, {*other.rates})


def _reckoned(flops: float, moved: int, launches: int, device: Device, precision: str) -> Roofline:
    rate = device.rates[precision]  # type: ignore[index]
    return Roofline(
        1e3 * flops / (rate * 1e12), 1e3 * moved / (device.bandwidth * 1e9), 1e-3 * launches * device.launch
    )


def precision(device: Device, backbone: Backbone) -> str:
    """The precision of a step's products: a key of the device's rates."""
    if backbone.dtype != "float32":
        return "bf16"
    found = products(device.platform, device.capability, backbone.matmul)
    return found if found in device.rates else "float32"
