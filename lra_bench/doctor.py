"""What this machine has for the harness, and what is missing."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Any

import jax

from lra_bench import config, data
from lra_bench.launch import gpus
from lra_bench.launch.place import WHOLE
from lra_bench.launch.provenance import commit
from lra_bench.measure.machine import LIBRARIES, cores, processor, versions
from lra_bench.measure.memory import available_bytes, limited_by
from lra_bench.measure.memory_limit import free
from lra_bench.training import precision

SHOWN = ("MALLOC_", "XLA_", "JAX_")
FULL_DATA_BYTES = 2**30  # room that a task's cache may want


def examine() -> tuple[dict[str, Any], list[str]]:
    """The facts, and a line for each thing that is missing or short."""
    device, cache = jax.local_devices()[0], data.cache_root()
    there, now, dealt = available_bytes(device), free(), gpus.seen()
    products = precision.of(device)
    room = shutil.disk_usage(_existing(cache)).free
    head, dirty = commit()
    facts = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "processor": processor(),
        "devices": [f"{d.platform}: {d.device_kind}" for d in jax.local_devices()],
        "memory a step may take of a device, GiB": round(there / 2**30, 1) if there else None,
        "which is": limited_by(device),
        "memory free at the moment, GiB": round(now / 2**30, 1) if now else None,
        "GPUs that --jobs deals": list(dealt.names) if dealt else [],
        "precision of float32 products": products,
        "versions": versions(),
        "environment of a run": {k: v for k, v in WHOLE.environment().items() if k.startswith(SHOWN)},
        "commit": f"{head}{', with changes' if dirty else ''}" if head else None,
        "data cache": str(cache),
        "data cache, MiB": round(_size(cache) / 2**20),
        "disk free there, GiB": round(room / 2**30, 1),
        "tasks in": [str(f) for f in config.folders("tasks", ())],
        "configs in": [str(f) for f in config.folders("configs", ())],
    }
    return facts, list(_missing(facts, room))


def _missing(facts: dict[str, Any], free: int) -> list[str]:
    missing = [f"{name}: not installed" for name in LIBRARIES if facts["versions"][name] is None]
    if all(device.startswith("cpu") for device in facts["devices"]):
        missing.append("a GPU or TPU; with one, pip install 'lra-bench[gpu]' or 'lra-bench[tpu]'")
    if free < FULL_DATA_BYTES:
        missing.append(f"disk: {free / 2**20:.0f} MiB free for the data cache")
    if cores() < 2:
        missing.append("a second core: input is made on a host thread beside the step")
    return missing


def _existing(path: Path) -> Path:
    return path if path.exists() or path == path.parent else _existing(path.parent)


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
