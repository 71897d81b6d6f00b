"""What `lra generate` prints of each symbol that is written."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lra_bench import data
from lra_bench.cli.generate import pieces

TEXTS = st.one_of(st.binary(max_size=40), st.text(max_size=20).map(str.encode))


@given(TEXTS)
def test_pieces_of_bytes_are_the_text_up_to_its_last_whole_character(text: bytes) -> None:
    decode, ids = data.load("causal_lm").decode, [1 + byte for byte in text]
    found = list(pieces(ids, decode))
    assert len(found) == len(ids)
    whole = decode(np.array(ids, np.int32))
    held_back = len(whole) - len("".join(found))
    assert whole.startswith("".join(found))
    assert 0 <= held_back <= 4


@given(st.lists(st.integers(1, 10), max_size=20))
def test_pieces_of_words_are_apart(ids: list[int]) -> None:
    decode = data.load("needle").decode
    assert "".join(pieces(ids, decode)) == decode(np.array(ids, np.int32))


def test_each_symbol_is_decoded_a_few_times_however_long_the_text_is() -> None:
    read: list[int] = []

    def decode(ids: np.ndarray) -> str:
        read.append(len(ids))
        return "x" * len(ids)

    assert len("".join(pieces(range(1000), decode))) == 1000
    assert sum(read) < 4000
