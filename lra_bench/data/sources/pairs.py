"""Retrieval: does one paper cite the other? Pairs of texts as bytes, a stream each, as in Long Range Arena (arXiv
2011.04006, section 2.2.3), whose pairs are of the ACL Anthology Network (Radev et al. 2013).

Read from three tab-separated files, of train, of val (or `eval`, or `dev`) and of test: a label of 0 or 1, two ids if
there are five columns, and two texts; no header, no quotes, as in LRA's `new_aan_pairs.*.tsv`. What differs from LRA
(google-research/long-range-arena, lra_benchmarks/matching/input_pipeline.py): every pair is counted; there the last,
short batch of val and test is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from lra_bench.config import Strict
from lra_bench.data import Progress
from lra_bench.data.formats import lines, text_bytes
from lra_bench.data.formats.text_bytes import decode, encode
from lra_bench.data.splits import cut
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

__all__ = ["HEADER", "PUBLISHED", "VERSION", "Args", "build", "check", "decode", "encode", "files", "row", "vocabulary"]

VERSION = 1
HEADER = ""
PUBLISHED = True

NAMES = {"train": ("train",), "val": ("val", "dev"), "test": ("test",)}  # before .tsv, by split; "eval" ends in "val"
LABELS = {b"0": 0, b"0.0": 0, b"1": 1, b"1.0": 1}
RELEASE = "https://storage.googleapis.com/long-range-arena/lra_release.gz"
ORIGIN = f"lra_release/tsv_data/new_aan_pairs.{{train,eval,test}}.tsv of {RELEASE}"


class Args(Strict):
    """There is nothing to choose."""


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding and 256 bytes. It is the same for all `args`."""
    return text_bytes.SYMBOLS


def files(folder: Path) -> dict[str, Path]:
    """The file of each split in `folder`.

    Raises:
        DataError: a split has none, or several.
    """
    found = {}
    for split, names in NAMES.items():
        paths = sorted(path for name in names for path in folder.glob(f"*{name}.tsv"))
        if len(paths) != 1:
            looked_for = " or ".join(f"*{name}.tsv" for name in names)
            there = ", ".join(path.name for path in paths) or "nothing of that name"
            raise DataError(f"{folder}: looked for one {looked_for}; there is {there}")
        found[split] = paths[0]
    return found


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> dict[str, Split]:
    """The first so many pairs of each file.

    Raises:
        TaskError: there are not so many.
        DataError: no folder is named, a file is missing, or a line is no pair.
    """
    if folder is None:
        raise DataError(
            f"needs files that you download: put {ORIGIN} into a folder, and name it: --set task.folder=FOLDER"
        )
    paths, built = files(folder), {}
    for split, n in splits.items():
        pairs = lines.read(paths[split], 1, length, partial(_parsed, length), progress)
        if len(pairs) < n:
            raise TaskError(f"splits.{split}: asks for {n} pairs; {paths[split]} holds {len(pairs)}")
        built[split] = cut(pairs, 0, n)
    return built


def _parsed(length: int, line: bytes) -> tuple[list[np.ndarray], int]:
    """The two streams of tokens and the label of a line."""
    columns = line.split(b"\t")
    if len(columns) not in (3, 5):
        raise DataError(f"has {len(columns)} columns, not a label, two ids if any, and two texts")
    if columns[0].strip() not in LABELS:
        raise DataError(f"its label '{columns[0].decode('utf-8', 'replace')[:20]}' is neither 0 nor 1")
    return [text_bytes.tokens_of(text, length) for text in columns[-2:]], LABELS[columns[0].strip()]


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold a pair, tokens [2, L], and its label against what there can be. Its label cannot be derived.

    Raises:
        DataError: a text is empty or no UTF-8, or the label is neither 0 nor 1.
    """
    for stream in tokens:
        text_bytes.check(stream)
    if label not in LABELS.values():
        raise DataError(f"its label is {label}, neither 0 nor 1")


def row(tokens: np.ndarray, label: int) -> str:
    """A pair, tokens [2, L], as a line of the release, its ids left out: label, text, text."""
    return "\t".join([str(label), *(text_bytes.escaped(decode(stream)) for stream in tokens)])
