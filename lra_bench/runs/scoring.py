"""How good a trained model is: the result's columns on its scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lra_bench import distributed, statistics
from lra_bench.config import Run
from lra_bench.data import texts
from lra_bench.metrics import Metric, of_corpus
from lra_bench.records import store
from lra_bench.records.schema import Status
from lra_bench.shapes import Split
from lra_bench.training.program import Program
from lra_bench.training.trainer import Progress


def scored(
    run: Run, val: Sequence[Split], test: Sequence[Split], scores: np.ndarray, progress: Progress
) -> dict[str, Any]:
    """The result's columns on how good; of several tasks, test's are over the examples of all."""
    metric = run.metric
    return {
        "val_score": progress.val_score,
        "test_score": float(scores.mean(dtype=np.float64)),
        "test_spread": None if metric.binary else float(scores.std(dtype=np.float64)),
        "val_n": sum(map(len, val)),
        "test_n": len(scores),
        "chance": _chance(run, test, [len(split) / len(scores) for split in test]),
        "val_chance": _chance(run, val, [1 / len(val)] * len(val)),
        "best_step": progress.best_step,
        "stopped_step": progress.step if progress.step < run.recipe.training.steps else None,
        "train_loss": progress.train_loss,
    }


def of_texts(program: Program, answers: Sequence[np.ndarray], test: Sequence[Split], folder: Path) -> dict[str, float]:
    """The result's columns on test's texts as a whole, where it has texts, which are kept in the folder."""
    texts = program.objective.texts
    if texts is None:
        return {}
    given, asked, written = map(texts.of, (test[0].tokens[:, 0], test[0].label, answers[0]))
    if distributed.is_first():
        store.save_texts(folder, given, asked, written)
    return of_corpus(written, asked)


def _chance(run: Run, splits: Sequence[Split], weights: Sequence[float]) -> float:
    """The mean over the tasks that the run is trained on."""
    each = zip(run.trains_on, splits, weights, strict=True)
    return sum(texts.chance(one.task, split.label) * weight for one, split, weight in each)


def status(result: dict[str, Any], metric: Metric) -> Status:
    """Of what was trained to the end: did it learn, as far as test's examples can tell?"""
    score = statistics.over_examples(metric, result["test_score"], result["test_n"], result["test_spread"])
    return "ok" if statistics.learned(metric, score, result["chance"]) else "at-chance"
