"""A user's own tables become splits; what is wrong in them is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from lra_bench import data
from lra_bench.config import tasks
from lra_bench.data import cache, silent
from lra_bench.data.sources import table
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

ARGS = table.Args(text="review", text_b=None, label="mood", answer="class", classes="bad,good")
MOODS = ("bad", "good")


def rows(n: int, start: int = 0) -> list[dict[str, Any]]:
    """Texts with all that needs a quote in a .csv, each of its own."""
    return [
        {"id": i, "review": f'row {i}, "quoted"\nand é', "reply": f"reply {i}", "mood": MOODS[i % 2]}
        for i in range(start, start + n)
    ]


def on_a_line(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a .tsv can hold: no ends of lines in it."""
    return [record | {"review": record["review"].replace("\n", " ")} for record in records]


def write(folder: Path, name: str, records: list[dict[str, Any]]) -> Path:
    path = folder / name
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(records), path, row_group_size=4)
        return folder
    with path.open("w", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(record) + "\n" for record in records)
        elif path.suffix == ".tsv":
            lines = [list(records[0]), *([str(value) for value in record.values()] for record in records)]
            file.writelines("\t".join(line) + "\n" for line in lines)
        else:
            writer = csv.DictWriter(file, list(records[0]))
            writer.writeheader()
            writer.writerows(records)
    return folder


def built(folder: Path, counts: dict[str, int], args: table.Args = ARGS, seed: int = 0) -> dict[str, Split]:
    return table.build(args, 64, counts, seed, folder, silent)


