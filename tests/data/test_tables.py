"""A user's own tables are read as they are, or refused with file and line, in each of the formats alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from lra_bench.data import silent
from lra_bench.data.formats import tables
from lra_bench.data.made import Made
from lra_bench.data.sources import table
from lra_bench.errors import DataError, TaskError

ARGS = table.Args(text="text", text_b=None, label="label", answer="class", classes="bad,good")
NULL = ARGS.model_copy(update={"classes": None})
COUNTS = {"train": 4, "val": 2, "test": 2}
PAIRS = [(f"row {i}", ("bad", "good")[i % 2]) for i in range(8)]


def csv_of(pairs: list[tuple[str, str]], separator: str = ",") -> str:
    return f"text{separator}label\n" + "".join(f"{text}{separator}{label}\n" for text, label in pairs)


def jsonl_of(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def built(folder: Path, args: table.Args = ARGS, counts: dict[str, int] = COUNTS, length: int = 64) -> Made:
    return table.build(args, length, counts, 0, folder, silent)


def texts(made: Made) -> list[str]:
    return sorted(table.decode(tokens[0]) for split in made.values() for tokens in split.tokens)


def said(folder: Path, args: table.Args = ARGS) -> str:
    with pytest.raises(DataError) as error:
        built(folder, args)
    return str(error.value).replace(f"{folder}/", "")


def test_a_tsv_has_no_quotes(tmp_path: Path) -> None:
    """A field that begins or ends with a quote is a row's own; only whoever says so has them as Excel writes them."""
    pairs = [('"cold', "bad"), ("plain", "good"), ('warm"', "good"), ('"whole"', "bad"), *PAIRS[:4]]
    (tmp_path / "train.tsv").write_text(csv_of(pairs, "\t"))
    made = built(tmp_path)
    assert texts(made) == sorted(text for text, _ in pairs)
    (note,) = made.about.notes
    assert note.startswith("train.tsv: 1 texts begin and end with a quote, which is text in a .tsv; `quoted: true`")
    quoted = [('"a\ttab, and ""quotes"""', "bad"), *PAIRS[:7]]
    (tmp_path / "train.tsv").write_text(csv_of(quoted, "\t"))
    assert "train.tsv:2: has 3 fields with a tab between them, and the head has 2" in said(tmp_path)
    assert 'a\ttab, and "quotes"' in texts(built(tmp_path, ARGS.model_copy(update={"quoted": True})))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "train.csv",
            "label,text\ngood,warm, bright\n",
            "train.csv:2: has 3 fields with a comma between them, and the",
        ),
        ("train.tsv", "label\ttext\n\ngood\n", "train.tsv:3: has 1 fields with a tab between them, and the head has 2"),
        ("train.csv", "label,text,label\ngood,warm,bad\n", "train.csv:1: has the column 'label' twice"),
        ("train.csv", "label,text, label\ngood,warm,bad\n", "train.csv:1: has the column 'label' twice"),
        ("train.csv", "id,label,text,id\n1,good,warm,1\n", "train.csv:1: has the column 'id' twice"),
        ("train.tsv", "\nlabel\ttext\tlabel\n", "train.tsv:2: has the column 'label' twice"),
        ("train.jsonl", '\n{"text": "a", "label": "bad", "text": "b"}\n', "train.jsonl:2: has the column 'text' twice"),
        (
            "train.jsonl",
            '{"text": "a", "label": "bad"}\n{"text": 1',
            "train.jsonl:2: no JSON: Expecting ',' delimiter at",
        ),
        ("train.jsonl", '{"text": "\\ud800", "label": "bad"}', "train.jsonl:1: no UTF-8: character 0 of the text is a"),
        (
            "train.csv",
            'text,label\na,bad\n"b \\"c\\" d",good\n',
            "train.csv:3: no .csv: ',' expected after '\"'; a quote",
        ),
        ("train.csv", 'text,label\n"b\nc" d,good\n', "in the row that begins in line 2; a quote within"),
        (
            "train.csv",
            'text,label\na,bad\n"b,good\nc,bad\n',
            "train.csv:3: a quote is opened in this row, and not closed",
        ),
        (
            "train.csv",
            'text,label\na,bad\n"cold,bad\nb,good\nwarm",good\nc,bad\n',
            "train.csv:3: a quote that is opened here makes 3 lines one row, and each of them looks like a row",
        ),
    ],
)
def test_a_row_that_is_none_is_refused_with_its_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    assert message in said(tmp_path)


