"""Where a number was measured: devices, versions, the variables that move timings.

`python -m lra_bench.measure.machine` prints it, with `available_bytes`, for who does not open jax.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable

import jax

from lra_bench.errors import device_at_fault
from lra_bench.measure.memory import available_bytes, limited_by

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "lra-bench")
DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "TPU_")
MOVES_TIMINGS = ("MALLOC_", "XLA_", "JAX_", "OMP_", *DEVICES)


def versions(libraries: Iterable[str] = LIBRARIES) -> dict[str, str | None]:
    """The installed version of each library; None where it is not installed."""
    return {name: _version(name) for name in libraries}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, str]:
    """The variables of this process that move timings: the allocator's, XLA's, JAX's."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(MOVES_TIMINGS)}


def processor() -> str:
    """The processor's own name, and how many cores this process may use."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:  # noqa: PTH123
            name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {cores()} cores"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def where() -> dict[str, str | int | None]:
    """The columns of a result that say where it was measured."""
    device = jax.local_devices()[0]
    return {
        "platform": device.platform,
        "device": processor() if device.platform == "cpu" else device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "versions": json.dumps(versions()),
        "environment": json.dumps(environment()),
    }


if __name__ == "__main__":
    try:
        first = jax.local_devices()[0]
    except Exception as error:
        print(json.dumps({"event": "refused", "message": str(device_at_fault(error) or error)}))
        sys.exit(2)
    print(json.dumps(where() | {"available_bytes": available_bytes(first), "limited_by": limited_by(first)}))
