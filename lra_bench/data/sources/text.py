"""Text: is a film review for or against the film? IMDb (Maas et al., ACL 2011) as bytes, as in Long Range Arena (arXiv
2011.04006, section 2.2.2).

Read from `aclImdb_v1.tar.gz` itself, in the user's folder or fetched. What differs from LRA (google-research/
long-range-arena, lra_benchmarks/text_classification/input_pipeline.py):

- val is cut from train, by the task's seed; there val is test, which `args.val_from: test` gives;
- no review in val stands in train too: those that are there twice, as cut to `length`, stay in train.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lra_bench.data import Progress, published
from lra_bench.data.download import Remote, fetched
from lra_bench.data.formats import archives, text_bytes
from lra_bench.data.formats.text_bytes import decode, encode
from lra_bench.data.published import Args
from lra_bench.data.splits import stacked
from lra_bench.errors import DataError
from lra_bench.shapes import Split

__all__ = ["HEADER", "PUBLISHED", "VERSION", "Args", "build", "check", "decode", "encode", "files", "row", "vocabulary"]

VERSION = 1
HEADER = "Source\tTarget"
PUBLISHED = True

REMOTE = Remote(
    url="http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    name="aclImdb_v1.tar.gz",
    bytes=84_125_825,
    sha256="c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
)
LABELS = {"neg": 0, "pos": 1}
REVIEW = re.compile(r"aclImdb/(?P<part>train|test)/(?P<label>neg|pos)/\d+_\d+\.txt")
REVIEWS = 50_000  # with a label


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding and 256 bytes."""
    return text_bytes.SYMBOLS


def files(folder: Path) -> dict[str, Path]:
    """The archive in `folder`, which holds all splits.

    Raises:
        DataError: there is none, or there are several.
    """
    return {"archive": archives.one(folder, "aclImdb*.tar.gz", REMOTE.url)}


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> dict[str, Split]:
    """So many reviews of each split, drawn in an order that `seed` gives.

    Raises:
        TaskError: there are not so many.
        DataError: the archive is missing or damaged, or a review in it is empty or no UTF-8.
    """
    path = fetched(REMOTE) if folder is None else files(folder)["archive"]
    train, test = _parts(path, length, progress)
    return published.splits(train, test, splits, seed, args.val_from, path)


def _parts(path: Path, length: int, progress: Progress) -> tuple[Split, Split]:
    """The labeled reviews of train and of test, in the order of their names."""
    found: dict[str, dict[str, tuple[list[np.ndarray], int]]] = {"train": {}, "test": {}}
    for done, (place, content) in enumerate(archives.members(path, REVIEW), 1):
        try:
            review = [text_bytes.tokens_of(content, length)], LABELS[place["label"]]
        except DataError as error:
            raise DataError(f"{path}: {place[0]}: {error}") from None
        found[place["part"]][place[0]] = review
        if done % 1000 == 0:
            progress(f"reading {path.name}", done, REVIEWS)
    for part, reviews in found.items():
        if not reviews:
            raise DataError(f"{path}: holds no labeled review of {part}")
    train, test = (stacked([reviews[name] for name in sorted(reviews)], length) for reviews in found.values())
    return train, test


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold a review, tokens [1, L], and its label against what there can be. Its label cannot be derived.

    Raises:
        DataError: it is empty, no UTF-8, or of another label than 0 and 1.
    """
    text_bytes.check(tokens[0])
    if label not in LABELS.values():
        raise DataError(f"its label is {label}, neither 0 nor 1")


def row(tokens: np.ndarray, label: int) -> str:
    """A review, tokens [1, L], and its label as a line; tabs and ends of lines are written with a backslash."""
    return f"{text_bytes.escaped(decode(tokens[0]))}\t{label}"
