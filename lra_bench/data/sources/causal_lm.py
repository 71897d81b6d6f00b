"""Causal language modeling of the bytes of a text: at each place, which byte follows?

The text is that of `masked_lm.py`. An example is a window of L bytes, and its label the L bytes that follow each of
them, so that windows are cut from L + 1 bytes: train's at places of their own, those of val and test end to end. Byte
0, which no text may hold, is never shown nor asked for. Token = byte + 1 (`text_bytes.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lra_bench.data import Progress, corpora
from lra_bench.data.corpora import Args, files
from lra_bench.data.formats import text_bytes
from lra_bench.data.formats.text_bytes import decode, encode
from lra_bench.data.generated import Dice
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

__all__ = [
    "CAUSAL", "HEADER", "PUBLISHED", "VERSION", "WINDOWS", "Args",
    "build", "check", "decode", "encode", "files", "row", "vocabulary",
]  # fmt: skip

VERSION = 1
HEADER = "Source\tNext"
PUBLISHED = True
WINDOWS = True  # of one text
CAUSAL = True  # the answer at a place stands at the next one


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding and 256 bytes."""
    return text_bytes.SYMBOLS


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> dict[str, Split]:
    """So many windows of each split; train's places are drawn from `seed`.

    Raises:
        TaskError: a text is too short for so many.
        DataError: the text cannot be had, or is none (`corpora.texts`).
    """
    texts = corpora.texts(args, folder, {split: n * length + 1 for split, n in splits.items() if split != "train"})
    built = {}
    for number, (split, n) in enumerate(splits.items()):
        text, dice = texts[split], Dice(seed, number)
        if len(text) < (length if split == "train" else n * length) + 1:
            raise TaskError(f"splits.{split}: asks for {n} windows of {length} bytes; its text has {len(text):,} bytes")
        starts = dice.throw(len(text) - length, (n,)) if split == "train" else np.arange(n) * length
        windows = text[starts[:, None] + np.arange(length + 1)]
        progress(f"cutting {split}", n, n)
        built[split] = Split(windows[:, None, :-1], np.full((n, 1), length, np.int32), windows[:, 1:])
    return built


def check(args: Args, tokens: np.ndarray, label: np.ndarray) -> None:
    """Hold a window, tokens [1, L], against the bytes that follow, `label` [L].

    Raises:
        DataError: they are not the window's own, one place later, or it is padded.
    """
    if (tokens[0] == 0).any() or label[-1] == 0:
        raise DataError("the window is not full")
    if (tokens[0, 1:] != label[:-1]).any():
        raise DataError("what is asked for is not what follows")


def row(tokens: np.ndarray, label: np.ndarray) -> str:
    """A window, tokens [1, L], and the byte that follows it, as a line."""
    return f"{text_bytes.escaped(decode(tokens[0]))}\t{text_bytes.escaped(decode(label[-1:]))}"
