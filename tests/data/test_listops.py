"""The language, the generator and the reader of the released files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lra_bench import data
from lra_bench.config import tasks
from lra_bench.data import cache, checksums, silent
from lra_bench.data.sources.synthetic import listops
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

ARGS = listops.Args(min_length=5, max_length=60, max_depth=5, max_args=4)
LONG = listops.Args(min_length=500, max_length=2000, max_depth=10, max_args=10)
ANY = listops.Args(min_length=0, max_length=10_000, max_depth=40, max_args=10)
COUNTS = {"train": 300, "val": 40, "test": 60}

SHARES = [0.170, 0.091, 0.073, 0.078, 0.089, 0.090, 0.082, 0.076, 0.077, 0.174]  # 6,000 of LRA's own process
LENGTH, SPREAD = 1032.7, 393.0  # mean and standard deviation of 51,485 drawn by a plain recursion

Tree = int | tuple[str, list[Any]]


def generated(args: listops.Args = ARGS, length: int = 64, seed: int = 0, **counts: int) -> dict[str, Split]:
    return listops.build(args, length, counts or COUNTS, seed, None, silent)


def written(folder: Path, splits: Mapping[str, Split], header: bool = True) -> Path:
    """The splits as the release has them."""
    for name, split in splits.items():
        rows = [listops.row(tokens, label) for tokens, label in zip(split.tokens, split.label, strict=True)]
        (folder / f"basic_{name}.tsv").write_text("\n".join([listops.HEADER] * header + rows) + "\n")
    return folder


def assert_same(one: Mapping[str, Split], other: Mapping[str, Split]) -> None:
    assert one.keys() == other.keys()
    assert cache.content_of(one) == cache.content_of(other)


# the language


def text(tree: Tree) -> str:
    return str(tree) if isinstance(tree, int) else f"[{tree[0]} {' '.join(map(text, tree[1]))} ]"


def value(tree: Tree) -> int:
    """The value by a plain recursion."""
    if isinstance(tree, int):
        return tree
    name, below = tree[0], sorted(map(value, tree[1]))
    half = len(below) // 2
    middle = below[half] if len(below) % 2 else (below[half - 1] + below[half]) // 2
    return {"MIN": below[0], "MAX": below[-1], "SM": sum(below) % 10, "MED": middle}[name]


trees = st.recursive(
    st.integers(0, 9),
    lambda below: st.tuples(st.sampled_from(["MIN", "MAX", "MED", "SM"]), st.lists(below, min_size=2, max_size=10)),
    max_leaves=60,
)


@given(trees)
@settings(deadline=None)
def test_the_value_is_that_of_a_plain_recursion(tree: Tree) -> None:
    tokens = listops.encode(text(tree))
    assert listops.evaluate(tokens) == value(tree)
    listops.check(ANY, tokens[None], value(tree))
    with pytest.raises(DataError, match="its value is given as"):
        listops.check(ANY, tokens[None], (value(tree) + 1) % 10)


@given(trees)
@settings(deadline=None)
def test_text_and_rows_are_read_back(tree: Tree) -> None:
    tokens = listops.encode(text(tree))
    assert listops.decode(np.pad(tokens, (0, 3))) == text(tree)
    source, label = listops.row(np.pad(tokens, (0, 3))[None], value(tree)).split("\t")
    assert int(label) == value(tree)
    assert np.array_equal(listops.encode(source), tokens)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("[MED 3 4 ]", 3),
        ("[MED 0 9 ]", 4),
        ("[MED 9 1 5 ]", 5),
        ("[MED 0 0 1 9 ]", 0),
        ("[SM 9 9 9 ]", 7),
        ("[SM 5 5 ]", 0),
        ("[MAX 4 [MIN 2 3 ] 0 [MED 1 5 8 9 2 ] ]", 5),
        ("( ( ( [MAX 2 ) 9 ) X )", 9),
        ("7", 7),
    ],
)
def test_values(expression: str, expected: int) -> None:
    assert listops.evaluate(listops.encode(expression)) == expected


def test_the_row_is_that_of_the_release() -> None:
    assert listops.row(listops.encode("[MAX 2 9 ]")[None], 9) == "( ( ( [MAX 2 ) 9 ) ] )\t9"
    nested = "( ( ( [SM ( ( ( [MED 0 ) 1 ) ] ) ) 4 ) ] )\t4"
    assert listops.row(listops.encode("[SM [MED 0 1 ] 4 ]")[None], 4) == nested


def test_the_vocabulary_is_fixed() -> None:
    assert listops.vocabulary(ARGS) == ("<pad>", *"0123456789", "[MAX", "[MED", "[MIN", "[SM", "]")


@pytest.mark.parametrize("expression", ["", "]", "[MAX 1 2", "1 2", "[MAX 1 2 ] ]", "[MAX 1 2 ] 3"])
def test_malformed_expressions(expression: str) -> None:
    with pytest.raises(DataError, match="malformed"):
        listops.evaluate(listops.encode(expression))


def test_both_bounds_of_the_length_are_strict() -> None:
    args = listops.Args(min_length=4, max_length=6, max_depth=2, max_args=5)
    listops.check(args, listops.encode("[MAX 1 2 3 ]")[None], 3)
    for expression in ("[MAX 2 3 ]", "[MAX 0 1 2 3 ]"):
        with pytest.raises(DataError, match="tokens long, not between 4 and 6"):
            listops.check(args, listops.encode(expression)[None], 3)


# the generator


def broken(args: listops.Args, tokens: np.ndarray, label: int) -> bool:
    try:
        listops.check(args, tokens, label)
    except DataError:
        return True
    return False


def test_the_bytes_are_the_same_for_ever() -> None:
    """If this fails, what a seed gives has changed. Raise VERSION in listops.py, and only then write the new hash."""
    assert listops.VERSION == 1
    assert cache.content_of(generated()) == "fd4fe6edf2135053b57170c196b867707e3125afbd0a85c4548ad9b0977946b8"


def test_any_number_of_processes_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"train": 4000, "val": 100, "test": 100}
    args = listops.Args(min_length=40, max_length=400, max_depth=8, max_args=6)
    found = []
    for processes in (1, 2):
        monkeypatch.setattr("lra_bench.data.workers.processes", lambda n=processes: n)
        found.append(generated(args, 400, **counts))
    assert_same(*found)


@pytest.mark.usefixtures("alone")
def test_statistics_are_those_of_the_documented_process() -> None:
    split = generated(LONG, 2048, train=4000)["train"]
    shares = np.bincount(split.label, minlength=10) / len(split)
    error = np.sqrt(np.array(SHARES) * (1 - np.array(SHARES)) * (1 / len(split) + 1 / 6000))
    assert np.all(np.abs(shares - SHARES) < 4 * error), shares
    assert abs(split.lengths.mean() - LENGTH) < 4 * SPREAD / np.sqrt(len(split))
    symbols = np.bincount(split.tokens.ravel(), minlength=16)
    assert symbols[11:15].sum() == symbols[15], "as many brackets as operators"
    assert np.ptp(symbols[11:15]) / symbols[11:15].mean() < 0.02, "operators are uniform"
    assert np.ptp(symbols[1:11]) / symbols[1:11].mean() < 0.02, "digits are uniform"


@pytest.mark.usefixtures("alone")
def test_every_generated_example_is_of_the_language() -> None:
    for args, length in ((ARGS, 64), (LONG, 2048), (ARGS, 20)):
        split = generated(args, length, train=400)["train"]
        for tokens, lengths, label in zip(split.tokens, split.lengths, split.label, strict=True):
            listops.check(args, tokens, label)
            assert np.all((tokens[0] > 0) == (np.arange(length) < lengths[0]))


@pytest.mark.usefixtures("alone")
def test_lengths_depths_and_arguments_reach_their_bounds_and_no_further() -> None:
    args = listops.Args(min_length=5, max_length=30, max_depth=5, max_args=4)
    split = generated(args, 64, train=3000)["train"]
    assert (split.lengths.min(), split.lengths.max()) == (6, 29)
    assert generated(args, 20, train=3000)["train"].lengths.max() == 20
    for tighter in ({"max_depth": 4}, {"max_args": 3}):
        narrow = args.model_copy(update=tighter)
        assert 0 < sum(broken(narrow, *example) for example in zip(split.tokens, split.label, strict=True)) < 3000


@pytest.mark.usefixtures("alone")
def test_no_example_stands_twice() -> None:
    tight = listops.Args(min_length=3, max_length=8, max_depth=3, max_args=3)
    splits = generated(tight, 8, train=2000, val=200, test=200)
    rows = [tokens.tobytes() for split in splits.values() for tokens in split.tokens]
    assert len(rows) == len(set(rows)) == 2400


@pytest.mark.usefixtures("alone")
def test_test_and_val_stay_as_they_are_when_train_is_longer() -> None:
    one, other = generated(), generated(train=350, val=40, test=60)
    for name in ("val", "test"):
        assert np.array_equal(one[name].tokens, other[name].tokens)
    assert np.array_equal(one["train"].tokens, other["train"].tokens[:300])


@pytest.mark.usefixtures("alone")
def test_seeds_differ() -> None:
    assert not np.array_equal(generated(seed=0)["test"].tokens, generated(seed=1)["test"].tokens)


@pytest.mark.usefixtures("alone")
def test_what_cannot_be_generated() -> None:
    with pytest.raises(TaskError, match=r"length 5: .* args.min_length 5"):
        generated(ARGS, 5)
    with pytest.raises(TaskError, match="11 examples are asked for, 10 were found"):
        generated(listops.Args(min_length=0, max_length=2, max_depth=1, max_args=2), 8, train=11)


# the reader


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("header", [True, False])
def test_what_is_written_is_read_back(tmp_path: Path, header: bool) -> None:
    splits = generated()
    assert_same(splits, listops.build(ARGS, 64, COUNTS, 1, written(tmp_path, splits, header), silent))


@pytest.mark.usefixtures("alone")
def test_swapped_columns_and_x_for_the_bracket(tmp_path: Path) -> None:
    splits = generated()
    written(tmp_path, splits)
    for path in tmp_path.glob("*.tsv"):
        columns = (line.replace(" ]", " X").split("\t") for line in path.read_text().splitlines())
        path.write_text("".join(f"{target}\t{source}\r\n" for source, target in columns))
    assert_same(splits, listops.build(ARGS, 64, COUNTS, 0, tmp_path, silent))


@pytest.mark.slow
def test_several_processes_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = generated()
    monkeypatch.setattr("lra_bench.data.workers.processes", lambda: 2)
    assert_same(splits, listops.build(ARGS, 64, COUNTS, 0, written(tmp_path, splits), silent))


@pytest.mark.usefixtures("alone")
def test_a_mark_at_the_head_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    splits = generated()
    for path in written(tmp_path, splits).glob("*.tsv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\n\n", 30) + b"\n \n")
    assert_same(splits, listops.build(ARGS, 64, COUNTS, 0, tmp_path, silent))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("( ( ( [MAX 2 ) ( ( ( [MIN 8 ) 1 ) ] ) ) ] )\t3", "its value is given as 3 and is 2"),
        ("[MAX 2 [FIRST 8 1 ] ]\t8", r"unknown token '\[FIRST'"),
        ("[MAX 2 [MIN 8 1 ]\t2", r"malformed: \[MAX is not closed"),
        ("[MAX 2 [MIN 8 1 ] ] ]\t2", "malformed: a bracket is closed"),
        ("[MAX 2 8 ]\t8", "4 tokens long, not between 5 and 60"),
        (f"[MAX {'[MIN 1 2 3 ] ' * 4}]\t1", None),
        (f"[MAX {'[MIN 1 2 3 ] ' * 5}]\t1", "of 5 arguments, not of 2 to 4"),
        ("[MAX 2 [MIN 8 ] 3 4 ]\t8", r"\[MIN of 1 arguments"),
        ("[MAX 1 [MAX 1 [MAX 1 [MAX 1 2 ] ] ] ]\t2", None),
        ("[MAX 1 [MAX 1 [MAX 1 [MAX 1 [MAX 1 2 ] ] ] ] ]\t2", "6 levels deep, more than max_depth 5"),
        (f"[SM {' '.join(['[SM 1 1 [SM 1 1 1 1 ] [SM 1 1 1 1 ] ]'] * 4)} ]\t0", "66 tokens long, more than length 64"),
        ("[MAX 2 [MIN 8 1 ] ]\tx", "its value 'x' is no digit"),
        ("[MAX 2 [MIN 8 1 ] ]", "has 1 columns"),
        ("[MAX 2 [MIN 8 1 ] ]\t2\t2", "has 3 columns"),
        ("5", "has 1 columns"),
    ],
)
def test_rows_that_are_refused(tmp_path: Path, line: str, fault: str | None) -> None:
    written(tmp_path, generated())
    path = tmp_path / "basic_val.tsv"
    lines = path.read_text().splitlines()
    lines[20] = line
    path.write_text("\n".join(lines) + "\n")
    if fault is None:
        listops.build(ARGS, 64, COUNTS, 0, tmp_path, silent)
    else:
        with pytest.raises(DataError, match=rf"basic_val\.tsv:21: .*{fault}"):
            listops.build(ARGS, 64, COUNTS, 0, tmp_path, silent)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("number", [2, 257, 258, 301])
def test_a_refused_row_is_named_by_its_line(tmp_path: Path, number: int) -> None:
    path = written(tmp_path, generated()) / "basic_train.tsv"
    lines = path.read_text().splitlines()
    lines[number - 1] = "7"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=rf"basic_train\.tsv:{number}: has 1 columns"):
        listops.build(ARGS, 64, COUNTS, 0, tmp_path, silent)


@pytest.mark.usefixtures("alone")
def test_files_that_are_refused(tmp_path: Path) -> None:
    written(tmp_path, generated())
    for rows in (299, 301):
        with pytest.raises(DataError, match=rf"basic_train\.tsv: has 300 rows, but splits\.train asks for {rows}"):
            listops.build(ARGS, 64, {**COUNTS, "train": rows}, 0, tmp_path, silent)
    (tmp_path / "basic_test.tsv").unlink()
    with pytest.raises(DataError, match=r"basic_train.tsv, basic_val.tsv, basic_test.tsv; not there: basic_test.tsv"):
        listops.build(ARGS, 64, COUNTS, 0, tmp_path, silent)


@pytest.mark.skipif("LRA_LISTOPS_TSV" not in os.environ, reason="LRA_LISTOPS_TSV names no file of original rows")
def test_original_rows_are_reproduced() -> None:
    for line in Path(os.environ["LRA_LISTOPS_TSV"]).read_text(encoding="utf-8").splitlines():
        label, source = line.split("\t")
        tokens = listops.encode(source)[None]
        listops.check(ANY, tokens, int(label))
        assert listops.row(tokens, int(label)) == f"{source}\t{label}"


# the task that ships


def test_the_shipped_task_and_its_variant_are_understood() -> None:
    for variant in (None, *tasks.variants("listops")):
        task = tasks.load("listops", variant=variant)
        args = data.arguments(task)
        assert isinstance(args, listops.Args)
        assert args.max_length <= task.length + 1, "an expression would not fit"
        assert len(data.vocabulary(task)) == 16


@pytest.mark.sweep
def test_the_shipped_task_at_full_size(tmp_path: Path) -> None:
    """All 100,000 are as they always were; of the labels a part is derived again."""
    task = tasks.load("listops")
    built = data.prepare(task)
    assert built.hash == checksums.sha256(task)
    fewer = task.model_copy(update={"splits": {"train": 3000, "val": 2000, "test": 2000}})
    assert [check for check in data.verify(fewer) if not check.ok] == []
    assert np.array_equal(data.prepare(fewer).splits["test"].tokens, built.splits["test"].tokens)
    released = fewer.model_copy(update={"folder": str(written(tmp_path, data.prepare(fewer).splits))})
    assert data.prepare(released).hash == data.prepare(fewer).hash
