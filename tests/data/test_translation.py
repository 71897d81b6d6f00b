"""A user's pairs become a source, a target that grows and what follows at each of its places."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lra_bench.data import silent
from lra_bench.data.made import Made
from lra_bench.data.sources import translation
from lra_bench.data.sources.translation import END, START, Args
from lra_bench.errors import DataError, TaskError

L = 12
ARGS = Args(source="source", target="target", header=True, quoted=False)
WITHOUT = ARGS.model_copy(update={"header": False, "source": "1", "target": "2"})
COUNTS = {"train": 4, "val": 2, "test": 2}


def pairs(n: int, first: int = 0) -> list[tuple[str, str]]:
    """Of words of eight bytes, one of them no ASCII, each of its own."""
    return [(f"né {i:04d}", f"{i:04d} én") for i in range(first, first + n)]


def write(path: Path, rows: list[tuple[str, str]], head: str = "source\ttarget\n") -> Path:
    path.write_text(head + "".join(f"{source}\t{target}\n" for source, target in rows), encoding="utf-8")
    return path


def built(folder: Path, args: Args = ARGS, counts: dict[str, int] = COUNTS, seed: int = 0) -> Made:
    return translation.build(args, L, counts, seed, folder, silent)


def read(made: Made) -> dict[str, list[tuple[str, str]]]:
    return {
        name: [
            (translation.decode(tokens[0]), translation.decode(label))
            for tokens, label in zip(split.tokens, split.label, strict=True)
        ]
        for name, split in made.items()
    }


def test_the_target_begins_with_its_start_and_is_asked_for_up_to_its_end(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", pairs(4))
    write(tmp_path / "dev.tsv", pairs(2, 10))
    write(tmp_path / "test.tsv", pairs(2, 20))
    made = built(tmp_path)
    assert read(made) == {"train": pairs(4), "val": pairs(2, 10), "test": pairs(2, 20)}
    split = made["train"]
    text = np.frombuffer("0000 én".encode(), np.uint8) + 1
    assert split.tokens[0, 1].tolist() == [START, *text, *[0] * 3]
    assert split.label[0].tolist() == [*text, END, *[0] * 3]
    assert split.lengths[0].tolist() == [8, 9]
    for name in made:
        for tokens, label in zip(made[name].tokens, made[name].label, strict=True):
            translation.check(ARGS, tokens, label)
    assert len(translation.vocabulary(ARGS)) == START + 1
    assert translation.row(split.tokens[0], split.label[0]) == "né 0000\t0000 én"


def test_a_text_that_is_too_long_is_cut_and_counted(tmp_path: Path) -> None:
    rows = [("a" * L, "b" * (L - 1)), ("a" * (L + 1), "b"), ("c", "d" * L), ("e", "d" * (L + 1))]
    write(tmp_path / "train.tsv", rows)
    for name in ("val", "test"):
        write(tmp_path / f"{name}.tsv", pairs(2))
    made = built(tmp_path)
    labels = made["train"].label
    assert made.about.truncated == 3
    assert labels[0, -1] == END
    assert END not in labels[2:]
    assert (labels[2:] > 0).all()
    for tokens, label in zip(made["train"].tokens, labels, strict=True):
        translation.check(ARGS, tokens, label)


def test_one_file_is_cut_and_no_source_stands_in_two_splits(tmp_path: Path) -> None:
    several = [("twice", "one way"), ("twice", "another")]
    file = write(tmp_path / "deu.tsv", [*pairs(8), *several], head="")
    for seed in range(5):
        made = built(file, WITHOUT, {"train": 6, "val": 2, "test": 2}, seed)
        sources = {name: {source for source, _ in texts} for name, texts in read(made).items()}
        assert len(sources["val"] | sources["test"]) == 4
        assert not sources["train"] & (sources["val"] | sources["test"])
        assert "twice" in sources["train"]
    assert translation.files(file) == {"train": file}
    with pytest.raises(TaskError, match=r"splits\.val: asks for 9 .* 2 of 10 rows of deu\.tsv are equal to others"):
        built(file, WITHOUT, {"train": 1, "val": 9, "test": 1})


def test_other_formats_and_other_names_of_columns(tmp_path: Path) -> None:
    lines = [json.dumps({"en": source, "fr": target}) + "\n" for source, target in pairs(8)]
    (tmp_path / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    named = ARGS.model_copy(update={"source": "fr", "target": "en"})
    found = [pair for texts in read(built(tmp_path, named)).values() for pair in texts]
    assert sorted(found) == [(target, source) for source, target in pairs(8)]
    with pytest.raises(DataError, match=r"train\.jsonl: args\.header: false, which is of \.csv and \.tsv alone"):
        built(tmp_path, WITHOUT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sorce\ttarget\na\tb\n", r"train\.tsv:1: has no column 'source'; did you mean 'sorce'"),
        ("source\ttarget\na\tb\n\tc\n", r"train\.tsv:3: source: the text is empty"),
        ("source\ttarget\na\tb\nb\t \n", r"train\.tsv:3: target: the text is blank"),
        ("source\ttarget\na\n", r"train\.tsv:2: has 1 fields with a tab between them, and the head has 2"),
        ("source\ttarget\n", r"train\.tsv: holds no row"),
        (b"source\ttarget\ncaf\xe9\tb\n", r"train\.tsv:2: no UTF-8: .* at byte 17 of the file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "train.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        built(tmp_path)


def test_what_is_wrong_without_a_head_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "train.tsv", [("a", "b")], head="")
    with pytest.raises(DataError, match=r"train\.tsv:1: has no column '3'"):
        built(tmp_path, WITHOUT.model_copy(update={"target": "3"}))
    path.write_text("a\tb\nc\n")
    with pytest.raises(DataError, match=r"train\.tsv:2: has 1 fields .* the first line has 2"):
        built(tmp_path, WITHOUT)
    with pytest.raises(DataError, match=r"train\.txt: is no table by its name"):
        built(write(tmp_path / "train.txt", []))
    with pytest.raises(DataError, match=r"task\.folder=FOLDER"):
        translation.build(ARGS, L, COUNTS, 0, None, silent)


def test_a_label_of_another_place_is_found(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", pairs(8))
    split = built(tmp_path)["test"]
    tokens, label = split.tokens[0], split.label[0]
    with pytest.raises(DataError, match="not what follows"):
        translation.check(ARGS, tokens, np.roll(label, 1))
    with pytest.raises(DataError, match="end symbol"):
        translation.check(ARGS, tokens, np.where(label == END, 2, label))
    with pytest.raises(DataError, match="start symbol"):
        translation.check(ARGS, np.where(tokens == START, 2, tokens), label)
