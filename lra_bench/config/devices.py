"""Accelerators that steps are compiled for though they are not here: `configs/devices/NAME.yaml`, or a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from lra_bench.config.files import file_of
from lra_bench.config.overlays import read, validated
from lra_bench.config.schema import Strict

KIND = "configs/devices"

RATES = ("float32", "bf16")  # which a step is reckoned by on any device
Positive = Annotated[float, Field(gt=0)]


class Device(Strict):
    """What the compiler has to know of it, and what a step's least time is reckoned from."""

    platform: Literal["gpu", "tpu"]
    name: str
    memory: Positive  # GiB
    bandwidth: Positive  # GB/s
    rates: dict[Literal["float32", "tf32", "bf16_3x", "bf16"], Positive]  # TFLOP/s
    launch: Positive  # microseconds
    topology: str
    target: dict[str, Any] | None  # XLA's `GpuTargetConfigProto`

    @property
    def bytes(self) -> int:
        """Its memory."""
        return int(self.memory * 2**30)

    @property
    def capability(self) -> str | None:
        """A GPU's compute capability, as "9.0"."""
        info = (self.target or {}).get("gpu_device_info")
        said = info.get("cuda_compute_capability") if isinstance(info, Mapping) else None
        return f"{said['major']}.{said.get('minor', 0)}" if isinstance(said, Mapping) and "major" in said else None

    @pydantic.field_validator("rates")
    @classmethod
    def _all_rates(cls, rates: dict[str, float]) -> dict[str, float]:
        if lacking := [one for one in RATES if one not in rates]:
            raise ValueError(f"lack {', '.join(lacking)}")
        return rates

    @pydantic.model_validator(mode="after")
    def _known_to_kernels(self) -> Device:
        if self.platform == "gpu" and self.capability is None:
            raise ValueError("target: must have gpu_device_info.cuda_compute_capability, as {major: 9, minor: 0}")
        return self


def device(name: str, include: Sequence[Path] = ()) -> Device:
    """The device called `name`, or in the file `name`.

    Raises:
        ConfigError: it is not found, or a value is wrong.
    """
    own = read(file_of(KIND, name, include))
    return validated(Device, own.values, [own])
