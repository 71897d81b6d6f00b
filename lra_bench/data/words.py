"""Examples of one stream, written as words with spaces between them."""

from __future__ import annotations

import numpy as np

from lra_bench.errors import DataError

PADDING = "<pad>"


class Words:
    """A fixed vocabulary. The word of id 0 is padding."""

    def __init__(self, *words: str) -> None:
        self.symbols = (PADDING, *words)
        self.ids = {word: token for token, word in enumerate(self.symbols) if token}

    def encode(self, text: str) -> np.ndarray:
        """The tokens, uint8 [n], of words with spaces between them.

        Raises:
            DataError: a word is none of the vocabulary.
        """
        try:
            return np.array([self.ids[word] for word in text.split()], np.uint8)
        except KeyError as unknown:
            raise DataError(f"unknown token {unknown}") from None

    def decode(self, tokens: np.ndarray) -> str:
        """A stream [L] as words, its padding left out."""
        return " ".join(self.symbols[token] for token in tokens.tolist() if token)

    def row(self, tokens: np.ndarray, label: int) -> str:
        """An example, tokens [1, L], and its label as a line."""
        return f"{self.decode(tokens[0])}\t{label}"


def same(label: int, derived: int) -> None:
    """Raises DataError: the label is not what the tokens say."""
    if label != derived:
        raise DataError(f"its label is given as {label} and is {derived}")
