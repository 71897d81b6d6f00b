"""Text: is a film review for or against the film? IMDb (Maas et al., ACL 2011) as bytes, as in Long Range Arena (arXiv
2011.04006, section 2.2.2).

Read from `aclImdb_v1.tar.gz` itself, in the user's folder or fetched. What differs from LRA (google-research/
long-range-arena, lra_benchmarks/text_classification/input_pipeline.py):

- val is cut from train, by the task's seed; there val is test, which `args.val_from: test` gives;
- no review in val stands in train too: those that are there twice, as cut to `length`, stay in train.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from lra_bench.config import Strict
from lra_bench.data import Progress, octets
from lra_bench.data.batches import permutation
from lra_bench.data.fetch import Remote, fetched
from lra_bench.data.octets import decode, encode
from lra_bench.data.splits import stacked
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

__all__ = ["HEADER", "PUBLISHED", "VERSION", "Args", "build", "check", "decode", "encode", "files", "row", "vocabulary"]

VERSION = 1
HEADER = "Source\tTarget"
PUBLISHED = True

ARCHIVE = "aclImdb*.tar.gz"
REMOTE = Remote(
    url="http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    name="aclImdb_v1.tar.gz",
    bytes=84_125_825,
    sha256="c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
)
LABELS = {"neg": 0, "pos": 1}

PLACE = re.compile(r"(?:\./)?aclImdb/(?P<part>train|test)/(?P<label>neg|pos)/\d+_\d+\.txt")
REVIEWS = 50_000  # with a label

Review = tuple[np.ndarray, int]  # tokens [n], label


class Args(Strict):
    """How the published parts become splits."""

    val_from: Literal["train", "test"]  # what val is cut from; "test": val is the first of test, as LRA has it


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding and 256 bytes."""
    return octets.SYMBOLS


def files(folder: Path) -> dict[str, Path]:
    """The archive in `folder`, which holds all splits.

    Raises:
        DataError: there is none, or there are several.
    """
    found = sorted(folder.glob(ARCHIVE))
    if len(found) != 1:
        named = ", ".join(path.name for path in found) or "nothing of that name"
        raise DataError(f"{folder}: looked for one {ARCHIVE}, as {REMOTE.url}; there is {named}")
    return {"archive": found[0]}


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> dict[str, Split]:
    """So many reviews of each split, drawn in an order that `seed` gives.

    Raises:
        TaskError: there are not so many.
        DataError: the archive is missing or damaged, or a review in it is empty or no UTF-8.
    """
    path = fetched(REMOTE) if folder is None else files(folder)["archive"]
    reviews = _reviews(path, length, progress)
    train, test = (_in_order(reviews[part], seed) for part in ("train", "test"))
    val, train = (test, train) if args.val_from == "test" else _apart(train, splits["val"])
    parts = {"train": train, "val": val, "test": test}
    for split, n in splits.items():
        if n > len(parts[split]):
            raise TaskError(f"splits.{split}: asks for {n} reviews; {path} leaves {len(parts[split])}")
    return {
        split: stacked([([text], label) for text, label in parts[split][:n]], length) for split, n in splits.items()
    }


def _reviews(path: Path, length: int, progress: Progress) -> dict[str, list[Review]]:
    """The labelled reviews of train and test, in the order of their names; nothing is unpacked to disk."""
    found: dict[str, dict[str, Review]] = {"train": {}, "test": {}}
    try:
        with gzip.open(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
            for member in archive:
                place = PLACE.fullmatch(member.name)
                file = archive.extractfile(member) if place else None
                if place is None or file is None:
                    continue
                part, label = found[place["part"]], LABELS[place["label"]]
                part[member.name] = _tokens(path, member.name, file.read(), length), label
                if len(part) % 1000 == 0:
                    progress(f"reading {path.name}", sum(map(len, found.values())), REVIEWS)
            while unpacked.read(1 << 20):  # to its checksum, which tells a file that was cut off
                pass
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: damaged, or no tar.gz: {error}") from None
    return {part: [reviews[name] for name in sorted(reviews)] for part, reviews in found.items()}


def _tokens(path: Path, name: str, text: bytes, length: int) -> np.ndarray:
    try:
        return octets.tokens_of(text, length)
    except DataError as error:
        raise DataError(f"{path}: {name}: {error}") from None


def _in_order(reviews: list[Review], seed: int) -> list[Review]:
    return [reviews[i] for i in permutation(len(reviews), seed, 0)]


def _apart(train: list[Review], n: int) -> tuple[list[Review], list[Review]]:
    """The first `n` reviews that stand in train once, and the others."""
    times = Counter(text.tobytes() for text, _ in train)
    val = [i for i, (text, _) in enumerate(train) if times[text.tobytes()] == 1][:n]
    chosen = set(val)
    return [train[i] for i in val], [review for i, review in enumerate(train) if i not in chosen]


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold a review, tokens [1, L], and its label against what there can be. Its label cannot be derived.

    Raises:
        DataError: it is empty, no UTF-8, or of another label than 0 and 1.
    """
    octets.check(tokens[0])
    if label not in LABELS.values():
        raise DataError(f"its label is {label}, neither 0 nor 1")


def row(tokens: np.ndarray, label: int) -> str:
    """A review, tokens [1, L], and its label as a line; tabs and ends of lines are written with a backslash."""
    return f"{octets.escaped(decode(tokens[0]))}\t{label}"
