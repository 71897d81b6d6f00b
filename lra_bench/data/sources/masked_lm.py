"""Masked language modeling of the bytes of a text (BERT, arXiv 1810.04805, section 3.1): which bytes stood there?

The text is a corpus of `corpora.py`, or the user's: its folder holds `train.txt`, and `val.txt` and `test.txt` likewise
(`split_files.py` has the names); what it lacks is cut from the end of train, and no window of train reaches into it. An
example of train is a window at a place of its own; those of val and test lie end to end. In each, `rate` of the places
are asked for: of those, eight in ten show byte 0, which no text may hold, one a random byte, one the byte itself. Token
= byte + 1 (`text_bytes.py`), as in the other tasks over bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from lra_bench.data import Progress, corpora
from lra_bench.data.corpora import files
from lra_bench.data.formats import text_bytes
from lra_bench.data.formats.text_bytes import decode, encode
from lra_bench.data.generated import Dice
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

__all__ = [
    "HEADER", "PUBLISHED", "VERSION", "WINDOWS", "Args",
    "build", "check", "decode", "encode", "files", "row", "vocabulary",
]  # fmt: skip

VERSION = 1
HEADER = "Source\tTarget"
PUBLISHED = True
WINDOWS = True  # of one text

MASK = corpora.BYTE_0
OTHERS = 254  # bytes that a text may hold: no byte of UTF-8 is 255
AT_ONCE = 1024  # examples


class Args(corpora.Args):
    """Which text, and how much is asked for."""

    rate: Annotated[float, Field(gt=0, lt=1)]  # share of the places


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding and 256 bytes, the first of which is the mask."""
    return text_bytes.SYMBOLS


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> dict[str, Split]:
    """So many windows of each split, their places and masks drawn from `seed`.

    Raises:
        TaskError: a text is too short for so many.
        DataError: the text cannot be had, or is none (`corpora.texts`).
    """
    texts = corpora.texts(args, folder, {split: n * length for split, n in splits.items() if split != "train"})
    built = {}
    for number, (split, n) in enumerate(splits.items()):
        text, dice = texts[split], Dice(seed, number)
        if len(text) < (length if split == "train" else n * length):
            raise TaskError(f"splits.{split}: asks for {n} windows of {length} bytes; its text has {len(text):,} bytes")
        starts = dice.throw(len(text) - length + 1, (n,)) if split == "train" else np.arange(n) * length
        parts = []
        for done in range(0, n, AT_ONCE):
            parts.append(_masked(text[starts[done : done + AT_ONCE, None] + np.arange(length)], args.rate, dice))
            progress(f"masking {split}", min(done + AT_ONCE, n), n)
        tokens, label = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        built[split] = Split(tokens[:, None], np.full((n, 1), length, np.int32), label)
    return built


def _masked(tokens: np.ndarray, rate: float, dice: Dice) -> tuple[np.ndarray, np.ndarray]:
    """Windows of tokens [n, L] with masks, and as labels: those that are asked for, else 0."""
    asked = dice.order(tokens.shape) < places(rate, tokens.shape[1])
    fate, random = dice.throw(10, tokens.shape), MASK + 1 + dice.throw(OTHERS, tokens.shape)
    shown = np.where(fate == 0, random, np.where(fate == 1, tokens, MASK))
    return np.where(asked, shown, tokens).astype(np.uint8), np.where(asked, tokens, 0).astype(np.uint8)


def places(rate: float, length: int) -> int:
    """How many places of a window are asked for."""
    return max(1, round(rate * length))


def check(args: Args, tokens: np.ndarray, label: np.ndarray) -> None:
    """Hold a window, tokens [1, L], and what is asked for, `label` [L], against `args`.

    Raises:
        DataError: as many places are not asked for, a mask stands where nothing is, or it is padded.
    """
    asked, wanted = int((label > 0).sum()), places(args.rate, len(label))
    if asked != wanted:
        raise DataError(f"{asked} places are asked for, not {wanted}")
    if (tokens[0] == 0).any() or (tokens[0][label == 0] == MASK).any():
        raise DataError("a mask stands where nothing is asked for, or the window is not full")


def row(tokens: np.ndarray, label: np.ndarray) -> str:
    """A window, tokens [1, L], and the bytes that are asked for, as a line."""
    return f"{text_bytes.escaped(decode(tokens[0]))}\t{text_bytes.escaped(decode(label[label > 0]))}"
