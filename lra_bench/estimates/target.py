"""JAX's device for an accelerator that is not here, to compile for."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from lra_bench.config import Device
from lra_bench.errors import ConfigError
from lra_bench.mixers.base import Target

NEEDS = {"gpu": "jax-cuda13-plugin", "tpu": "libtpu"}
GIVEN = {
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # CUDA's libraries are asked for their version, not for a driver
    "TPU_SKIP_MDS_QUERY": "1",  # Google Cloud is not asked what machine this is
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no TPU is held, so several processes may compile
}
# A card of each compute capability. JAX takes it from the name, which it has to know; those of some cards it does not.
CARDS = {
    (7, 5): "Tesla T4",
    (8, 0): "NVIDIA A100",
    (8, 6): "NVIDIA A10",
    (8, 9): "NVIDIA L4",
    (9, 0): "NVIDIA H100",
    (10, 0): "NVIDIA B200",
    (10, 3): "NVIDIA B300",
    (11, 0): "NVIDIA Thor",
    (12, 0): "NVIDIA RTX PRO 6000",
    (12, 1): "NVIDIA GB10",
}
# To try kernels, a GPU would have to be there. XLA of JAX 0.11 finds none for some products if it is not to try at all.
UNTUNED = f"--xla_gpu_autotune_level={0 if jax.__version_info__ < (0, 11) else 1}"


def prepared(environ: MutableMapping[str, str] = os.environ) -> None:
    """This process computes on the CPU, and compiles for devices that are not here. Called before any is opened."""
    environ.update(GIVEN)
    environ["XLA_FLAGS"] = f"{environ.get('XLA_FLAGS', '')} {UNTUNED}".strip()
    jax.config.update("jax_platforms", "cpu")


def opened(device: Device) -> jax.Device:
    """JAX's device.

    Raises:
        ConfigError: the compiler for it is not installed, or refuses what the device's file says.
    """
    from jax.experimental import topologies

    try:
        if device.platform == "tpu":
            found = topologies.get_topology_desc(platform="tpu", topology_name=device.topology)
        else:
            described = text_proto(device.target or {})
            found = topologies.get_topology_desc(device.name, "cuda", topology=device.topology, target_config=described)
    except jax.errors.JaxRuntimeError as error:
        keys = "`topology`" if device.platform == "tpu" else "`target` or `topology`"
        raise ConfigError(
            f"--device: the compiler refuses the {keys} in the file of {device.name}: {_line(error)}"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"--device: nothing here compiles for {device.name} ({_line(error)}); "
            f"pip install 'lra-bench[aot]' brings {NEEDS[device.platform]}"
        ) from error
    return found.devices[0]


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:120]


def meant(device: jax.Device) -> AbstractContextManager[Any]:
    """What is traced and lowered inside is for the device: JAX would make kernels for a GPU of this process's."""
    if device.platform != "gpu":
        return nullcontext()
    said = {"device_kind": card(Target.of(device).capability), "num_cores": None, "platform": device.platform}
    known = inspect.signature(AbstractDevice).parameters  # JAX 0.10.0 does not ask for the platform
    there = AbstractDevice(**{key: said[key] for key in known})
    return use_abstract_mesh(AbstractMesh((), (), abstract_device=there))


def card(capability: str) -> str:
    """The name of a card of this compute capability, or of the highest below it, by which JAX knows it."""
    major, _, minor = capability.partition(".")
    return CARDS[max((one for one in CARDS if one <= (int(major), int(minor))), default=min(CARDS))]


def text_proto(values: Mapping[str, Any]) -> str:
    """Values as a protocol buffer's text."""
    return " ".join(
        f"{key} {{ {text_proto(value)} }}" if isinstance(value, Mapping) else f"{key}: {_scalar(value)}"
        for key, value in values.items()
    )


def _scalar(value: str | float) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
