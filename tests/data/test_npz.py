"""A user's own arrays become splits; what is wrong in them is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lra_bench import check, data, templates
from lra_bench.config import Overlay, tasks
from lra_bench.data import silent
from lra_bench.data.sources import npz
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

PLAIN = npz.Args(x="x", y="y", symbols=256, low=None, high=None, lengths=None, padding=None)
COUNTS = {"train": 6, "val": 2, "test": 2}


def turned(**values: Any) -> npz.Args:
    return npz.Args.model_validate({**PLAIN.model_dump(), **values})


def arrays(n: int, *shape: int, below: int = 256, seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {"x": draw.integers(0, below, (n, *shape)).astype(np.uint8), "y": np.arange(n) % 3}


def built(folder: Path, content: dict[str, Any], args: npz.Args = PLAIN, length: int = 12) -> dict[str, Split]:
    np.savez(folder / "train.npz", **content)
    return npz.build(args, length, COUNTS, 0, folder, silent)


def found(splits: dict[str, Split]) -> dict[bytes, int]:
    return {t.tobytes(): int(label) for s in splits.values() for t, label in zip(s.tokens, s.label, strict=True)}


def test_three_files_are_three_splits(tmp_path: Path) -> None:
    made = {split: arrays(n, 12, seed=n) for split, n in COUNTS.items()}
    for split in ("val", "test"):
        np.savez_compressed(tmp_path / f"{split}.npz", **made[split])
    splits = built(tmp_path, made["train"])
    for split, n in COUNTS.items():
        np.testing.assert_array_equal(splits[split].tokens[:, 0], made[split]["x"][:n].astype(int) + 1)
        np.testing.assert_array_equal(splits[split].label, made[split]["y"][:n])
        assert (splits[split].lengths == 12).all()


@pytest.mark.parametrize("shape", [(12,), (3, 4), (2, 2, 3)])
def test_pictures_are_read_row_by_row_and_splits_cut_from_train(tmp_path: Path, shape: tuple[int, ...]) -> None:
    content = arrays(10, *shape)
    splits = built(tmp_path, content)
    whole = {(x.reshape(1, 12) + np.uint16(1)).tobytes(): y for x, y in zip(content["x"], content["y"], strict=True)}
    assert found(splits) == whole, "each example once, in one of the splits"


def test_two_rows_are_two_streams(tmp_path: Path) -> None:
    splits = built(tmp_path, arrays(10, 2, 12))
    assert splits["train"].tokens.shape == (6, 2, 12)
    assert splits["train"].lengths.shape == (6, 2)


@pytest.mark.parametrize("of_each", [False, True])
def test_lengths_say_what_is_real(tmp_path: Path, of_each: bool) -> None:
    content = arrays(10, 2, 12)
    content["n"] = np.arange(1, 11).reshape(10, 1) + np.arange(2) if of_each else np.arange(1, 11)
    if not of_each:
        content["x"] = content["x"][:, 0]
    splits = built(tmp_path, content, turned(lengths="n"))
    for split in splits.values():
        np.testing.assert_array_equal((split.tokens > 0).sum(-1), split.lengths)
    assert sorted(n for split in splits.values() for n in split.lengths[:, 0]) == list(range(1, 11))


@pytest.mark.parametrize("padding", [0, 255, -1])
def test_padding_is_what_fills_the_end(tmp_path: Path, padding: int) -> None:
    content = {"x": np.full((10, 12), padding), "y": np.arange(10)}
    for i in range(10):
        content["x"][i, : i + 1] = i + 1
    splits = built(tmp_path, content, turned(padding=padding))
    for split in splits.values():
        for tokens, lengths, label in zip(split.tokens[:, 0], split.lengths[:, 0], split.label, strict=True):
            assert lengths == label + 1
            assert tokens.tolist() == [label + 2] * (label + 1) + [0] * (11 - label)


@given(st.lists(st.floats(-3, 3, width=32), min_size=12, max_size=12), st.integers(2, 500))
def test_a_level_is_the_nearest(tmp_path_factory: pytest.TempPathFactory, numbers: list[float], symbols: int) -> None:
    x = np.array([numbers] * 10, np.float32) * (1 + np.arange(10)[:, None] / 10)
    args = turned(low=-2.0, high=2.0, symbols=symbols)
    folder = tmp_path_factory.mktemp("levels")
    for split in ("val", "test"):
        np.savez(folder / f"{split}.npz", x=x, y=np.arange(10))
    splits = built(folder, {"x": x, "y": np.arange(10)}, args)
    step = 4 / (symbols - 1)
    for split in splits.values():
        for tokens, label in zip(split.tokens[:, 0], split.label, strict=True):
            back = npz.values(args)[tokens, 0] * 4 - 2
            assert np.abs(back - np.clip(x[label], -2, 2)).max() <= step / 2 + 1e-5


def test_values_are_one_a_symbol() -> None:
    table = npz.values(turned(symbols=5))
    assert table.dtype == np.float32
    assert table[:, 0].tolist() == [0, 0, 0.25, 0.5, 0.75, 1]
    assert len(npz.vocabulary(turned(symbols=5))) == 6


GOOD = arrays(10, 12)
WRONG = GOOD["x"].astype(int)
WRONG[7, 3] = 256
NAN = np.linspace(0, 1, 120).reshape(10, 12)
NAN[4, 2] = np.nan
MIXED = np.ones((10, 12), int)
MIXED[5, 2] = 0


@pytest.mark.parametrize(
    ("content", "args", "message"),
    [
        ({**GOOD, "x": WRONG}, PLAIN, r"x\[7\]: 256 is no symbol; they are 0 to 255"),
        ({**GOOD, "x": -WRONG}, PLAIN, r"x\[0\]: -\d+ is no symbol"),
        ({**GOOD, "x": NAN}, PLAIN, r"fractions from 0 to 1; .*--set task\.args\.low=0 --set task\.args\.high=1"),
        ({**GOOD, "x": NAN}, turned(low=0.0, high=1.0), r"x\[4\]: nan is no number"),
        (
            {**GOOD, "x": MIXED},
            turned(padding=0),
            r"x\[5\]: 0 is padding, and it stands there alone, or not at the end",
        ),
        ({**GOOD, "x": MIXED * 0}, turned(padding=0), r"x\[0\]: 0 is padding, and it stands there alone"),
        ({**GOOD, "x": np.array([["a"] * 12] * 10)}, PLAIN, r"x is <U1\[10, 12\], not numbers"),
        ({**GOOD, "x": np.ones((0, 12))}, PLAIN, r"x is float64\[0, 12\], not numbers of examples"),
        ({**GOOD, "x": np.array([None] * 10)}, PLAIN, "damaged, or no .npz of plain arrays: Object arrays"),
        ({"X": GOOD["x"], "y": GOOD["y"]}, turned(x="xs"), r"has no array 'xs'; it can be: X, y"),
        ({**GOOD, "y": GOOD["y"][:9]}, PLAIN, r"y is int64\[9\], not numbers for each of 10 examples"),
        ({**GOOD, "y": GOOD["y"] + np.nan}, PLAIN, r"y\[0\] holds no number"),
        ({**GOOD, "y": GOOD["y"] - 1}, PLAIN, r"y\[0\]: -1 is no class"),
        ({**GOOD, "y": np.full(10, 1 << 32, np.uint64)}, PLAIN, r"y\[0\]: 4294967296 is no class"),
        ({**GOOD, "y": np.full((10, 2), 256)}, PLAIN, r"y\[0\]: 256 is no bit"),
        ({**GOOD, "y": np.full(10, 1e39)}, PLAIN, r"y\[:, 0\]: 1e\+39 is beyond 1e\+15"),
        (
            {**GOOD, "y": 2.0**24 + np.arange(10) % 2},
            PLAIN,
            r"y\[:, 0\]: from 16777216 to 16777217, a standard deviation",
        ),
        ({**GOOD, "n": np.arange(10)}, turned(lengths="n"), r"n is from 0 to 9, and must be from 1 to 12"),
        (
            {**GOOD, "n": np.ones((10, 2), int)},
            turned(lengths="n"),
            r"n is int64\[10, 2\], not an integer for each",
        ),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: dict[str, Any], args: npz.Args, message: str
) -> None:
    monkeypatch.setattr(npz, "AT_ONCE", 24)
    with pytest.raises(DataError, match=rf"train\.npz: {message}|train\.npz: .*{message}"):
        built(tmp_path, content, args)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    built(tmp_path, GOOD)
    path = tmp_path / "train.npz"
    whole = path.read_bytes()
    flipped = whole[:200] + bytes([whole[200] ^ 255]) + whole[201:]
    np.save(tmp_path / "one.npy", GOOD["x"])
    for content in (whole[:-30], b"nothing", b"", flipped, (tmp_path / "one.npy").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"train\.npz: damaged, or no \.npz of plain arrays"):
            npz.build(PLAIN, 12, COUNTS, 0, tmp_path, silent)


def test_length_folder_and_counts_are_held_to_the_arrays(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looked for train\.npz; it is not there"):
        npz.files(tmp_path)
    with pytest.raises(DataError, match=r"folder: null; name one that holds train\.npz"):
        npz.build(PLAIN, 12, COUNTS, 0, None, silent)
    with pytest.raises(TaskError, match=r"length: 13; .*x is uint8\[10, 3, 4\], and an example has 12 numbers"):
        built(tmp_path, arrays(10, 3, 4), length=13)
    with pytest.raises(TaskError, match=r"splits\.train: asks for 6 examples; .*train\.npz leaves 5"):
        built(tmp_path, arrays(9, 12))


def test_val_has_other_names_too_and_what_has_no_splits_is_said(tmp_path: Path) -> None:
    for name in ("dev", "holdout"):
        np.savez(tmp_path / f"{name}.npz", **arrays(3, 12, seed=7))
    np.savez(tmp_path / "train.npz", **arrays(20, 12))
    made = npz.build(PLAIN, 12, {"train": 15, "val": 3, "test": 3}, 0, tmp_path, silent)
    np.testing.assert_array_equal(made["val"].tokens[:, 0], arrays(3, 12, seed=7)["x"].astype(int) + 1)
    assert made.about.unused_rows == 2
    assert any(note.endswith(": holdout.npz") for note in made.about.notes)
    np.savez(tmp_path / "valid.npz", **arrays(3, 12))
    with pytest.raises(DataError, match=r"dev\.npz and valid\.npz are both of val; a split is one file"):
        npz.files(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"low": 0.0}, "must be both numbers, or both null"),
        ({"low": 1.0, "high": 1.0}, "must be below it"),
        ({"padding": 0, "lengths": "n"}, "must be null where there are lengths"),
        ({"padding": 0, "low": 0.0, "high": 1.0}, "must be null where there are lengths, or low and high"),
        ({"symbols": 1}, "greater than or equal to 2"),
    ],
)
def test_args_have_one_meaning(values: dict[str, Any], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        turned(**values)


@pytest.mark.parametrize(
    ("tokens", "label", "message"),
    [([[0, 0]], 0, "empty"), ([[257, 1]], 0, "a symbol is 256"), ([[1, 2]], -1, "label is -1")],
)
def test_check_finds_what_cannot_be(tokens: list[list[int]], label: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        npz.check(PLAIN, np.array(tokens, np.uint16), label)


def test_a_new_task_is_checked_and_verified(tmp_path: Path) -> None:
    path = templates.task("mine", "npz", tmp_path)
    np.savez(tmp_path / "train.npz", **arrays(1000, 28, 28))
    (finding,) = check.those([path])
    assert finding.ok, finding.detail
    checks = data.verify(tasks.load(str(path), settings=[Overlay("test", {"classes": 3})]))
    assert [check for check in checks if not check.ok] == []


@pytest.mark.parametrize(
    ("y", "kind", "shape"),
    [
        (np.arange(10), np.int32, ()),
        (np.arange(10)[:, None], np.int32, ()),
        (np.eye(10, 3, dtype=bool), np.uint8, (3,)),
        (np.arange(10) / 4, np.float32, (1,)),
        (np.ones((10, 2)), np.float32, (2,)),
    ],
)
def test_answers_are_classes_labels_or_numbers(
    tmp_path: Path, y: np.ndarray, kind: type, shape: tuple[int, ...]
) -> None:
    made = built(tmp_path, {**GOOD, "y": y})["train"]
    assert (made.label.dtype, made.label.shape[1:]) == (kind, shape)
    for tokens, label in zip(made.tokens, made.label, strict=True):
        npz.check(PLAIN, tokens, label)