def test_what_is_only_unusual_is_read(tmp_path: Path) -> None:
    """Kaggle's blank columns, blank lines, texts over several lines with commas, and a BOM."""
    rows = "".join(f"{text},{label},,\n\n" for text, label in PAIRS[:7])
    (tmp_path / "train.csv").write_text(f'\ufefftext,label,,\n \n{rows}"Well,\nso, ""it"" is",good,,\n\n')
    made = built(tmp_path)
    assert 'Well,\nso, "it" is' in texts(made)
    assert any("8 rows of" in note and "or texts go over several" in note for note in made.about.notes)
    (tmp_path / "train.csv").unlink()
    (tmp_path / "train.jsonl").write_text(jsonl_of([{"text": t, "label": lab} for t, lab in PAIRS]) + "\n  \n")
    assert texts(built(tmp_path)) == sorted(text for text, _ in PAIRS)


def test_a_number_after_a_comma_makes_no_row_of_a_text_of_two_lines(tmp_path: Path) -> None:
    rows = [('"I rate it 4,5\nbut"', "5"), *((f"row {i}", str(4 + i % 2)) for i in range(7))]
    (tmp_path / "train.csv").write_text(csv_of(rows))
    assert "I rate it 4,5\nbut" in texts(built(tmp_path, NULL))
    (tmp_path / "train.csv").write_text(csv_of([('"a', "5"), ("b", "4"), ('c"', "5"), *rows[1:]]))
    assert said(tmp_path, NULL).startswith("train.csv:2: a quote that is opened here makes 3 lines one row")


def test_a_parquet_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    columns = [pyarrow.array([text for text, _ in PAIRS]), pyarrow.array([label for _, label in PAIRS])]
    twice = pyarrow.Table.from_arrays([*columns, columns[0]], names=["text", "label", "text"])
    parquet.write_table(twice, tmp_path / "train.parquet")
    assert said(tmp_path) == "train.parquet: has the column 'text' twice"


MISSING = ["", "  ", "NaN", "nan", "NA", "N/A", "null", "None", "<NA>", "#N/A", "?"]


@pytest.mark.parametrize("word", MISSING)
def test_a_label_that_is_missing_is_refused_in_each_spelling(tmp_path: Path, word: str) -> None:
    (tmp_path / "train.csv").write_text(csv_of([*PAIRS[:3], ("late", word)]))
    assert said(tmp_path, NULL).startswith("train.csv:5: its column 'label' is missing: '")
    assert said(tmp_path).startswith(f"train.csv:5: label: '{word.strip()}' is no class; ")


@pytest.mark.parametrize("missing", [None, float("nan")])
@pytest.mark.parametrize("column", ["text", "label"])
def test_null_and_nan_are_missing_in_any_column(tmp_path: Path, column: str, missing: object) -> None:
    found = [{"text": text, "label": label} for text, label in PAIRS[:3]]
    (tmp_path / "train.jsonl").write_text(jsonl_of([*found, {"text": "a", "label": "bad", column: missing}]))
    assert said(tmp_path, NULL) == f"train.jsonl:4: its column '{column}' is missing"
    (tmp_path / "train.jsonl").unlink()
    numbers = pyarrow.table({"text": [1.0, 2.0, missing], "label": [0.0, 1.0, missing]})
    parquet.write_table(numbers, tmp_path / "train.parquet")
    assert "train.parquet:3: its column 'label' is missing" in said(tmp_path, NULL)


def test_a_word_for_missing_may_be_a_text_and_a_name_that_is_said(tmp_path: Path) -> None:
    rows = [("NA", "none"), ("null", "some"), *((f"row {i}", ("none", "some")[i % 2]) for i in range(6))]
    (tmp_path / "train.csv").write_text(csv_of(rows))
    assert {"NA", "null"} <= set(texts(built(tmp_path, ARGS.model_copy(update={"classes": "none,some"}))))
    assert "if that is a name, say all of them: args.classes: 'none,...'" in said(tmp_path, NULL)
    (tmp_path / "train.csv").write_text(csv_of([*PAIRS[:2], (" ", "bad")]))
    assert said(tmp_path) == "train.csv:4: the text is blank"


@pytest.mark.parametrize("classes", ["bad,good,bad", "bad,,good", "bad, bad", ""])
def test_classes_are_named_once(classes: str) -> None:
    with pytest.raises(ValueError, match=r"twice|missing"):
        table.Args(**{**ARGS.model_dump(), "classes": classes})


