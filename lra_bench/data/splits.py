"""Splits made of examples, joined and cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lra_bench.shapes import Split


def stacked(examples: Sequence[tuple[Sequence[np.ndarray], Any]], length: int) -> Split:
    """A split of examples: the streams [S][n] of each, padded to `length`, and its label."""
    streams = len(examples[0][0])
    tokens = np.zeros((len(examples), streams, length), examples[0][0][0].dtype)
    lengths = np.zeros((len(examples), streams), np.int32)
    for i, (example, _) in enumerate(examples):
        for s, stream in enumerate(example):
            tokens[i, s, : len(stream)] = stream
            lengths[i, s] = len(stream)
    return Split(tokens, lengths, _labels([label for _, label in examples]))


def _labels(each: Sequence[Any]) -> np.ndarray:
    """[N] of integers, int32; [N, C] of arrays, as they are."""
    return np.array(each, np.int32) if np.ndim(each[0]) == 0 else np.stack(each)


def joined(parts: Sequence[Split]) -> Split:
    """One split of the examples of all, in order."""
    return Split(
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.label for part in parts]),
    )


def cut(split: Split, start: int, stop: int) -> Split:
    """The examples from `start` up to, not including, `stop`; nothing is copied."""
    return Split(split.tokens[start:stop], split.lengths[start:stop], split.label[start:stop])


def taken(split: Split, index: np.ndarray) -> Split:
    """The examples at `index`, in its order."""
    return Split(split.tokens[index], split.lengths[index], split.label[index])