def texts(split: Split) -> list[tuple[str, int]]:
    return [(table.decode(t[0]), int(label)) for t, label in zip(split.tokens, split.label, strict=True)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_three_files_are_three_splits(tmp_path: Path, suffix: str) -> None:
    fits = on_a_line if suffix == ".tsv" else list
    for split, n, start in (("train", 6, 0), ("val", 2, 10), ("test", 3, 20)):
        write(tmp_path, split + suffix, fits(rows(n, start)))
    made = built(tmp_path, {"train": 6, "val": 2, "test": 3})
    assert texts(made["train"]) == [(r["review"], i % 2) for i, r in enumerate(fits(rows(6)))]
    assert texts(made["test"]) == [(r["review"], i % 2) for i, r in enumerate(fits(rows(3, 20)))]


def test_what_has_no_file_is_cut_from_train(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", [*rows(12), *rows(2)])
    counts = {"train": 8, "val": 3, "test": 3}
    for seed in range(5):
        made = built(tmp_path, counts, seed=seed)
        found = {split: set(texts(made[split])) for split in counts}
        assert len(found["val"] | found["test"]) == 6
        assert not found["train"] & (found["val"] | found["test"])
    assert texts(built(tmp_path, counts, seed=1)["val"]) != texts(built(tmp_path, counts, seed=2)["val"])


def test_classes_are_those_of_train_in_order(tmp_path: Path) -> None:
    ten = [{**row, "mood": i} for i, row in enumerate(rows(11))]
    write(tmp_path, "train.csv", ten)
    write(tmp_path, "val.csv", ten[:1])
    write(tmp_path, "test.csv", ten[:1])
    args = ARGS.model_copy(update={"classes": None})
    made = built(tmp_path, {"train": 11, "val": 1, "test": 1}, args)
    assert made["train"].label.tolist() == list(range(11)), "10 comes behind 9"


def test_two_columns_are_two_streams(tmp_path: Path) -> None:
    write(tmp_path, "train.tsv", on_a_line(rows(6)))
    args = ARGS.model_copy(update={"text_b": "reply"})
    made = built(tmp_path, {"train": 2, "val": 2, "test": 2}, args)
    assert made["train"].tokens.shape == (2, 2, 64)
    for split in made.values():
        for tokens, label in zip(split.tokens, split.label, strict=True):
            assert table.decode(tokens[1]).startswith("reply ")
            table.check(args, tokens, int(label))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("review,mod\na,bad\n", r"train\.csv:1: has no column 'mood'; did you mean 'mod'"),
        ("review,mood\na,bad\nb,goood\n", r"train\.csv:3: mood: 'goood' is no class; did you mean 'good'"),
        ("review,mood\na,bad\n,good\n", r"train\.csv:3: the text is empty"),
        ("review,mood\na,bad\nb\n", r"train\.csv:3: has 1 fields with a comma between them, and the head has 2$"),
        ('review,mood\na,bad\n"b,good\nc,bad\n', r"train\.csv:3: a quote is opened in this row, and not closed"),
        ("review,mood\n", r"train\.csv: holds no row"),
        (b"review,mood\ncaf\xe9,bad\n", r"train\.csv:2: no UTF-8: .* at byte 15 of the file"),
        ("review,mood\na,bad\n".encode("utf-16"), r"train\.csv:1: no UTF-8, but UTF-16"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "train.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        built(tmp_path, {"train": 1, "val": 1, "test": 1})


def test_lines_that_are_no_json_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"review": "a", "mood": "bad"}\n[1]\n')
    with pytest.raises(DataError, match=r"train\.jsonl:2: no JSON object"):
        built(tmp_path, {"train": 1, "val": 1, "test": 1})
    (tmp_path / "train.jsonl").write_text('{"review": \n')
    with pytest.raises(DataError, match=r"train\.jsonl:1: no JSON: Expecting value at column 12"):
        built(tmp_path, {"train": 1, "val": 1, "test": 1})


def test_the_folder_is_held_to_what_it_must_hold(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"looked for train\.csv or train\.tsv or train\.jsonl or train\.parquet; none is there"
    ):
        table.files(tmp_path)
    write(tmp_path, "train.csv", rows(3))
    with pytest.raises(TaskError, match=r"splits\.train: asks for 2 examples; .*train\.csv leaves 1"):
        built(tmp_path, {"train": 2, "val": 1, "test": 1})
    write(tmp_path, "train.tsv", on_a_line(rows(3)))
    with pytest.raises(DataError, match=r"train\.csv and train\.tsv; a split is one file, or all its shards"):
        table.files(tmp_path)
    (tmp_path / "train.csv").unlink()
    (tmp_path / "data").mkdir()
    write(tmp_path / "data", "train.tsv", on_a_line(rows(3)))
    with pytest.raises(DataError, match=r"train\.tsv and train\.tsv; a split is one file, or all its shards"):
        table.files(tmp_path)
    with pytest.raises(DataError, match=r"folder: null; name one that holds train\.csv"):
        table.build(ARGS, 64, {"train": 1}, 0, None, silent)


SHARDS = [f"train-0000{i}-of-00003.parquet" for i in range(3)]


def sharded(folder: Path) -> Path:
    """A folder as Hugging Face's `datasets` writes one."""
    (folder / "data").mkdir()
    for i, name in enumerate(SHARDS):
        write(folder / "data", name, rows(4, 4 * i))
    write(folder / "data", "validation-00000-of-00001.parquet", rows(3, 20))
    return folder


def test_shards_are_read_in_order_and_all_are_in_the_key(tmp_path: Path) -> None:
    made = built(sharded(tmp_path), {"train": 10, "val": 3, "test": 2})
    found = texts(made["train"]) + texts(made["test"])
    assert sorted(found) == sorted((r["review"], i % 2) for i, r in enumerate(rows(12)))
    assert texts(made["val"]) == [(r["review"], i % 2) for i, r in enumerate(rows(3, 20), 20)]
    files = table.files(tmp_path)
    assert list(files) == ["train-0", "train-1", "train-2", "val"]
    before = cache.hash_of(files["train-2"])
    write(tmp_path / "data", SHARDS[2], rows(4, 30))
    assert cache.hash_of(files["train-2"]) != before


def test_a_row_is_numbered_over_the_groups_of_a_file(tmp_path: Path) -> None:
    write(tmp_path, "train.parquet", [*rows(6), {"review": "a", "mood": "goood"}])
    with pytest.raises(DataError, match=r"train\.parquet:7: mood: 'goood' is no class; did you mean 'good'"):
        built(tmp_path, {"train": 1, "val": 1, "test": 1})


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"review": "a", "mod": "bad"}], r"train\.parquet: has no column 'mood'; did you mean 'mod'"),
        (
            [{"review": "a", "mood": "bad"}, {"review": None, "mood": "bad"}],
            r"train\.parquet:2: its column 'review' is missing",
        ),
        ([{"review": b"a", "mood": "bad"}], r"train\.parquet:1: its column 'review' holds bytes, no text"),
        ([{"review": ["a"], "mood": "bad"}], r"train\.parquet:1: its column 'review' holds list, no text"),
    ],
)
def test_what_is_wrong_in_a_parquet_is_named(tmp_path: Path, records: list[dict[str, Any]], message: str) -> None:
    write(tmp_path, "train.parquet", records)
    with pytest.raises(DataError, match=message):
        built(tmp_path, {"train": 1, "val": 1, "test": 1})


def test_a_damaged_parquet_and_a_missing_shard_are_named(tmp_path: Path) -> None:
    folder = sharded(tmp_path) / "data"
    path = folder / SHARDS[1]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=rf"{SHARDS[1]}: damaged, or no \.parquet: "):
        built(tmp_path, {"train": 1, "val": 1, "test": 1})
    path.unlink()
    with pytest.raises(DataError, match=rf"3 shards of train, and {SHARDS[1]} is missing"):
        table.files(tmp_path)
    write(folder, SHARDS[1], rows(4))
    write(folder, "train.parquet", rows(4))
    with pytest.raises(DataError, match=r"3 shards of train, and there is train\.parquet"):
        table.files(tmp_path)


