"""Symbols that a model writes, or that are asked for, as texts, where a task's metric compares those."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lra_bench import data
from lra_bench.config import TaskSpec
from lra_bench.errors import TaskError
from lra_bench.metrics import METRICS, sentence_chrf


class Texts(NamedTuple):
    """How symbols of a task are read as texts."""

    end: int  # the id that ends a text
    decode: Callable[[np.ndarray], str]

    def of(self, ids: np.ndarray) -> list[str]:
        """Each text of ids [N, L], up to its end; bytes that make no character are U+FFFD."""
        return [self._of_one(each) for each in ids]

    def _of_one(self, ids: np.ndarray) -> str:
        ends = np.flatnonzero((ids == self.end) | (ids == 0))
        text = self.decode(ids[: ends[0]] if len(ends) else ids)
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def of(task: TaskSpec) -> Texts | None:
    """How they are read, where the task's metric compares texts.

    Raises:
        TaskError: its source has no symbol that ends one, or the metric's library is not installed.
    """
    if not METRICS[task.metric].written:
        return None
    source = data.of(task)
    end = getattr(source, "END", None)
    if end is None:
        raise TaskError(f"task '{task.name}': metric: {task.metric}: its source has no END, the id that ends a text")
    try:
        sentence_chrf([], [])
    except ImportError as error:
        raise TaskError(
            f"task '{task.name}': metric: {task.metric}: {error}; pip install 'lra-bench[translate]' brings it"
        ) from None
    return Texts(end, source.decode)


def chance(task: TaskSpec, label: np.ndarray) -> float:
    """Chance level, from all labels of a split.

    Raises:
        TaskError: as `of`.
    """
    texts, metric = of(task), METRICS[task.metric]
    return metric.chance(label if texts is None else np.array(texts.of(label), object))
