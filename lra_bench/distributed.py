"""One run on several processes, of one machine or many: how they join, and where they must agree.

They meet at JAX's coordinator, which the first of them runs. A process that is alone waits nowhere.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import zlib
from collections.abc import Sequence
from itertools import count
from typing import Any

import jax
import numpy as np

from lra_bench.errors import ConfigError

AUTO = "auto"  # how many, who we are and where the first is, as Slurm, MPI or a TPU's environment has it
HEARTBEAT = 30  # seconds after which a silent process is taken for dead
PATIENCE = 120  # seconds in which all must have come
WEEK = 7 * 24 * 3600 * 1000  # milliseconds

_meetings = count()


def join(processes: str, process: int | None, coordinator: str | None, devices: Sequence[int] | None = None) -> None:
    """Become one of so many processes, a number or `auto`; before anything opens a device.

    `process` counts from 0, which is the first; `coordinator` is the HOST:PORT where that one listens; `devices` are
    the GPUs of this machine that are ours alone, all if None.

    Raises:
        ConfigError: what is said makes no place, or nobody is there.
    """
    if processes == "1":
        return
    place: dict[str, Any] = {}
    if processes != AUTO:
        place = _place(processes, process, coordinator) | {"cluster_detection_method": "deactivate"}
    elif process is not None or coordinator is not None:
        raise ConfigError("--processes auto: --process and --coordinator come from the environment; leave them out")
    try:
        jax.distributed.initialize(
            **place, local_device_ids=devices, initialization_timeout=PATIENCE, heartbeat_timeout_seconds=HEARTBEAT
        )
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        why = "no Slurm, MPI or TPU is in the environment" if processes == AUTO else " ".join(str(error).split())[:200]
        raise ConfigError(f"--processes {processes}: {why}") from None


def _place(processes: str, process: int | None, coordinator: str | None) -> dict[str, Any]:
    if not processes.isdecimal() or int(processes) < 1:
        raise ConfigError(f"--processes {processes}: must be an integer from 1 up, or {AUTO}")
    number, (host, _, port) = int(processes), (coordinator or "").rpartition(":")
    if process is None or not 0 <= process < number:
        said = "" if process is None else f" {process}"
        raise ConfigError(f"--process{said}: which of the {number} this is, from 0 to {number - 1}")
    if not host or not port.isdecimal():
        raise ConfigError(f"--coordinator {coordinator or ''}: must be HOST:PORT, where process 0 listens")
    if process:
        _find(host, int(port))
    here = {"coordinator_bind_address": coordinator} if host in ("localhost", "127.0.0.1") else {}  # not to the world
    return {"coordinator_address": coordinator, "num_processes": number, "process_id": process, **here}


def _find(host: str, port: int) -> None:
    """Wait until somebody listens there: JAX, if nobody does, takes the process down."""
    for _ in range(PATIENCE):
        try:
            socket.create_connection((host, port), timeout=1).close()
            return
        except socket.gaierror as error:
            raise ConfigError(f"--coordinator {host}:{port}: no such host: {error.strerror}") from None
        except OSError:
            time.sleep(1)
    raise ConfigError(f"--coordinator {host}:{port}: nobody listens there; is process 0 started?")


def several() -> bool:
    """Are there others?"""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Are we the one that writes and speaks for all?"""
    return not several() or jax.process_index() == 0


def barrier() -> None:
    """Wait, however long it takes, until all have come this far: a collective waits half a minute at most on CPU."""
    if several():
        from orbax.checkpoint import multihost

        multihost.get_barrier_sync_fn()(key=f"lra-{next(_meetings)}", timeout_ms=WEEK)


def numbers(ours: float) -> np.ndarray:
    """A number of every process, in their order: float64 [P]."""
    if not several():
        return np.array([ours], np.float64)
    from jax.experimental import multihost_utils

    barrier()
    as_bytes = np.frombuffer(np.float64(ours).tobytes(), np.uint8)  # a device would round it to float32
    return np.asarray(multihost_utils.process_allgather(as_bytes)).view(np.float64)[:, 0]


def beside() -> int:
    """The processes of the run that are on this machine, us among them."""
    if not several():
        return 1
    host = zlib.crc32(socket.gethostname().encode())
    return int((numbers(host) == host).sum())


def all_agree(asked: bool, step: int) -> bool:
    """Is it time to stop, as some process was asked to? At the same step in all, if each calls this once a step.

    JAX listens for SIGTERM in each process from when it joins, and has all agree on a step that none has passed.
    """
    if not several():
        return asked
    from jax.experimental import multihost_utils

    if asked:
        signal.raise_signal(signal.SIGTERM)
    return bool(multihost_utils.reached_preemption_sync_point(step))


def abort(code: int) -> int:
    """End here and now if there are others, who may be in no state to part in good order; alone, `code`."""
    if several():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
