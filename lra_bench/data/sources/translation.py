"""Text to text from a table of pairs of the user's own, as in translation: which byte of the target follows?

The folder holds `train.tsv`, or its like (`tables.py`), and val's and test's; or one file is named, which is train's.
What has no file is cut from train, in an order of the task's seed: no text to be translated stands in two of the splits
then. The target is a stream of a start symbol and its bytes, and the label at each place is the byte that follows, at
the last one the end symbol: a decoder that is given the text so far (Sutskever et al., arXiv 1409.3215, section 2).
Token = byte + 1 (`text_bytes.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lra_bench.config import Strict
from lra_bench.data import Progress, published
from lra_bench.data.formats import tables, text_bytes
from lra_bench.data.formats.text_bytes import encode
from lra_bench.data.made import Made
from lra_bench.data.published import Examples
from lra_bench.data.splits import stacked
from lra_bench.errors import DataError

__all__ = [
    "CAUSAL", "END", "HEADER", "PUBLISHED", "VERSION", "Args",
    "build", "check", "decode", "encode", "files", "row", "vocabulary",
]  # fmt: skip

VERSION = 1
HEADER = "source\ttarget"
PUBLISHED = True

END = len(text_bytes.SYMBOLS)  # is asked for after a text's last byte
START = END + 1  # stands before its first, and is never asked for
CAUSAL = True  # the answer at a place of the target stands at the next one


class Args(Strict):
    """Which columns are what."""

    source: str  # the column of the text that is given
    target: str  # the column of the text to be written
    header: bool  # the first line of a .csv or .tsv names the columns; false: they are called 1, 2, ...
    quoted: bool  # in a .tsv, fields may stand in quotes, as Excel and pandas write them; else quotes are text


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding, 256 bytes, the end of a target and its start."""
    return (*text_bytes.SYMBOLS, "<end>", "<start>")


def files(folder: Path) -> dict[str, Path]:
    """The tables in `folder`, by split, and by number where it is in several; of a file, itself.

    Raises:
        DataError: there is none for train, a split has several, or a shard is missing.
    """
    return tables.numbered(_tables(folder))


def _tables(folder: Path) -> dict[str, list[Path]]:
    """Raises DataError: as `files`, or the one file is no table."""
    return {"train": [tables.held(folder)]} if folder.is_file() else tables.tables(folder)


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> Made:
    """So many pairs of each split, of its file, or of train, as `published.completed` chooses them.

    Raises:
        TaskError: there are not so many.
        DataError: no folder is named, a column is missing, or a row is wrong; it is named.
    """
    if folder is None:
        raise DataError("needs pairs of yours: name a folder that holds train.tsv, or a file: --set task.folder=FOLDER")
    paths = _tables(folder)
    _hold_args(args, [path for parts in paths.values() for path in parts])
    read = {split: _examples(args, parts, length, progress) for split, parts in paths.items()}
    places = {split: parts[0] for split, parts in paths.items()}
    made = published.completed(read, splits, seed, places, "bytes of the source", 1)
    return made.known(notes=[] if folder.is_file() else tables.unread(folder))


def _hold_args(args: Args, paths: Sequence[Path]) -> None:
    """Raises DataError: an option is of tables that are not there."""
    suffixes = {path.suffix.lower() for path in paths}
    if args.quoted and ".tsv" not in suffixes:
        raise DataError(f"{paths[0]}: args.quoted: true, which is of .tsv alone")
    if not args.header and not suffixes & {".csv", ".tsv"}:
        raise DataError(f"{paths[0]}: args.header: false, which is of .csv and .tsv alone")


def _examples(args: Args, paths: Sequence[Path], length: int, progress: Progress) -> Examples:
    """All pairs of the tables, in order.

    Raises:
        DataError: there is none, or a row is wrong; it is named.
    """
    examples, long = [], []
    asked = tables.Asked([args.source, args.target], quoted=args.quoted, header=args.header)
    for path in paths:
        for number, fields in tables.rows(path, asked):
            try:
                source, target = (_text(column, fields[column]) for column in asked.columns)
            except DataError as error:
                raise DataError(f"{path}:{number}: {error}") from None
            examples.append(_example(source, target, length))
            long.append(len(source) > length or len(target) >= length)
            if len(examples) % 1000 == 0:
                progress(f"reading {path.name}", len(examples), len(examples))
    if not examples:
        raise DataError(f"{paths[0]}: holds no row")
    return Examples(stacked(examples, length), np.array(long))


def _text(column: str, value: Any) -> bytes:
    """Raises DataError: the text is blank, or holds half of a pair that makes one character."""
    try:
        return text_bytes.of_field(value)
    except DataError as error:
        raise DataError(f"{column}: {error}") from None


def _example(source: bytes, target: bytes, length: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The two streams, uint16 [n] each, and the label [length]: of a target that is too long, no end is asked for."""
    whole = np.array([START, *(byte + 1 for byte in target), END], np.uint16)[: length + 1]
    label = np.zeros(length, np.uint16)
    label[: len(whole) - 1] = whole[1:]
    return [text_bytes.tokens_of(source, length).astype(np.uint16), whole[:-1]], label


def check(args: Args, tokens: np.ndarray, label: np.ndarray) -> None:
    """Hold a pair, tokens [2, L], against what is asked for, `label` [L].

    Raises:
        DataError: a text is empty or no UTF-8, the target does not begin with the start symbol, or what is asked for
            is not what follows, and then the end.
    """
    source, target = tokens
    last = int((target > 0).sum()) - 1  # the place at which the end is asked for, or the last byte there is room for
    text_bytes.check(source)
    text_bytes.check(_bytes(label))
    if target[0] != START:
        raise DataError("the target does not begin with the start symbol")
    if (label[:last] != target[1 : last + 1]).any() or (label[last + 1 :] > 0).any():
        raise DataError("what is asked for is not what follows")
    if (label[:last] == END).any() or (label[last] != END and last + 1 < len(label)):
        raise DataError("the target does not end with the end symbol")


def decode(tokens: np.ndarray) -> str:
    """A stream [n], or what is asked for, as text, the start and the end left out."""
    return text_bytes.decode(_bytes(tokens))


def _bytes(tokens: np.ndarray) -> np.ndarray:
    return tokens[tokens < END]


def row(tokens: np.ndarray, label: np.ndarray) -> str:
    """A pair, tokens [2, L], as a line: source and target."""
    return "\t".join(text_bytes.escaped(decode(text)) for text in (tokens[0], label))
