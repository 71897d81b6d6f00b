"""MNIST's files read as they are published."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from samples import first_fast

from lra_bench import data
from lra_bench.config import Overlay, tasks
from lra_bench.data import silent
from lra_bench.data.sources import mnist
from lra_bench.errors import DataError, TaskError

ROWS, MIXED = (mnist.Args(val_from="train", order=order) for order in (None, 3))
COUNTS = {"train": 12, "val": 4, "test": 5}


def write(path: Path, values: np.ndarray) -> None:
    head = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))


@pytest.fixture
def released(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for part, n in (("train", 16), ("t10k", 5)):
        write(tmp_path / f"{part}-images-idx3-ubyte.gz", draw.integers(0, 256, (n, 28, 28)))
        write(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.arange(n) % 10)
    return tmp_path


def test_pixels_and_labels(released: Path) -> None:
    built = mnist.build(ROWS, 784, COUNTS, 0, released, silent)
    assert {name: len(split) for name, split in built.items()} == COUNTS
    pictures = np.random.default_rng(0).integers(0, 256, (16, 28, 28))
    by_label = {
        tokens.tobytes(): label for tokens, label in zip(built["train"].tokens, built["train"].label, strict=True)
    }
    assert len(by_label) == 12
    for i, picture in enumerate(pictures):
        tokens = (picture.reshape(1, -1) + 1).astype(np.uint16)
        assert by_label.pop(tokens.tobytes(), i % 10) == i % 10
    assert not by_label


def test_an_order_is_the_same_for_all_pictures(released: Path) -> None:
    rows, mixed = (mnist.build(args, 784, COUNTS, 0, released, silent)["test"].tokens[:, 0] for args in (ROWS, MIXED))
    assert not np.array_equal(rows, mixed)
    moved = [np.flatnonzero((rows.T == column[:, None].T).all(1)) for column in mixed.T]
    assert sorted(int(found[0]) for found in moved) == list(range(784))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("t10k-images-idx3-ubyte", np.zeros((5, 20, 28)), "pictures of 20 x 28, not of 28 x 28"),
        ("t10k-labels-idx1-ubyte", np.zeros(4), "4 labels, and t10k-images-idx3-ubyte.gz holds 5 pictures"),
        ("t10k-labels-idx1-ubyte", np.full(5, 10), "a label is 10, not below 10"),
        ("t10k-labels-idx1-ubyte", np.zeros((5, 1)), "no IDX file of bytes with 1 axes"),
    ],
)
def test_a_wrong_file_is_named(released: Path, name: str, values: np.ndarray, message: str) -> None:
    write(released / f"{name}.gz", values)
    with pytest.raises(DataError, match=message):
        mnist.build(ROWS, 784, COUNTS, 0, released, silent)


def test_a_damaged_or_missing_file_is_named(released: Path) -> None:
    path = released / "train-labels-idx1-ubyte.gz"
    content = path.read_bytes()
    for damaged, message in ((content[:-9], "damaged, or no .gz"), (b"nothing", "damaged, or no .gz")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=message):
            mnist.build(ROWS, 784, COUNTS, 0, released, silent)
    path.write_bytes(gzip.compress(gzip.decompress(content)[:-1]))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: 15 elements, not 16"):
        mnist.build(ROWS, 784, COUNTS, 0, released, silent)
    path.unlink()
    with pytest.raises(DataError, match=r"not there: train-labels-idx1-ubyte\.gz"):
        mnist.files(released)
    with pytest.raises(TaskError, match="length: 783; a picture has 784 tokens"):
        mnist.build(ROWS, 783, COUNTS, 0, released, silent)


@pytest.mark.parametrize("name", first_fast("mnist-sequential", "mnist-permuted"))
def test_verify_holds_on_the_tasks_as_they_ship(released: Path, name: str) -> None:
    settings = [Overlay("test", {"folder": str(released), "splits": COUNTS})]
    checks = data.verify(tasks.load(name, settings=settings))
    assert [check for check in checks if not check.ok] == []
