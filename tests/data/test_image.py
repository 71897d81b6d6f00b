"""CIFAR-10's archive read as it is published, its pixels as tokens."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core import hashing

from lra_bench import data
from lra_bench.config import Overlay, tasks
from lra_bench.data import silent
from lra_bench.data.sources import image
from lra_bench.errors import DataError, TaskError

GREY, RGB = (image.Args(val_from="train", color=color, black="level") for color in ("gray", "rgb"))
COUNTS = {"train": 14, "val": 6, "test": 5}
LABEL, PLANES = 1, 3 * 1024  # bytes of a record


def records(n: int, seed: int) -> np.ndarray:
    """`n` random pictures as the published batches have them."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 10, (n, LABEL))
    return np.concatenate([labels, draw.integers(0, 256, (n, PLANES))], axis=1).astype(np.uint8)


TRAIN, TEST = records(20, 0), records(5, 1)
BATCHES = {"data_batch_1": TRAIN[:4], "data_batch_2": TRAIN[4:], "test_batch": TEST}


def archive(folder: Path, batches: dict[str, bytes]) -> Path:
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as file:
        for name, content in batches.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return folder


@pytest.fixture
def released(tmp_path: Path) -> Path:
    return archive(tmp_path, {name: batch.tobytes() for name, batch in BATCHES.items()})


def test_three_planes_become_pixels(released: Path) -> None:
    built = image.build(RGB, 3072, COUNTS, 0, released, silent)
    planes = {record[LABEL:].tobytes(): record for record in TEST}
    for tokens, label in zip(built["test"].tokens[:, 0], built["test"].label, strict=True):
        back = (tokens - 1).astype(np.uint8).reshape(1024, 3).T.tobytes()
        assert planes.pop(back)[0] == label
    assert not planes, "every picture once"


def test_gray_is_tensorflows(released: Path) -> None:
    """By hand: (0.2989 R + 0.5870 G + 0.1140 B) / 255, times 255.5, rounded down."""
    pixels = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 200, 30]]], np.uint8)
    assert image.gray(pixels).tolist() == [[0, 255, 76, 149, 29, 124]]
    built = image.build(GREY, 1024, COUNTS, 0, released, silent)
    rgb = image.build(RGB, 3072, COUNTS, 0, released, silent)
    for name in COUNTS:
        colors = (rgb[name].tokens - 1).reshape(-1, 1024, 3)
        exact = colors @ np.array([0.2989, 0.5870, 0.1140]) / 255 * 255.5
        off = built[name].tokens[:, 0] - 1 - np.floor(exact)
        assert (abs(off) <= (abs(exact - exact.round()) < 1e-3)).all(), "float32 may round the other way at an integer"


def test_black_is_no_padding(tmp_path: Path) -> None:
    black = {name: np.zeros_like(batch) for name, batch in BATCHES.items()}
    for batch in black.values():
        batch[:, -1] = np.arange(len(batch))
    folder = archive(tmp_path, {name: batch.tobytes() for name, batch in black.items()})
    built = image.build(GREY, 1024, {"train": 1, "val": 0, "test": 5}, 0, folder, silent)
    assert built["test"].tokens.min() == 1
    assert (built["test"].lengths == 1024).all()


def test_train_and_val_share_nothing(released: Path) -> None:
    built = image.build(GREY, 1024, COUNTS, 0, released, silent)
    assert {name: len(split) for name, split in built.items()} == COUNTS
    found = {name: {tokens.tobytes() for tokens in split.tokens} for name, split in built.items()}
    assert len(found["train"] | found["val"]) == 20
    assert not found["test"] & (found["train"] | found["val"])


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (TRAIN[:4].tobytes()[:-1], r"data_batch_1\.bin: 12291 bytes, no whole number of pictures of 3073"),
        (b"", r"data_batch_1\.bin: 0 bytes"),
        (np.full((1, 3073), 10, np.uint8).tobytes(), "a label is 10, not below 10"),
    ],
)
def test_a_wrong_batch_is_named(tmp_path: Path, batch: bytes, message: str) -> None:
    folder = archive(tmp_path, {"data_batch_1": batch, "test_batch": TEST.tobytes()})
    with pytest.raises(DataError, match=message):
        image.build(GREY, 1024, COUNTS, 0, folder, silent)


def test_an_archive_without_a_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no batch of a part"):
        image.build(GREY, 1024, COUNTS, 0, archive(tmp_path, {"test_batch": TEST.tobytes()}), silent)


def test_the_length_is_that_of_a_picture(released: Path) -> None:
    with pytest.raises(TaskError, match="length: 1024; a picture in rgb has 3072 tokens"):
        image.build(RGB, 1024, COUNTS, 0, released, silent)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [None, "rgb"])
def test_verify_holds_on_the_task_as_it_ships(released: Path, variant: str | None) -> None:
    settings = [Overlay("test", {"folder": str(released), "splits": COUNTS})]
    checks = data.verify(tasks.load("image", variant=variant, settings=settings))
    assert [check for check in checks if not check.ok] == []


def test_a_missing_level_or_another_label_is_noticed() -> None:
    tokens = np.ones((1, 1024), np.uint16)
    image.check(GREY, tokens, 9)
    with pytest.raises(DataError, match="its label is 10"):
        image.check(GREY, tokens, 10)
    tokens[0, 5] = 0
    with pytest.raises(DataError, match="1 of its 1024 levels are missing"):
        image.check(GREY, tokens, 9)


def test_values_are_levels_from_0_to_1() -> None:
    table = image.values(GREY)
    assert table.shape == (len(image.vocabulary(GREY)), 1)
    assert (table[0, 0], table[1, 0], table[256, 0]) == (0, 0, 1)
    assert table[image.encode("51")[0], 0] == np.float32(0.2)


def test_black_is_padding_and_val_the_last_in_tfds_order_as_published(released: Path) -> None:
    published = image.Args(val_from="tfds", color="gray", black="padding")
    built = image.build(published, 1024, {"train": 18, "val": 2, "test": 5}, 0, released, silent)
    gray = image.gray(TRAIN[:, LABEL:].reshape(-1, 3, 1024).swapaxes(1, 2))
    hasher = hashing.Hasher("train")
    order = sorted(range(len(TRAIN)), key=hasher.hash_key)
    for split, places in (("train", order[:18]), ("val", order[18:])):
        tokens = built[split].tokens[:, 0]
        assert np.array_equal(tokens, np.where(gray[places] > 0, gray[places].astype(int) + 1, 0))
        assert built[split].label.tolist() == TRAIN[places, 0].tolist()
        assert built[split].lengths[:, 0].tolist() == (gray[places] > 0).sum(1).tolist()
    for tokens, label in zip(built["val"].tokens, built["val"].label, strict=True):
        image.check(published, tokens, label)
        assert np.array_equal(image.encode(image.decode(tokens[0])), np.trim_zeros(np.maximum(tokens[0], 1), "b"))
