"""What is asked for and how an answer is scored: a task's metric decides the shape of its labels and of its numbers.

`N` examples, `C` classes, labels or numbers that the task states, `L` length. Losses are in `train/objective.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lra_bench.errors import ConfigError, nearest

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Metric:
    """A test score, the mean of one number an example."""

    name: str
    title: str  # what a table is headed with
    answer: str  # what a label is, in words
    share: bool  # an example's number is a share, 0 to 1, and the mean is shown in percent
    binary: bool  # an example's number is 0 or 1
    higher: bool  # the higher the better
    everywhere: bool  # an answer for each token, not for the whole text
    shape: Callable[[int, int], tuple[int, ...]]  # of an example's label, from C and L
    real: bool  # labels are numbers, float32, not kinds
    chance: Callable[[np.ndarray], float]  # the score of the best answer that does not look, from all labels [N, ...]
    # or, where they are written, from their texts [N]
    written: bool = False  # an answer is a text, which the model writes symbol after symbol, and is scored as a whole

    def better(self, one: float, other: float) -> bool:
        """Is the one score better than the other?"""
        return one > other if self.higher else one < other


def _majority(labels: np.ndarray) -> float:
    """The share of the most frequent label, or set of labels."""
    import numpy as np

    _, counts = np.unique(labels, axis=0, return_counts=True)
    return float(counts.max() / len(labels))


def _variance(labels: np.ndarray) -> float:
    """The squared error of always saying the mean."""
    return float(labels.astype(float).var(axis=0).mean())


def _commonest_symbol(labels: np.ndarray) -> float:
    """The token accuracy of naming one symbol at every place, the best one; from labels [N, L]."""
    import numpy as np

    asked = labels > 0
    shares = asked / np.maximum(asked.sum(-1, keepdims=True), 1)
    of_each = np.bincount(labels[asked], weights=shares[asked])
    return float(of_each.max(initial=0.0) / len(labels))


def _entropy(labels: np.ndarray) -> float:
    """The bits a symbol takes whose frequency alone is known, over those that are asked for."""
    import numpy as np

    counts = np.bincount(labels[labels > 0].ravel())
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def sentence_chrf(written: Sequence[str], asked: Sequence[str]) -> np.ndarray:
    """The chrF of each text that was written for one that was asked for, a share, float32 [N].

    Popovic 2015 (W15-3049): the F-score, recall weighing twice as much, of character n-grams up to six, by sacrebleu's
    defaults (Post 2018, arXiv 1804.08771).

    Raises:
        ImportError: sacrebleu is not installed.
    """
    import numpy as np
    from sacrebleu.metrics import chrf

    scorer = chrf.CHRF()
    each = [scorer.sentence_score(one, [other]).score / 100 for one, other in zip(written, asked, strict=True)]
    return np.array(each, np.float32)


def of_corpus(written: Sequence[str], asked: Sequence[str]) -> dict[str, float]:
    """Scores of all texts together, by the result's columns: a share of exact matches; BLEU (Papineni et al. 2002,
    P02-1040) and chrF, of n-grams counted over all texts and so no means over them, from 0 to 100 as sacrebleu has them
    by its defaults.

    Raises:
        ImportError: sacrebleu is not installed.
    """
    from sacrebleu.metrics import bleu, chrf

    return {
        "exact_match": sum(map(str.__eq__, written, asked)) / len(asked),
        "bleu": bleu.BLEU().corpus_score(written, [asked]).score,
        "chrf": chrf.CHRF().corpus_score(written, [asked]).score,
    }


COMMONEST = 4  # texts of which the best is chance level: to find the best of all takes a score of every two


def _one_text(texts: np.ndarray) -> float:
    """The mean chrF of writing one text for all [N], the best of the commonest ones."""
    commonest = [text for text, _ in Counter(texts.tolist()).most_common(COMMONEST)]
    return max(float(sentence_chrf([text] * len(texts), texts.tolist()).mean()) for text in commonest)


ACCURACY = Metric(
    name="accuracy",
    title="accuracy",
    answer="a class, int32 [N]",
    share=True,
    binary=True,
    higher=True,
    everywhere=False,
    shape=lambda classes, length: (),
    real=False,
    chance=_majority,
)
EXACT_MATCH = Metric(
    name="exact-match",
    title="exact match",
    answer="a bit a label, uint8 [N, C]",
    share=True,
    binary=True,
    higher=True,
    everywhere=False,
    shape=lambda classes, length: (classes,),
    real=False,
    chance=_majority,
)
SQUARED_ERROR = Metric(
    name="mean-squared-error",
    title="mean squared error",
    answer="numbers, float32 [N, C]",
    share=False,
    binary=False,
    higher=False,
    everywhere=False,
    shape=lambda classes, length: (classes,),
    real=True,
    chance=_variance,
)
BITS = Metric(
    name="bits",
    title="bits a symbol",
    answer="the symbol at each place that is asked for, else 0, [N, L]",
    share=False,
    binary=False,
    higher=False,
    everywhere=True,
    shape=lambda classes, length: (length,),
    real=False,
    chance=_entropy,
)

TOKEN_ACCURACY = replace(
    BITS, name="token-accuracy", title="token accuracy", share=True, higher=True, chance=_commonest_symbol
)

CHRF = replace(
    BITS,
    name="chrf",
    title="chrF",
    answer="a text: the symbol that follows at each of its places, and then its end, else 0, [N, L]",
    share=True,
    higher=True,
    written=True,
    chance=_one_text,
)

HITS = replace(ACCURACY, name="hits", title="hits over the examples of several tasks", answer="of several tasks")

METRICS = {metric.name: metric for metric in (ACCURACY, EXACT_MATCH, SQUARED_ERROR, BITS, TOKEN_ACCURACY, CHRF)}


def named(name: object) -> Metric:
    """The metric of that name; accuracy where there is none: results that are older than the column.

    Raises:
        ConfigError: there is no such metric.
    """
    if str(name) in ("None", "nan", "<NA>"):  # missing in a table
        return ACCURACY
    every = {**METRICS, HITS.name: HITS}
    if str(name) not in every:
        raise ConfigError(f"metric '{name}'; {nearest(str(name), every)}")
    return every[str(name)]
