"""TensorBoard: event files in RESULTS/tensorboard/<run>. `tensorboard --logdir RESULTS/tensorboard` shows them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from lra_bench import config
from lra_bench.config import Run
from lra_bench.records import store
from lra_bench.records.schema import Result


class TrackedRun:
    """A folder of event files. A resumed run writes one more, and TensorBoard reads them as one."""

    def __init__(self, results: Path, run: Run) -> None:
        self._writer = EventFileWriter(str(results / "tensorboard" / run.folder))
        settings = config.flat(run.model_dump())
        known = {key: value if isinstance(value, bool | int | float | str) else str(value) for key, value in settings}
        self._add(0, hparams_pb(known, trial_id=run.id))
        self._add(0, text_pb("run", _code(run.model_dump())))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """A scalar each."""
        self._add(step, Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()]))
        self._writer.flush()

    def end(self, result: Result | None) -> None:
        """The result's numbers as scalars at its last step, and the result as a text."""
        if result is not None:
            self.log(result.steps, {f"row/{name}": value for name, value in result.numbers().items()})
            self._add(result.steps, text_pb("row", _code(result.as_dict())))
        self._writer.close()

    def _add(self, step: int, summary: Summary) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def _code(values: Mapping[str, object]) -> str:
    """As JSON in a Markdown block."""
    return f"```\n{store.as_json(values)}\n```"
