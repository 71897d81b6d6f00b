"""ListOps: the value of nested MIN, MAX, MED and SM over digits. Nangia & Bowman, arXiv:1804.06028, made long by LRA.

Generated from a seed (`expressions.py`), or read from the files of LRA's release. MED is the median, a half truncated
toward zero; SM the sum modulo 10.

What differs from LRA (google-research/long-range-arena, lra_benchmarks/listops/input_pipeline.py):

- the 15 symbols have fixed ids, 1 to 15; there they follow the hash of the process and a 16th stands for the unknown;
- an expression longer than the padded length is refused or not drawn, never cut off;
- generated data come from a seed, with test and val first in the stream, so that a longer train leaves them alone;
- every label of a released file is derived again before it is believed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import pydantic
from pydantic import Field

from lra_bench.config import Count, Strict
from lra_bench.data import Progress, generated
from lra_bench.data.formats import lines
from lra_bench.data.sources.synthetic.expressions import CLOSE, MAX, MED, MIN, PADDING, SM, SYMBOLS, ZERO, sample
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import SPLITS, Split

VERSION = 1
HEADER = "Source\tTarget"
PUBLISHED = False  # where no folder is given

IDS = {symbol: token for token, symbol in enumerate(SYMBOLS) if symbol != PADDING} | {"X": CLOSE}

T = TypeVar("T")


class Args(Strict):
    """The language: it holds for data that are generated and for data that are read."""

    min_length: Annotated[int, Field(ge=0)]  # tokens, parentheses not counted; an expression has more than that
    max_length: Count  # tokens; an expression has fewer than that
    max_depth: Count  # of nodes, the root at 1; there only digits stand
    max_args: Annotated[int, Field(ge=2)]  # of an operator; the fewest are 2

    @pydantic.model_validator(mode="after")
    def _room_between(self) -> Args:
        if self.max_length - self.min_length < 2:
            raise ValueError(f"no length lies between min_length {self.min_length} and max_length {self.max_length}")
        return self


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id. It is the same for all `args`."""
    return SYMBOLS


def files(folder: Path) -> dict[str, Path]:
    """The released files in `folder`, by split.

    Raises:
        DataError: one is missing; all that are looked for are named.
    """
    paths = {split: folder / f"basic_{split}.tsv" for split in SPLITS}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        looked_for = ", ".join(path.name for path in paths.values())
        raise DataError(f"{folder}: looked for {looked_for}; not there: {', '.join(missing)}")
    return paths


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> dict[str, Split]:
    """All splits, with no expression in two of them if they are generated, as the release has it if they are read.

    Raises:
        TaskError: no expression of this language fits `length`, or too few exist.
        DataError: a released file is missing, has another number of rows than its split, or a row is wrong.
    """
    if length <= args.min_length:
        raise TaskError(f"length {length}: no expression longer than args.min_length {args.min_length} fits")
    if folder is None:
        return _generated(args, length, splits, seed, progress)
    paths = files(folder)
    return {split: _released(paths[split], split, n, args, length, progress) for split, n in splits.items()}


def _generated(args: Args, length: int, splits: Mapping[str, int], seed: int, progress: Progress) -> dict[str, Split]:
    draw = partial(
        sample, seed=seed, least=args.min_length + 1, most=min(args.max_length - 1, length),
        max_depth=args.max_depth, max_args=args.max_args, length=length,
    )  # fmt: skip
    return generated.splits(draw, splits, f"length {length}, {args!r}", progress)


def _released(path: Path, name: str, n: int, args: Args, length: int, progress: Progress) -> Split:
    """Read one released file, whose header may be missing."""
    with path.open("rb") as file:
        header = sorted(file.readline().removeprefix(lines.BOM).split()) == sorted(HEADER.encode().split())
    rows = lines.count(path) - header
    if rows != n:
        raise DataError(f"{path}: has {rows} rows, but splits.{name} asks for {n}")
    return lines.read(path, 1 + header, length, partial(_parsed, args, length), progress)


