"""A finished run, opened to predict and to look into."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from lra_bench import data
from lra_bench.cli.options import BATCH, RESULTS
from lra_bench.export import inputs
from lra_bench.export.of_run import predictor
from lra_bench.records import store
from lra_bench.records.schema import Result
from lra_bench.runs.loaded import Trained
from lra_bench.shapes import Split
from lra_bench.training.trainer import evaluate


class Loaded:
    """A trained model, with the parameters that validation chose."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._trained = Trained.open(folder, data.silent)

    @cached_property
    def result(self) -> Result:
        """The run's result."""
        (result,) = store.read_results(self.folder)
        return result

    @cached_property
    def model(self) -> Any:
        """The model, an `nnx.Module`: `model(tokens, mask, key=None)` -> logits [B, C].

        `tokens` is int32 [B, S, L], 0 where there is no token, S inputs an example; `mask` is bool of the same shape.
        """
        graph, params, rest = self._trained.learned
        return nnx.merge(graph, params, rest)

    def examples(self, split: str) -> Split:
        """The examples of `train`, `val` or `test`: `tokens` [N, S, L], `lengths` [N, S], `label` [N].

        Raises:
            KeyError: there is no such split.
        """
        return self._trained.splits[split]

    def scores(self, split: str) -> np.ndarray:
        """The task's metric for each example of a split, float32 [N]: 1 or 0 where it is accuracy."""
        trained = self._trained
        return evaluate(
            trained.program, trained.params, trained.rest, self.examples(split), lambda event, **facts: None, split
        )

    def predict(
        self, what: str | Sequence[str] | np.ndarray, *, top: int = 1, batch: int = BATCH, cut: bool = False
    ) -> list[dict[str, Any]]:
        """What the model predicts, one mapping an input: `answer`, its probability `p`, and `top` where asked for.

        Args:
            what: texts as `lra data show` writes the task's own (a tab between the two of a pair), or tokens,
                int32 [N, S, L].
            top: number of classes to name, the most likely first.
            batch: inputs at once.
            cut: truncate inputs that are longer than the model reads.

        Raises:
            DataError: an input has unknown symbols, is empty, or is too long; the message has its number.
        """
        task = self._trained.run.task
        lines = [what] if isinstance(what, str) else what
        tokens = lines if isinstance(lines, np.ndarray) else inputs.tokens(task, lines, "input", cut=cut)
        classes = data.about(task).classes
        return list(inputs.predictions(task, self._answer, tokens, batch, top, classes, data.silent))

    @cached_property
    def _answer(self) -> inputs.Answer:
        return predictor(self._trained)


def load(run: str | Path | Result, results: str | Path = RESULTS) -> Loaded:
    """Open a finished run: its folder, its id or its folder's name in `results`, or its result.

    Raises:
        ConfigError: there is no finished run, or its checkpoint is not here.
    """
    return Loaded(store.find(run.run if isinstance(run, Result) else str(run), Path(results)))
