"""Start runs as tasks of Ray, on a cluster whose nodes share the results folder, or on one started on this machine.

A task runs `python -m lra_bench.runs.execute` on its node as the other launchers do, so that claims, checkpoints and
results are the same.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stdout
from typing import Any

from lra_bench.config import Ray, Run
from lra_bench.errors import ConfigError
from lra_bench.launch.channel import LOOK, Channel, room, there
from lra_bench.launch.engine import Engine, Order, Stopped, Tell, extra
from lra_bench.launch.remote_task import RemoteTask, environ, received
from lra_bench.launch.watch import every
from lra_bench.records import store
from lra_bench.records.schema import Result, Status

GIB = 2**30
STORE = 100 * 2**20  # bytes of the object store of a cluster started here: nothing large goes through it
PORT = re.compile(r":\d+$")
ANSWER = 10  # seconds in which a cluster is to answer


class Cluster(Engine):
    """The runs' tasks on a cluster that we are connected to."""

    def __init__(self, ray: Any, settings: Ray, order: Order, at_once: int) -> None:
        super().__init__(at_once)
        self._ray, self._settings, self._order = ray, settings, order
        self._share = share(settings)
        beside_us = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._channel = ray.remote(Channel).options(num_cpus=0, scheduling_strategy=beside_us).remote()
        names = {"CPU": "num_cpus", "GPU": "num_gpus"}
        asked = {names.get(name, name): part for name, part in self._share.items()}
        self._task = ray.remote(there).options(**asked, max_retries=0, scheduling_strategy="SPREAD")
        self._tells: dict[str, Tell] = {}  # of the runs that have a task
        self._heard_of: set[str] = set()  # the runs that have begun
        self._tasks: dict[str, Any] = {}
        self._lock = threading.RLock()

    def run(self, run: Run, tell: Tell) -> Result:
        """Have a task run the run, and another if its node dies; its result."""
        with self._lock:
            self._tells[run.id] = tell
        wanting = room_for(self._ray, self._share)
        if wanting:
            tell({"event": "note", "said": f"{wanting}; waiting for one"})
        try:
            return self._attempted(run, tell, self._settings.retries)
        finally:
            self.hear()
            with self._lock:
                self._tells.pop(run.id)

    def _attempted(self, run: Run, tell: Tell, retries: int) -> Result:
        errors = self._ray.exceptions
        remote = RemoteTask(run, self._order, memory_share(self._settings) | environ()).written()
        while True:
            try:
                return received(self._outcome(remote), self.parting())
            except errors.OutOfMemoryError as error:
                return self._failed(run, "oom", error)
            except (errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError) as error:
                if self.ended:
                    raise Stopped(self.parting()) from None
                if not retries:
                    return self._failed(run, "error", error)
            except errors.RayError as error:
                return self._failed(run, "error", error)
            tell({"event": "note", "said": f"its node was lost; started again, at most {retries} times"})
            retries -= 1

    def _outcome(self, remote: RemoteTask) -> dict[str, Any]:
        """Wait for a task; one that has not begun when all are to end is taken back."""
        ray, run = self._ray, remote.run.id
        task = self._tasks[run] = self._task.remote(remote, self._channel, self._share)
        while not ray.wait([task], timeout=LOOK)[0]:
            if self.ended and run not in self._heard_of:
                ray.cancel(task)
        try:
            outcome: dict[str, Any] = ray.get(task)
        except ray.exceptions.TaskCancelledError:
            raise Stopped(self.parting()) from None
        return outcome

    def hear(self) -> None:
        """Pass on what runs have said since."""
        with self._lock:
            for run, event in self._ray.get(self._channel.heard.remote()):
                self._heard_of.add(run)
                if run in self._tells:
                    self._tells[run](event)

    def _failed(self, run: Run, status: Status, error: Exception) -> Result:
        result = store.blank(run, status, f"ray: {type(error).__name__}: {' '.join(str(error).split())}"[:300])
        store.save(self._order.results, run, result)
        return result

    def end(self) -> None:
        """Ask all to save and stop."""
        self.ended = True
        self._ray.get(self._channel.end.remote())

    def kill(self) -> None:
        """End all tasks at once; their runs notice it, and save."""
        for task in self._tasks.values():
            self._ray.cancel(task, force=True)


def share(settings: Ray) -> dict[str, float]:
    """What a run takes of its node, in Ray's words."""
    return {"CPU": float(settings.cpus), "GPU": float(settings.gpus), "memory": (settings.memory or 0) * GIB}


def memory_share(settings: Ray) -> dict[str, str]:
    """How much of its GPUs' memory a run may take: the user's own word comes after ours."""
    return {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 * min(settings.gpus, 1):.2f}"} if settings.gpus else {}


def room_for(ray: Any, share: dict[str, float]) -> str | None:
    """What is wanting, if no node of the cluster could hold a run."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(room(node, share) for node in nodes):
        return None
    said = ", ".join(f"{part / GIB if name == 'memory' else part:g} {name}" for name, part in share.items() if part)
    return f"no node of the cluster has {said} for a run"


@contextmanager
def opened(settings: Ray, runs: Sequence[Run], order: Order) -> Iterator[Cluster]:
    """A cluster by its address, or one of our own on this machine for as long as it is needed.

    Raises:
        ConfigError: Ray is not installed, nothing answers at the address, or this machine has no room for a run.
    """
    ray = extra(settings.engine, settings.engine)
    address = settings.address or os.environ.get("RAY_ADDRESS")
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        redirect_stdout(sys.stderr),  # a node's death is said by Ray on stdout, where the results are to stand alone
    ):
        _join(ray, address, folder)
        try:
            wanting = None if address else room_for(ray, share(settings))
            if wanting:
                raise ConfigError(f"--launcher {settings.engine}: {wanting}")
            cluster = Cluster(ray, settings, order, order.jobs or settings.jobs or len(runs))
            with every(LOOK, cluster.hear):
                yield cluster
        finally:
            ray.shutdown()


def _join(ray: Any, address: str | None, folder: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    how: dict[str, Any] = {"address": address}
    if not address:  # in a folder of its own, where no other cluster of this machine is found
        how = {"_temp_dir": folder, "include_dashboard": False, "object_store_memory": STORE}
    try:
        if address and PORT.search(address):  # what does not answer, Ray calls for minutes, and aborts
            host, _, port = address.rpartition("/")[2].rpartition(":")
            socket.create_connection((host, int(port)), ANSWER).close()
        with chdir(folder):  # Ray puts the driver's before all else in its workers' path of modules
            ray.init(**how, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray has no class for a node that does not come up
        said = " ".join(str(error).split())[:300]
        raise ConfigError(f"--launcher: ray: {address or 'a cluster here'} cannot be reached: {said}") from None