def _parsed(args: Args, length: int, line: bytes) -> tuple[list[np.ndarray], int]:
    """The one stream of tokens and the label of a row, in which either column may come first."""
    columns = line.decode("utf-8", "replace").split("\t")
    if len(columns) != 2:
        raise DataError(f"has {len(columns)} columns, not an expression, a tab and its value")
    source, target = reversed(columns) if "[" in columns[1] else columns
    tokens = encode(source)
    if tokens.size > length:
        raise DataError(f"{tokens.size} tokens long, more than length {length}")
    if not (target.strip().isascii() and target.strip().isdigit()):
        raise DataError(f"its value '{target.strip()[:20]}' is no digit")
    check(args, tokens[None], int(target))
    return [tokens], int(target)


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold an expression, tokens [1, L], against `args`, and `label` against its value.

    Raises:
        DataError: it is malformed, too short, too long, too deep, has an operator of too few or too many arguments,
            or another value.
    """

    def node(operator: int, arguments: list[int]) -> int:
        if not 2 <= len(arguments) <= args.max_args:
            raise DataError(f"{SYMBOLS[operator]} of {len(arguments)} arguments, not of 2 to {args.max_args}")
        return APPLY[operator](arguments)

    symbols = tokens[tokens > 0]
    value = _fold(symbols, node, int)
    if not args.min_length < len(symbols) < args.max_length:
        raise DataError(f"{len(symbols)} tokens long, not between {args.min_length} and {args.max_length}")
    opened = (symbols >= MAX) & (symbols < CLOSE)
    depth = 1 + int(np.max(np.cumsum(opened.astype(int) - (symbols == CLOSE))))
    if depth > args.max_depth:
        raise DataError(f"{depth} levels deep, more than max_depth {args.max_depth}")
    if value != label:
        raise DataError(f"its value is given as {label} and is {value}")


def evaluate(tokens: np.ndarray) -> int:
    """The value, 0 to 9, of an expression [L], padding left out.

    Raises:
        DataError: it is malformed.
    """
    return _fold(tokens[tokens > 0], lambda operator, arguments: APPLY[operator](arguments), int)


APPLY: dict[int, Callable[[list[int]], int]] = {
    MAX: max,
    MED: lambda arguments: int(statistics.median(arguments)),
    MIN: min,
    SM: lambda arguments: sum(arguments) % 10,
}


def _fold(tokens: np.ndarray, node: Callable[[int, list[T]], T], leaf: Callable[[int], T]) -> T:
    """What an expression comes to, from what its digits and its operators come to: a stack machine.

    Raises:
        DataError: it is malformed.
    """
    leaves = {ZERO + digit: leaf(digit) for digit in range(10)}
    operators: list[int] = []
    arguments: list[list[T]] = [[]]
    for token in tokens.tolist():
        if token in leaves:
            arguments[-1].append(leaves[token])
        elif token in APPLY:
            operators.append(token)
            arguments.append([])
        elif token != CLOSE:
            raise DataError(f"malformed: {token} is the id of no symbol")
        elif operators:
            result = node(operators.pop(), arguments.pop())
            arguments[-1].append(result)
        else:
            raise DataError("malformed: a bracket is closed that was not opened")
    if operators:
        raise DataError(f"malformed: {SYMBOLS[operators[-1]]} is not closed")
    if len(arguments[0]) != 1:
        raise DataError(f"malformed: {len(arguments[0])} expressions in one row")
    return arguments[0][0]


def encode(text: str) -> np.ndarray:
    """The tokens, uint8 [n], of an expression written with or without the release's parentheses.

    Raises:
        DataError: a token is none of the vocabulary.
    """
    symbols = text.replace("(", "").replace(")", "").split()
    try:
        return np.array([IDS[symbol] for symbol in symbols], np.uint8)
    except KeyError as unknown:
        raise DataError(f"unknown token {unknown}") from None


def decode(tokens: np.ndarray) -> str:
    """An expression [L] as text, without parentheses and padding."""
    return " ".join(SYMBOLS[token] for token in tokens.tolist() if token)


def row(tokens: np.ndarray, label: int) -> str:
    """An expression, tokens [1, L], and its value as a line of the release: a left-leaning binary tree in parentheses.

    Raises:
        DataError: it is malformed.
    """

    def node(operator: int, arguments: list[str]) -> str:
        opened = "( " * (len(arguments) + 1) + SYMBOLS[operator]
        return opened + "".join(f" {argument} )" for argument in arguments) + " ] )"

    return f"{_fold(tokens[tokens > 0], node, str)}\t{label}"
