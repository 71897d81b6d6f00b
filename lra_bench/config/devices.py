"""Accelerators that steps are compiled for though they are not here: `configs/devices/NAME.yaml`, or a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from lra_bench.config.files import file_of
from lra_bench.config.overlays import read, validated
from lra_bench.config.schema import Strict

KIND = "configs/devices"

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
        said = (self.target or {}).get("gpu_device_info", {}).get("cuda_compute_capability")
        return None if said is None else f"{said['major']}.{said.get('minor', 0)}"


def device(name: str, include: Sequence[Path] = ()) -> Device:
    """The device called `name`, or in the file `name`.

    Raises:
        ConfigError: it is not found, or a value is wrong.
    """
    own = read(file_of(KIND, name, include))
    return validated(Device, own.values, [own])
