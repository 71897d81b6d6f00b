"""JAX's device for an accelerator that is not here, to compile for."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import Any

import jax

from lra_bench.config import Device
from lra_bench.errors import ConfigError

NEEDS = {"gpu": "jax-cuda13-plugin", "tpu": "libtpu"}
GIVEN = {
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # CUDA's libraries are asked for their version, not for a driver
    "TPU_SKIP_MDS_QUERY": "1",  # Google Cloud is not asked what machine this is
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no TPU is held, so several processes may compile
}
UNTUNED = "--xla_gpu_autotune_level=0"  # to try kernels, a GPU would have to be there


def prepared(environ: MutableMapping[str, str] = os.environ) -> None:
    """This process computes on the CPU, and compiles for devices that are not here. Called before any is opened."""
    environ.update(GIVEN)
    environ["XLA_FLAGS"] = f"{environ.get('XLA_FLAGS', '')} {UNTUNED}".strip()
    jax.config.update("jax_platforms", "cpu")


def opened(device: Device) -> jax.Device:
    """JAX's device.

    Raises:
        ConfigError: the compiler for it is not installed, or refuses it.
    """
    from jax.experimental import topologies

    try:
        if device.platform == "tpu":
            found = topologies.get_topology_desc(platform="tpu", topology_name=device.topology)
        else:
            described = text_proto(device.target or {})
            found = topologies.get_topology_desc(device.name, "cuda", topology=device.topology, target_config=described)
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"--device: nothing here compiles for {device.name} ({said[:120]}); "
            f"pip install 'lra-bench[aot]' brings {NEEDS[device.platform]}"
        ) from error
    return found.devices[0]


def text_proto(values: Mapping[str, Any]) -> str:
    """Values as a protocol buffer's text."""
    return " ".join(
        f"{key} {{ {text_proto(value)} }}" if isinstance(value, Mapping) else f"{key}: {_scalar(value)}"
        for key, value in values.items()
    )


def _scalar(value: str | float) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
