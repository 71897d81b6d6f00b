"""This machine's GPUs, by the names with which a process is told to see them.

JAX is not asked: who starts processes must not hold a device that they need.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "HIP_VISIBLE_DEVICES"}  # by JAX's plugin
NVIDIA = Path("/proc/driver/nvidia/gpus")  # a folder a GPU
AMD = Path("/sys/class/kfd/kfd/topology/nodes")  # a folder a processor; of a CPU, gpu_id is 0


class Gpus(NamedTuple):
    """GPUs that runs may use, and the variable that says which of them a process sees."""

    variable: str
    names: tuple[str, ...]


def plugin() -> str | None:
    """The one of JAX's plugins for GPUs that is installed, as JAX finds it."""
    spec = importlib.util.find_spec("jax_plugins")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    names = [path.name for folder in folders for path in Path(folder).glob("xla_*")]
    return next((kind for kind in VISIBLE if any(name.startswith(f"xla_{kind}") for name in names)), None)


def count(kind: str) -> int:
    """GPUs that the driver tells of."""
    if kind == "rocm":
        ids = (file.read_text(encoding="utf-8").strip() for file in AMD.glob("*/gpu_id"))
        return sum(said not in ("", "0") for said in ids)
    try:
        said = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=20, check=True
        ).stdout
        return sum(line.startswith("GPU ") for line in said.splitlines())
    except (OSError, subprocess.SubprocessError):
        return len(list(NVIDIA.glob("*")))


def seen(environ: Mapping[str, str] = os.environ) -> Gpus | None:
    """The GPUs that JAX would use here, those that are visible already if the environment says which; None: none."""
    kind = plugin()
    if kind is None or not _wanted(kind, environ.get("JAX_PLATFORMS", "")):
        return None
    said = environ.get(VISIBLE[kind])
    names = [str(n) for n in range(count(kind))] if said is None else _listed(said)
    return Gpus(VISIBLE[kind], tuple(names)) if names else None


def _wanted(kind: str, platforms: str) -> bool:
    return not platforms or not {kind, "gpu"}.isdisjoint(platforms.split(","))


def _listed(said: str) -> list[str]:
    """The devices up to the first that is none, as CUDA reads them."""
    names: list[str] = []
    for name in (part.strip() for part in said.split(",")):
        if not name or name.startswith("-") or name == "NoDevFiles":
            break
        names.append(name)
    return names
