"""The letters, and the two shapes of data.

`B` batch, `S` streams (2 for document pairs), `L` length, `D` width, `H` heads, `K` width of a head,
`C` classes, `N` examples of a split. Used in names, comments and docstrings alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

TRAIN, TEST = "train", "test"
SPLITS = (TRAIN, "val", TEST)
LAST_SEED = 2**32 - 1  # the largest that JAX's generator takes whole: of a larger one it drops the upper half


@dataclass(frozen=True)
class Split:
    """The examples of one split, padded on the right with 0, which is never a real symbol."""

    tokens: np.ndarray  # unsigned integers   [N, S, L]
    lengths: np.ndarray  # int32: real tokens  [N, S]
    label: np.ndarray  # int32 [N], or as the task's metric says

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Batch:
    """What one step consumes. `weight` is 0 for the filler that completes a short last batch, else 1."""

    tokens: np.ndarray  # int32    [B, S, L]
    mask: np.ndarray  # bool     [B, S, L]   True where there is a real token
    label: np.ndarray  # int32    [B], or int32 or float32 as the task's metric says
    weight: np.ndarray  # float32  [B]
