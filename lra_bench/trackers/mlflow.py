"""MLflow: runs of the experiment `lra` in RESULTS/mlflow.db, or where MLFLOW_TRACKING_URI says.

`mlflow server --backend-store-uri sqlite:///RESULTS/mlflow.db`, of the whole of MLflow, shows them.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from lra_bench import config
from lra_bench.config import Run
from lra_bench.errors import PlaceError
from lra_bench.records.schema import SCORED, Result

ADDRESS = re.compile(r"[?#%{}]")  # what is more than a name in an address of SQLAlchemy's
AT_ONCE = 100  # parameters that MLflow takes in a call

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


def _kept_in(results: Path) -> str:
    """The address of the file of SQLite in a results folder.

    Raises:
        PlaceError: it cannot be one of MLflow's.
    """
    if found := ADDRESS.search(str(results)):
        raise PlaceError(f"{results}: MLflow takes no '{found[0]}' in the name of a folder; set MLFLOW_TRACKING_URI")
    return f"sqlite:///{results / 'mlflow.db'}"


class TrackedRun:
    """A run with the tag `run`; one that has not finished is resumed."""

    def __init__(self, results: Path, run: Run) -> None:
        results.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or _kept_in(results.resolve()))
        self._id = self._begun(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "lra", run)
        params = [Param(key, str(value)) for key, value in config.flat(run.model_dump())]
        for first in range(0, len(params), AT_ONCE):
            self._client.log_batch(self._id, params=params[first : first + AT_ONCE])

    def _begun(self, experiment: str, run: Run) -> str:
        there = self._client.get_experiment_by_name(experiment)
        place = there.experiment_id if there else self._client.create_experiment(experiment)
        same = f"tags.run = '{run.id}' and attributes.status != 'FINISHED'"
        for begun in self._client.search_runs([place], same, max_results=1):
            self._client.update_run(begun.info.run_id, status="RUNNING")
            return str(begun.info.run_id)
        return str(self._client.create_run(place, run_name=run.folder, tags={"run": run.id}).info.run_id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """A metric each."""
        now = int(time.time() * 1000)
        self._client.log_batch(self._id, [Metric(name, value, now, step) for name, value in values.items()])

    def end(self, result: Result | None) -> None:
        """The result's numbers as metrics at its last step, what else it says as tags."""
        if result is not None:
            numbers = result.numbers()
            self.log(result.steps, {f"row.{name}": value for name, value in numbers.items()})
            said = {
                name: value for name, value in result.as_dict().items() if name not in numbers and value is not None
            }
            self._client.log_batch(self._id, tags=[RunTag(f"row.{name}", str(value)) for name, value in said.items()])
        done = "KILLED" if result is None else "FINISHED" if result.status in SCORED else "FAILED"
        self._client.set_terminated(self._id, done)
