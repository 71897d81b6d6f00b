"""Texts to model byte by byte, in splits: a user's own files, or a corpus that the field uses.

`enwik8` is the first 100 million bytes of Wikipedia's XML of March 2006 (the Hutter Prize), of which the field takes 90
million to train, the next five to validate, the last five to test. `wikitext-2` is the raw text of WikiText-2 (Merity
et al., arXiv 1609.07843), which has a file for each split.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from lra_bench.config import Strict
from lra_bench.data import download
from lra_bench.data.download import Remote
from lra_bench.data.formats import split_files, text_bytes
from lra_bench.errors import DataError
from lra_bench.shapes import SPLITS

BYTE_0 = 1  # its token; no text may hold it


class Args(Strict):
    """Which text."""

    corpus: Literal["enwik8", "wikitext-2"] | None = None  # None: the user's


class Part(NamedTuple):
    """A split: these bytes of a file of the archive."""

    file: str
    start: int = 0
    end: int | None = None


class Corpus(NamedTuple):
    """An archive, and where in it each split is."""

    remote: Remote
    parts: Mapping[str, Part]


CORPORA: Mapping[str, Corpus] = {
    "enwik8": Corpus(
        Remote(
            url="http://mattmahoney.net/dc/enwik8.zip",
            name="enwik8.zip",
            bytes=36_445_475,
            sha256="547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
        ),
        {
            "train": Part("enwik8", 0, 90_000_000),
            "val": Part("enwik8", 90_000_000, 95_000_000),
            "test": Part("enwik8", 95_000_000, 100_000_000),
        },
    ),
    "wikitext-2": Corpus(
        Remote(
            url="https://wikitext.smerity.com/wikitext-2-raw-v1.zip",
            name="wikitext-2-raw-v1.zip",
            bytes=4_721_645,
            sha256="ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
        ),
        {
            "train": Part("wikitext-2-raw/wiki.train.raw"),
            "val": Part("wikitext-2-raw/wiki.valid.raw"),
            "test": Part("wikitext-2-raw/wiki.test.raw"),
        },
    ),
}


def files(folder: Path) -> dict[str, Path]:
    """What is read of `folder`: the archives of corpora, or the texts by split.

    Raises:
        DataError: there is no text for train, or a split has two.
    """
    archives = {name: folder / corpus.remote.name for name, corpus in CORPORA.items()}
    there = {name: path for name, path in archives.items() if path.is_file()}
    if there and not any(folder.glob("*.txt")):
        return there
    return there | split_files.one_each(folder, ".txt")


def texts(args: Args, folder: Path | None, held_out: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The tokens of each split, uint8. Of a user's text that has no file for a split, the end of train is that split's,
    `held_out[split]` bytes.

    Raises:
        DataError: no folder and no corpus is named, the corpus cannot be had, a file is missing or damaged, or holds
            a byte 0 or no UTF-8.
        PlaceError: there is no room for the corpus in the cache.
    """
    if args.corpus is not None:
        return _of_corpus(CORPORA[args.corpus], folder)
    if folder is None:
        known = ", ".join(CORPORA)
        raise DataError(
            "needs a text of yours: name a folder that holds train.txt: --set task.folder=FOLDER; "
            f"or a corpus ({known}): --set task.args.corpus=NAME"
        )
    found = {split: _tokens(path.read_bytes(), path) for split, path in split_files.one_each(folder, ".txt").items()}
    for split in reversed(SPLITS):
        if split not in found:
            at = max(0, len(found["train"]) - held_out[split])
            found["train"], found[split] = found["train"][:at], found["train"][at:]
    return found


def _of_corpus(corpus: Corpus, folder: Path | None) -> dict[str, np.ndarray]:
    path = download.fetched(corpus.remote) if folder is None else folder / corpus.remote.name
    if not path.is_file():
        raise DataError(f"{folder}: looked for {corpus.remote.name}, as {corpus.remote.url}; it is not there")
    if not download.whole(path, corpus.remote):
        raise DataError(f"{path}: not {corpus.remote.url}: its SHA-256 is another")
    try:
        with zipfile.ZipFile(path) as archive:
            read = {part.file: archive.read(part.file) for part in corpus.parts.values()}
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: damaged, or not {corpus.remote.url}: {error}") from None
    tokens = {file: _tokens(content, path / file) for file, content in read.items()}
    return {split: tokens[part.file][part.start : part.end] for split, part in corpus.parts.items()}


def _tokens(content: bytes, path: Path) -> np.ndarray:
    try:
        tokens = text_bytes.tokens_of(content, len(content))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if (tokens == BYTE_0).any():
        raise DataError(f"{path}: no text: byte {np.flatnonzero(tokens == BYTE_0)[0]} is 0")
    return tokens
