"""Texts as the bytes of their UTF-8: token = byte + 1, 0 is padding: 257 symbols, as in Long Range Arena."""

from __future__ import annotations

import codecs
from typing import Any

import numpy as np

from lra_bench.errors import DataError

PADDING = "<pad>"
SYMBOLS = (PADDING, *(chr(byte) if 32 < byte < 127 else f"<{byte:02x}>" for byte in range(256)))
ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def tokens_of(text: bytes, length: int) -> np.ndarray:
    """The first `length` bytes of a text, uint8 [n].

    Raises:
        DataError: it is empty, or no UTF-8.
    """
    if not text:
        raise DataError("the text is empty")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"no UTF-8: {error.reason} at byte {error.start}") from None
    return np.frombuffer(text[:length], np.uint8) + 1  # no byte of UTF-8 is 255


def of_field(value: Any) -> bytes:
    """A text of a table, as its UTF-8.

    Raises:
        DataError: the text is blank, or holds half of a pair that makes one character.
    """
    text = str(value)
    if not text.strip():
        raise DataError("the text is empty" if not text else "the text is blank")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"no UTF-8: character {error.start} of the text is a lone surrogate") from None


def check(tokens: np.ndarray) -> None:
    """Hold one stream [L] against what `tokens_of` can give.

    Raises:
        DataError: it is empty, or no UTF-8 but for a last character that was cut.
    """
    text = _bytes(tokens)
    if not text:
        raise DataError("the text is empty")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(text)
    except UnicodeDecodeError as error:
        raise DataError(f"no UTF-8: {error.reason} at byte {error.start}") from None


def encode(text: str) -> np.ndarray:
    """The tokens, uint8 [n], of a text: what `decode` undoes."""
    return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8) + 1


def decode(tokens: np.ndarray) -> str:
    """A stream [L] as text; the bytes of a last character that was cut are surrogates (PEP 383)."""
    return _bytes(tokens).decode("utf-8", "surrogateescape")


def escaped(text: str) -> str:
    """The text in one column of one line: tabs, ends of lines and backslashes written with a backslash."""
    return text.translate(ESCAPES)


def _bytes(tokens: np.ndarray) -> bytes:
    return (tokens[tokens > 0].astype(np.uint8) - 1).tobytes()