def test_a_task_of_ones_own_from_one_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").mkdir()
    write(tmp_path, "train.csv", rows(30))
    yaml = """\
        {title: Moods, source: table,
         args: {text: review, text_b: null, label: mood, answer: class, classes: 'bad,good'},
         folder: .., length: 64, classes: 2, splits: {train: 20, val: 5, test: 5}}
        """
    (tmp_path / "tasks/moods.yaml").write_text(yaml)
    checks = data.verify(tasks.load("moods"))
    assert [check for check in checks if not check.ok] == []


def test_labels_are_lists_or_names_with_a_bar_between(tmp_path: Path) -> None:
    said = ["happy|long", "", "long", "sad| long"]
    write(tmp_path, "train.csv", [{"review": f"row {i}", "mood": mood} for i, mood in enumerate(said)])
    args = ARGS.model_copy(update={"answer": "labels", "classes": None})
    counts = {"train": 2, "val": 1, "test": 1}
    found = {text: bits.tolist() for split in built(tmp_path, counts, args).values() for text, bits in bits_of(split)}
    assert found == {"row 0": [1, 1, 0], "row 1": [0, 0, 0], "row 2": [0, 1, 0], "row 3": [0, 1, 1]}
    (tmp_path / "train.csv").unlink()
    lists = [[part.strip() for part in mood.split("|") if part] for mood in said]
    write(tmp_path, "train.jsonl", [{"review": f"row {i}", "mood": mood} for i, mood in enumerate(lists)])
    again = {text: bits.tolist() for split in built(tmp_path, counts, args).values() for text, bits in bits_of(split)}
    assert again == found


def bits_of(split: Split) -> list[tuple[str, np.ndarray]]:
    assert split.label.dtype in (np.uint8, np.float32)
    return [(table.decode(tokens[0]), label) for tokens, label in zip(split.tokens, split.label, strict=True)]


def test_numbers_are_of_one_column_or_several(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", [{"review": f"row {i}", "x": i / 4, "y": f"{i}e1"} for i in range(4)])
    args = ARGS.model_copy(update={"answer": "numbers", "label": "x, y", "classes": None})
    made = built(tmp_path, {"train": 2, "val": 1, "test": 1}, args)
    found = {text: numbers.tolist() for split in made.values() for text, numbers in bits_of(split)}
    assert found == {f"row {i}": [i / 4, 10.0 * i] for i in range(4)}
    for split in made.values():
        for tokens, label in zip(split.tokens, split.label, strict=True):
            table.check(args, tokens, label)
    assert table.row(made["train"].tokens[0], np.array([0.1, 2], np.float32)).startswith("0.1 2\t")


@pytest.mark.parametrize("number", ["", "many", "nan", "inf", "1_0"])
def test_what_is_no_number_is_named(tmp_path: Path, number: str) -> None:
    write(tmp_path, "train.csv", [{"review": "a", "mood": 1.5}, {"review": "b", "mood": number}])
    args = ARGS.model_copy(update={"answer": "numbers", "classes": None})
    with pytest.raises(DataError, match=rf"train\.csv:3: mood: '?{number}'? is no number"):
        built(tmp_path, {"train": 1, "val": 1, "test": 1}, args)


@pytest.mark.parametrize(
    ("metric", "answer", "classes", "said"),
    [
        ("accuracy", "numbers", 2, r"metric: accuracy is of a class"),
        ("exact-match", "class", 2, r"metric: exact-match is of a bit a label"),
        ("exact-match", "labels", 3, r"C 3, not uint8 \[\d+, 2\]"),
        ("mean-squared-error", "class", 1, r"metric: mean-squared-error is of numbers"),
        ("bits", "class", 2, r"metric: bits is of the symbol at each place"),
    ],
)
def test_a_metric_that_is_not_of_such_answers_is_refused(
    tmp_path: Path, metric: str, answer: str, classes: int, said: str
) -> None:
    write(tmp_path, "train.csv", [row | {"mood": 1 + i % 2} for i, row in enumerate(rows(30))])
    path = tmp_path / "moods.yaml"
    path.write_text(
        f"{{title: Moods, source: table, folder: ., length: 64, classes: {classes}, metric: {metric}, "
        f"args: {{text: review, text_b: null, label: mood, answer: {answer}, classes: null}}, "
        "splits: {train: 20, val: 5, test: 5}}"
    )
    with pytest.raises(TaskError, match=said):
        data.prepare(tasks.load(str(path)))
