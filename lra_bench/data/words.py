"""Examples of one stream, written as words with spaces between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from lra_bench.errors import DataError

PADDING = "<pad>"


class Words:
    """A fixed vocabulary. The word of id 0 is padding; `kind` is the smallest type that holds every id."""

    def __init__(self, *words: str) -> None:
        self.symbols = (PADDING, *words)
        self.ids = {word: token for token, word in enumerate(self.symbols) if token}
        self.kind = np.min_scalar_type(len(words))

    def encode(self, text: str) -> np.ndarray:
        """The tokens [n] of words with spaces between them.

        Raises:
            DataError: a word is none of the vocabulary.
        """
        try:
            return np.array([self.ids[word] for word in text.split()], self.kind)
        except KeyError as unknown:
            raise DataError(f"unknown token {unknown}") from None

    def decode(self, tokens: np.ndarray) -> str:
        """A stream [L] as words, its padding left out."""
        return " ".join(self.symbols[token] for token in tokens.tolist() if token)

    def row(self, tokens: np.ndarray, label: Any) -> str:
        """An example, tokens [1, L], and its label as a line: a class, numbers, or the symbols that are asked for."""
        places = np.ndim(label) and np.issubdtype(label.dtype, np.integer)
        return f"{self.decode(tokens[0])}\t{self.decode(label[label > 0]) if places else label}"


MARK, VALUE, KEY = 1, 2, 3  # of `keys_and_values`: the first id of each


def keys_and_values(mark: str, count: int) -> Words:
    """`count` symbols: one of its own, then values v0, v1, ... and keys k0, k1, ... in turn, a value first.

    So the first n of them are one, n // 2 values and (n - 1) // 2 keys.
    """
    return Words(mark, *[f"{kind}{i}" for i in range(count) for kind in "vk"][: count - 1])


def same(label: int, derived: int) -> None:
    """Raises DataError: the label is not what the tokens say."""
    if label != derived:
        raise DataError(f"its label is given as {label} and is {derived}")


def same_places(label: np.ndarray, derived: np.ndarray) -> None:
    """Raises DataError: the symbols that are asked for, [L], are not what the tokens say; 0 where none is."""
    wrong = np.flatnonzero(label != derived)
    if len(wrong):
        place = wrong[0]
        raise DataError(f"at place {place} its label is given as {label[place]} and is {derived[place]}")
