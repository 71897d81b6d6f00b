"""Bytes: what the compiler planned, what was measured, what is there. Never mixed."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from lra_bench import distributed
from lra_bench.measure import memory_limit


def compiled_bytes(compiled: Any) -> int:
    """What a compiled function needs a device at once: arguments + temporaries + outputs - those that share memory.

    XLA's own `peak_memory_in_bytes` is not used: on CPU it leaves the temporaries out.
    """
    plan = compiled.memory_analysis()
    parts = plan.argument_size_in_bytes + plan.temp_size_in_bytes + plan.output_size_in_bytes
    return int(parts - plan.alias_size_in_bytes)


def arguments_bytes(compiled: Any) -> int:
    """Of that, its arguments: a step's are the model, the optimizer's state and the batch."""
    return int(compiled.memory_analysis().argument_size_in_bytes)


def model_bytes(arrays: Iterable[jax.Array]) -> int:
    """What the arrays take to keep: two numbers of 4 bits a byte; of an array with many zeros, those that are none, and
    a bit for each place that says whether there is one."""
    counted = ((a, int(np.count_nonzero(np.asarray(a)))) for a in arrays)
    return sum(min(packed_bytes(a, a.size), packed_bytes(a, other) - (-a.size // 8)) for a, other in counted)


def packed_bytes(array: jax.Array, count: int) -> int:
    """So many numbers of an array, one after another."""
    return -(-count * jax.dtypes.itemsize_bits(array.dtype) // 8)


def peak_bytes(device: jax.Device) -> int:
    """The most that was in use: of the device's memory where it counts, else the process's peak resident set.

    The latter holds the interpreter and the compiler too, so it compares only with itself.
    """
    stats = device.memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(resident if sys.platform == "darwin" else resident * 1024)


def available_bytes(device: jax.Device) -> int | None:
    """What a step may be planned to need of a device, whatever else runs at the moment.

    The device's limit where it states one; else a fixed share of what this machine, container or job may use, dealt to
    the runs that run at once, to the processes of each, and to the devices of each process.
    """
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    whole = memory_limit.smallest()
    parts = memory_limit.jobs() * distributed.beside() * jax.local_device_count()
    return None if whole is None else int(memory_limit.SHARE * whole.bytes) // parts


def crowded(planned: int, device: jax.Device) -> str | None:
    """In words, if a step of so many planned bytes on each device here is more than what is free at the moment."""
    now, needed = memory_limit.free(), planned * jax.local_device_count()
    if device.memory_stats() or now is None or needed <= now:
        return None
    return f"the step needs {needed / 2**30:.1f} GiB as planned, and {now / 2**30:.1f} GiB are free at the moment"


def limited_by(device: jax.Device) -> str | None:
    """Who says how much `available_bytes` is."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return "as the device states it"
    whole = memory_limit.smallest()
    if whole is None:
        return None
    said = f"{memory_limit.SHARE:.0%} of {whole.bytes / 2**30:.1f} GiB ({whole.by})"
    among = {"jobs": memory_limit.jobs(), "processes": distributed.beside(), "devices": jax.local_device_count()}
    words = [f"{count} {what}" for what, count in among.items() if count > 1]
    return f"{said}, dealt to {' x '.join(words)}" if words else said


def short_of_memory(error: BaseException) -> bool:
    """Is it Python's word or XLA's that memory is short? tensorstore has the same one for disks."""
    from_xla = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return isinstance(error, MemoryError) or from_xla
