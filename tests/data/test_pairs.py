"""Pairs of texts read as LRA's release has them, and as others write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lra_bench import data
from lra_bench.config import Overlay, tasks
from lra_bench.data import silent
from lra_bench.data.sources import pairs
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

ARGS = pairs.Args()
COUNTS = {"train": 6, "val": 3, "test": 4}


def line(i: int, ids: bool = True) -> str:
    named = [f"P{i}", f"W{i}"] if ids else []
    return "\t".join([f"{i % 2}.0", *named, f"text {i} é", f"other {i} " + "x" * i])


@pytest.fixture
def released(tmp_path: Path) -> Path:
    for name, n, start in (("train", 6, 0), ("eval", 3, 10), ("test", 4, 20)):
        (tmp_path / f"new_aan_pairs.{name}.tsv").write_text("\n".join(line(start + i) for i in range(n)) + "\n")
    return tmp_path


@pytest.fixture(autouse=True)
def _alone(alone: None) -> None:
    """No other process does the work."""


def streams(split: Split) -> list[tuple[list[str], int]]:
    return [([pairs.decode(s) for s in t], int(label)) for t, label in zip(split.tokens, split.label, strict=True)]


def test_labels_and_both_texts(released: Path) -> None:
    built = pairs.build(ARGS, 64, COUNTS, 0, released, silent)
    assert {name: len(split) for name, split in built.items()} == COUNTS
    assert streams(built["val"]) == [([f"text {i} é", f"other {i} " + "x" * i], i % 2) for i in (10, 11, 12)]


def test_without_ids_and_by_another_name(released: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name, n, start in (("train", 6, 0), ("dev", 3, 10), ("test", 4, 20)):
        (other / f"{name}.tsv").write_text("\r\n".join(line(start + i, ids=False) for i in range(n)))
    theirs, ours = (pairs.build(ARGS, 64, COUNTS, 0, folder, silent) for folder in (released, other))
    assert all(streams(theirs[name]) == streams(ours[name]) for name in COUNTS)


def test_each_text_is_cut(released: Path) -> None:
    built = pairs.build(ARGS, 8, COUNTS, 0, released, silent)["train"]
    assert built.lengths.tolist() == [[8, 8]] * 6
    assert streams(built)[0][0][0].encode("utf-8", "surrogateescape") == b"text 0 \xc3"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("1.0\tP\tW\tonly one", r"train\.tsv:3: has 4 columns"),
        ("2.0\tP\tW\ta\tb", r"train\.tsv:3: its label '2\.0' is neither 0 nor 1"),
        ("1.0\tP\tW\t\tb", r"train\.tsv:3: the text is empty"),
    ],
)
def test_a_wrong_line_is_named(released: Path, wrong: str, message: str) -> None:
    path = released / "new_aan_pairs.train.tsv"
    rows = path.read_text().splitlines()
    rows[2] = wrong
    path.write_text("\n".join(rows))
    with pytest.raises(DataError, match=message):
        pairs.build(ARGS, 64, COUNTS, 0, released, silent)


def test_what_is_missing_is_named(released: Path) -> None:
    with pytest.raises(TaskError, match=r"splits\.val: asks for 4 pairs; .*eval\.tsv holds 3"):
        pairs.build(ARGS, 64, {**COUNTS, "val": 4}, 0, released, silent)
    (released / "also.dev.tsv").touch()
    with pytest.raises(DataError, match=r"looked for one \*val\.tsv or \*dev\.tsv; there is also\.dev\.tsv, new_aan"):
        pairs.files(released)
    with pytest.raises(DataError, match=r"put lra_release/tsv_data/new_aan.*--set task\.folder=FOLDER"):
        pairs.build(ARGS, 64, COUNTS, 0, None, silent)


def test_verify_holds_on_the_task_as_it_ships(released: Path) -> None:
    settings = [Overlay("test", {"folder": str(released), "splits": COUNTS, "length": 64})]
    checks = data.verify(tasks.load("retrieval", settings=settings))
    assert [check for check in checks if not check.ok] == []
