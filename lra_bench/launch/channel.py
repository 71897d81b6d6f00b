"""What goes to and fro between a command and the runs that it runs on Ray: what they say, and the word to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lra_bench.launch.cores import held
from lra_bench.launch.engine import Order
from lra_bench.launch.local import ProcessPool
from lra_bench.launch.place import Place
from lra_bench.launch.remote_task import RemoteTask
from lra_bench.launch.watch import every

LOOK = 0.5  # seconds between two looks at what was said


class Channel:
    """An actor beside the command, so that it lives as long as the command does."""

    def __init__(self) -> None:
        self._said: list[tuple[str, dict[str, Any]]] = []
        self._ended = False

    def say(self, run: str, event: dict[str, Any]) -> None:
        """Keep an event of the run with that id until the command looks."""
        self._said.append((run, event))

    def heard(self) -> list[tuple[str, dict[str, Any]]]:
        """What was said since the last look."""
        said, self._said = self._said, []
        return said

    def end(self) -> None:
        """All runs are to save and stop."""
        self._ended = True

    def ended(self) -> bool:
        """Are they?"""
        return self._ended


def there(remote: RemoteTask, channel: Any, share: Mapping[str, float]) -> dict[str, Any]:
    """A Ray task's body, on its node, of which a run has a `share`: run it on cores of its own; the outcome."""
    import ray

    cores = share["CPU"]
    with held(int(cores) if cores.is_integer() else 0) as ours:
        pools: list[ProcessPool] = []

        def make_executor(order: Order) -> ProcessPool:
            runs = room(_node(ray), share)
            pools.append(ProcessPool(order, [Place(tuple(ours), jobs=runs)] * runs))
            return pools[0]

        def look() -> None:
            if pools and ray.get(channel.ended.remote()):
                pools[0].end()

        with every(LOOK, look):
            return remote.do(make_executor, lambda event: channel.say.remote(remote.run.id, event))


def room(node: Mapping[str, float], share: Mapping[str, float]) -> int:
    """How many runs with such a share of its resources a node has room for."""
    return int(min(node.get(name, 0) // part for name, part in share.items() if part))


def _node(ray: Any) -> dict[str, float]:
    here = ray.get_runtime_context().get_node_id()
    return next(node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
