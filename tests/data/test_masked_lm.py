"""Windows of a text with places that are asked for; no window of train reaches into val or test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lra_bench import data
from lra_bench.config import tasks
from lra_bench.data import silent
from lra_bench.data.generated import Dice
from lra_bench.data.sources import masked_lm
from lra_bench.data.sources.masked_lm import MASK, Args
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

ARGS, L = Args(rate=0.25), 16
COUNTS = {"train": 50, "val": 4, "test": 3}
TEXT = "".join(f"{i:03d} Häuser. " for i in range(200))


def built(folder: Path, seed: int = 0, counts: dict[str, int] = COUNTS) -> dict[str, Split]:
    return masked_lm.build(ARGS, L, counts, seed, folder, silent)


def whole(split: Split) -> list[bytes]:
    """The windows as they stood in the text."""
    tokens = np.where(split.label > 0, split.label, split.tokens[:, 0])
    return [(row - 1).astype(np.uint8).tobytes() for row in tokens]


def test_windows_are_of_the_text_and_val_and_test_are_its_end(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(TEXT)
    made, text = built(tmp_path), TEXT.encode()
    held_out = L * (COUNTS["val"] + COUNTS["test"])
    assert all(window in text[:-held_out] for window in whole(made["train"]))
    assert b"".join(whole(made["val"]) + whole(made["test"])) == text[-held_out:]
    for split in made.values():
        for tokens, label in zip(split.tokens, split.label, strict=True):
            masked_lm.check(ARGS, tokens, label)


def test_a_split_with_a_file_of_its_own_is_read_from_its_start(tmp_path: Path) -> None:
    for name, text in (("train", TEXT), ("val", TEXT[::-1]), ("test", TEXT.upper())):
        (tmp_path / f"{name}.txt").write_text(text)
    made = built(tmp_path)
    assert b"".join(whole(made["val"])) == TEXT[::-1].encode()[: L * COUNTS["val"]]
    assert b"".join(whole(made["test"])) == TEXT.upper().encode()[: L * COUNTS["test"]]


@settings(max_examples=20, deadline=None)
@given(st.floats(0.02, 0.9), st.integers(2, 80), st.integers(0, 2**32))
def test_as_many_places_as_the_rate_says_are_asked_for(rate: float, length: int, seed: int) -> None:
    tokens = np.full((9, length), 70, np.uint8)
    shown, label = masked_lm._masked(tokens, rate, Dice(seed, 0))
    assert ((label > 0).sum(1) == masked_lm.places(rate, length)).all()
    assert (shown[label == 0] == 70).all()
    assert (label[label > 0] == 70).all()


def test_of_those_eight_in_ten_are_hidden_one_is_another_and_one_itself() -> None:
    tokens = np.full((400, 200), 70, np.uint8)
    shown, label = masked_lm._masked(tokens, 0.5, Dice(0, 0))
    asked = shown[label > 0]
    shares = [(asked == MASK).mean(), ((asked != MASK) & (asked != 70)).mean(), (asked == 70).mean()]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.01)
    assert asked.max() == 255


def test_the_same_seed_gives_the_same(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(TEXT)
    one, same, other = built(tmp_path), built(tmp_path), built(tmp_path, seed=1)
    assert np.array_equal(one["train"].tokens, same["train"].tokens)
    assert not np.array_equal(one["train"].tokens, other["train"].tokens)


@pytest.mark.parametrize(
    ("content", "counts", "error", "said"),
    [
        (b"", COUNTS, DataError, "train.txt: the text is empty"),
        (b"ab\0cd", COUNTS, DataError, "train.txt: no text: byte 2 is 0"),
        (b"ab\xff", COUNTS, DataError, "train.txt: no UTF-8"),
        (b"x" * 200, {"test": 100, "val": 1, "train": 1}, TaskError, "splits.test: asks for 100 windows of 16 bytes"),
        (b"x" * 120, COUNTS, TaskError, "splits.train: asks for 50 windows"),
    ],
)
def test_what_is_no_text_or_too_short_is_named(
    tmp_path: Path, content: bytes, counts: dict[str, int], error: type[Exception], said: str
) -> None:
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(error, match=said):
        built(tmp_path, counts=counts)


def test_val_has_other_names_and_symbols_may_be_as_many_as_a_window_has_places(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text(f"{name} {TEXT}")
    assert masked_lm.files(tmp_path)["val"].name == "valid.txt"
    spec = tasks.load("masked-lm").model_copy(
        update={"folder": str(tmp_path), "length": 256, "classes": 256, "splits": {"train": 9, "val": 2, "test": 2}}
    )
    assert data.prepare(spec).splits["val"].label.max() > 1


def test_a_folder_is_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looked for train\.txt"):
        built(tmp_path)
    with pytest.raises(DataError, match=r"--set task\.folder=FOLDER"):
        masked_lm.build(ARGS, L, COUNTS, 0, None, silent)


def test_a_window_that_is_none_is_refused() -> None:
    tokens, label = masked_lm._masked(np.full((1, L), 70, np.uint8), 0.25, Dice(0, 0))
    with pytest.raises(DataError, match="places are asked for"):
        masked_lm.check(ARGS, tokens, np.zeros_like(label[0]))
    hidden = np.where(label == 0, MASK, tokens)
    with pytest.raises(DataError, match="a mask stands where nothing is asked for"):
        masked_lm.check(ARGS, hidden, label[0])