def test_no_argument_is_without_effect(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(csv_of(PAIRS))
    quoted = ARGS.model_copy(update={"quoted": True})
    assert said(tmp_path, quoted) == "train.csv: args.quoted: true, which is of .tsv alone; leave it out"
    with pytest.raises(ValueError, match="classes: 'bad,good'; must be null where the answer is numbers"):
        table.Args(**{**ARGS.model_dump(), "answer": "numbers"})


@pytest.mark.parametrize("name", ["dev", "valid", "validation", "eval", "Val"])
def test_val_has_the_names_that_it_has_in_the_field(tmp_path: Path, name: str) -> None:
    (tmp_path / "train.csv").write_text(csv_of(PAIRS))
    (tmp_path / f"{name}.csv").write_text(csv_of([("mine", "bad"), ("yours", "good")]))
    (tmp_path / "holdout.csv").write_text(csv_of(PAIRS))
    made = built(tmp_path)
    assert [table.decode(tokens[0]) for tokens in made["val"].tokens] == ["mine", "yours"]
    assert any(note.startswith("not read, for") and note.endswith(": holdout.csv") for note in made.about.notes)
    (tmp_path / "val.csv").write_text(csv_of(PAIRS)) if name != "Val" else (tmp_path / "dev.csv").write_text("")
    with pytest.raises(DataError, match="a split is one file"):
        tables.tables(tmp_path)


def test_the_names_of_the_classes_are_known_and_where_they_stand_first(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(csv_of([*PAIRS, ("text", "label")]))
    about = built(tmp_path, NULL, COUNTS | {"train": 5}).about
    assert about.classes == ["bad", "good", "label"]
    assert (about.first["label"], about.times["label"]) == ("train.csv:10", 1)
    assert built(tmp_path, NULL.model_copy(update={"classes": "label,bad,good"})).about.classes == [
        "label",
        "bad",
        "good",
    ]


NUMBERS = NULL.model_copy(update={"answer": "numbers"})


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([1, 2, "1e39"], "train.csv:4: label: 1e+39 is beyond 1e+15: its square is beyond float32"),
        ([1, 2, "1e400"], "train.csv:4: label: inf is no number"),
        (
            [16777216.0, 16777217.0, 16777216.0],
            "train.csv: label: from 16777216 to 16777217, a standard deviation of 0.471",
        ),
        (
            ["1000000000.01", "1000000000.02", "1000000000.03"],
            "where float32 has steps of 64; write the numbers less 1e+09",
        ),
        ([1e-30, 2e-30, 3e-30], "a standard deviation of 8.16e-31: the squares of such numbers are below"),
        (["NA", 1, 2], "train.csv:2: label: 'NA' is no number"),
    ],
)
def test_numbers_that_float32_does_not_hold_are_refused(tmp_path: Path, numbers: list[Any], message: str) -> None:
    (tmp_path / "train.csv").write_text(csv_of([(f"row {i}", str(n)) for i, n in enumerate(numbers)]))
    assert message in said(tmp_path, NUMBERS)


def test_numbers_that_it_holds_are_read(tmp_path: Path) -> None:
    for numbers in ([1.6e9 + 86400 * i for i in range(8)], [0.1] * 8, [2000 + i for i in range(8)]):
        (tmp_path / "train.csv").write_text(csv_of([(f"row {i}", str(n)) for i, n in enumerate(numbers)]))
        assert built(tmp_path, NUMBERS)["train"].label.dtype == "float32"


def test_fewer_rows_than_a_file_has_are_drawn_by_the_seed(tmp_path: Path) -> None:
    """Of each split: the first would be of one class in a sorted file. What is left out, or cut, is counted."""
    for split in ("train", "val", "test"):
        by_class = [(f"{split} {i} {'long' * 20}", ("bad", "good")[i // 50]) for i in range(100)]
        (tmp_path / f"{split}.csv").write_text(csv_of(by_class))
    counts = {"train": 40, "val": 20, "test": 20}
    made = built(tmp_path, counts=counts)
    for split in counts:
        assert set(made[split].label.tolist()) == {0, 1}
        assert sorted(made[split].label.tolist()) == made[split].label.tolist(), "in the file's order"
    other = table.build(ARGS, 64, counts, 1, tmp_path, silent)
    assert texts(other) != texts(made)
    assert (made.about.unused_rows, made.about.truncated) == (220, 80)
    assert "train.csv: 60 of 100 rows are in no split" in made.about.notes
    assert "80 of 80 examples are longer than 64 and were cut" in made.about.notes


def test_too_many_rows_asked_for_are_refused_with_the_reason_and_the_line_to_write(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(csv_of([(f"row {i}", "bad") for i in range(600)]))
    with pytest.raises(TaskError) as error:
        built(tmp_path, counts={"train": 800, "val": 100, "test": 100})
    assert str(error.value).endswith(
        "train.csv leaves 400, of 600 rows; write splits: {train: 400, val: 100, test: 100}"
    )
    (tmp_path / "train.csv").write_text(csv_of([(f"{'Dear Sir; ' * 7}{i}", "bad") for i in range(64)]))
    with pytest.raises(TaskError) as error:
        built(tmp_path, counts={"train": 40, "val": 8, "test": 8})
    assert str(error.value).endswith(
        "0, of 64 rows; 64 of 64 rows of train.csv are equal to others in their first 64 bytes, and stay in train"
    )
