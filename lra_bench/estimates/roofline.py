"""An estimate of a step's time: the longest of its arithmetic, its memory traffic and its launches."""

from __future__ import annotations

from typing import NamedTuple

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
    rate = device.rates[precision(device, backbone)]  # type: ignore[index]
    return Roofline(
        1e3 * flops / (rate * 1e12),
        1e3 * weight.bytes / (device.bandwidth * 1e9),
        1e-3 * weight.launches * device.launch,
    )


def precision(device: Device, backbone: Backbone) -> str:
    """The precision of a step's products: a key of the device's rates."""
    if backbone.dtype != "float32":
        return "bf16"
    found = products(device.platform, device.capability, backbone.matmul)
    return found if found in device.rates else "float32"
