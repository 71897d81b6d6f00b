"""One run for another process or machine that shares the results folder; sent again when it was cut short."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lra_bench.config import Run
from lra_bench.errors import ConfigError, PlaceError, refusal
from lra_bench.launch.engine import Engine, Order, Stopped, Tell
from lra_bench.records import store
from lra_bench.records.schema import Result

PASSED_ON = ("LRA_", "JAX_", "XLA_")  # how variables begin that mean the same there as here
BEGUN = "fresh.txt"  # the task that forgot what was there before


def environ() -> dict[str, str]:
    """What the command's environment says of how runs run."""
    return {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}


@dataclass(frozen=True)
class RemoteTask:
    """A run and its order, as they travel."""

    run: Run
    order: Order
    environ: Mapping[str, str] = field(default_factory=environ)
    here: Path = field(default_factory=Path.cwd)
    name: str = field(default_factory=lambda: uuid.uuid4().hex)  # the same when it is sent again

    @property
    def folder(self) -> Path:
        """The run's."""
        return store.folder(self.order.results, self.run)

    def written(self) -> RemoteTask:
        """The task, once the run's folder holds what is asked: by that, whoever is sent knows that it is shared."""
        sent = replace(self, order=replace(self.order, results=self.order.results.resolve()))
        store.write_json(sent.folder / "run.json", self.run.model_dump())
        return sent

    def do(self, make_executor: Callable[[Order], Engine], tell: Tell) -> dict[str, Any]:
        """Have it done, where it arrived, by the engine that `make_executor` gives; the outcome, for `received`."""

        def heard(event: dict[str, Any]) -> None:
            if event["event"] == "start":
                (self.folder / BEGUN).write_text(self.name, encoding="utf-8")
            tell(event)

        try:
            return {"row": make_executor(self._arrived()).run(self.run, heard).as_dict()}
        except Stopped:
            return {"stopped": True}
        except (ConfigError, PlaceError) as error:
            return {"refused": str(error), "place": isinstance(error, PlaceError)}

    def _arrived(self) -> Order:
        """The order, in the place and with the environment of whoever sent it. What is begun is not begun again."""
        if not (self.folder / "run.json").exists():
            host = socket.gethostname()
            raise ConfigError(f"{host}: {self.folder}: not there; all machines must share the results folder")
        os.environ.update(self.environ)
        if self.here.is_dir():
            os.chdir(self.here)
        begun = self.folder / BEGUN
        again = self.order.fresh and not (begun.exists() and begun.read_text(encoding="utf-8") == self.name)
        return replace(self.order, fresh=again)


def received(outcome: Mapping[str, Any], parting: str) -> Result:
    """The result that a remote task came back with.

    Raises:
        Stopped: the run was stopped; says `parting`.
        ConfigError: the run refused what the user asked for.
        PlaceError: a disk is full, or a place cannot be used.
    """
    if "refused" in outcome:
        raise refusal({"message": outcome["refused"], "place": outcome["place"]})
    if "stopped" in outcome:
        raise Stopped(parting)
    return Result(**outcome["row"])
