"""Bytes: what the compiler planned, what was measured, what is there. Never mixed."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable
from typing import Any

import jax


def planned_bytes(compiled: Any) -> int:
    """What a compiled function needs a device at once: arguments + temporaries + outputs - those that share memory.

    XLA's own `peak_memory_in_bytes` is not used: on CPU it leaves the temporaries out.
    """
    plan = compiled.memory_analysis()
    parts = plan.argument_size_in_bytes + plan.temp_size_in_bytes + plan.output_size_in_bytes
    return int(parts - plan.alias_size_in_bytes)


def stored_bytes(arrays: Iterable[jax.Array]) -> int:
    """What the arrays take to keep: two numbers of 4 bits a byte; of an array with many zeros, those that are none, and
    a bit for each place that says whether there is one."""
    return sum(min(packed_bytes(a, a.size), packed_bytes(a, int((a != 0).sum())) - (-a.size // 8)) for a in arrays)


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
    """What a program may ask for: the device's limit where it states one, else the machine's free memory."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    try:
        with open("/proc/meminfo") as lines:  # noqa: PTH123
            found = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(found.split()[1]) * 1024
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
