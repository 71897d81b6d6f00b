"""A source in a file of the user's own, from the task's YAML to the run's id."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from lra_bench import check, config, data, mixers
from lra_bench.config import Run, TaskSpec, tasks
from lra_bench.data import cache, custom
from lra_bench.errors import DataError, LraError, TaskError

EXAMPLE = re.search(r"\n\n((?: {4}.*\n|\n)+)", str(custom.__doc__))
assert EXAMPLE
PARITY = "\n".join(line[4:] for line in EXAMPLE[1].splitlines()) + "\n"

YAML = """\
title: Mine
source: mine.py
args: {}
length: 40
classes: 2
splits: {train: 30, val: 5, test: 5}
"""

FULL = '''
"""All that a file can say."""
from lra_bench.config import Strict
from lra_bench.errors import DataError
from lra_bench.shapes import Split
import numpy as np

VERSION, HEADER, PUBLISHED = 3, "label\\ttext", True

class Args(Strict):
    add: int

def vocabulary(args):
    return ["<pad>", "a", "b", "c"]

def values(args):
    return np.arange(4, dtype=np.float32)[:, None]

def files(folder):
    return {"train": folder / "numbers.txt"}

def build(args, length, splits, seed, folder, progress):
    first = int((folder / "numbers.txt").read_text()) + args.add
    tokens = np.full((max(splits.values()), 1, length), first)
    tokens[:, :, 2:] = 0
    return {s: Split(tokens[:n], np.full((n, 1), 2), np.arange(n) % 2 == 1) for s, n in splits.items()}

def check(args, tokens, label):
    if tokens[0, 0] != 3:
        raise DataError("the first is no c")

def encode(text):
    return np.array([" abc".index(letter) for letter in text])

def decode(tokens):
    return "".join(" abc"[token] for token in tokens if token)

def row(tokens, label):
    return f"{label}\\t{decode(tokens[0])}"
'''


def task(folder: Path, source: str = PARITY, yaml: str = YAML) -> TaskSpec:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(source)
    (folder / "mine.yaml").write_text(yaml)
    return tasks.load(str(folder / "mine.yaml"))


def run_of(spec: TaskSpec) -> Run:
    model_card = mixers.model_card("linear")
    recipe, _ = config.recipe("base").resolve(spec.name, [])
    return Run(
        model="linear", family=model_card.card.family, mixer=str(model_card.path), mixer_hash="",
        options=mixers.turned(model_card, {}),
        task=spec, config_name="base", recipe=recipe, seed=0, limit=None, changed=None,
    )  # fmt: skip


def test_the_example_is_prepared_checked_and_verified(tmp_path: Path) -> None:
    spec = task(tmp_path)
    made = data.prepare(spec)
    for split in made.splits.values():
        assert (split.tokens.dtype, split.lengths.dtype, split.label.dtype) == (np.uint8, np.int32, np.int32)
        np.testing.assert_array_equal((split.tokens == 1).sum((1, 2)) % 2, split.label)
    (finding,) = check.those([tmp_path / "mine.yaml"])
    assert finding.ok, finding.detail
    assert "3 symbols" in finding.detail
    assert [found for found in data.verify(spec) if not found.ok] == []


def test_a_file_can_say_all(tmp_path: Path) -> None:
    yaml = YAML.replace("args: {}", "args: {add: 1}\nfolder: data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/numbers.txt").write_text("2")
    spec = task(tmp_path, FULL, yaml)
    source = data.load(spec.source)
    assert (source.VERSION, source.HEADER, source.PUBLISHED) == (3, "label\ttext", True)
    assert data.vocabulary(spec) == ("<pad>", "a", "b", "c")
    table = data.values(spec)
    assert table is not None
    assert table.shape == (4, 1)
    assert [found for found in data.verify(spec) if not found.ok] == []
    first = data.prepare(spec).splits["train"]
    assert source.row(first.tokens[1], first.label[1]) == "1\tcc"
    assert list(cache.key_of(spec)["files"]) == ["train"]
    with pytest.raises(TaskError, match=r"args\.ad: unknown key; did you mean 'add'"):
        data.arguments(spec.model_copy(update={"args": {"ad": 1}}))


def test_what_a_file_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "data/.hidden").mkdir(parents=True)
    (tmp_path / "data/deep").mkdir()
    for name in ("b.txt", "deep/a.txt", ".hidden/c.txt", ".d"):
        (tmp_path / "data" / name).write_text("")
    source = data.load(task(tmp_path).source)
    assert source.files(tmp_path / "data") == {
        "b.txt": tmp_path / "data/b.txt", "deep/a.txt": tmp_path / "data/deep/a.txt"
    }  # fmt: skip
    tokens = np.array([[2, 1, 0], [1, 0, 0]])
    assert source.row(tokens, np.array([0.5, 1])) == "0.5 1.0\t2 1\t1"
    assert source.encode("2 1").tolist() == [2, 1]
    assert not hasattr(source, "values")
    with pytest.raises(DataError, match="it is empty"):
        source.check(custom.Nothing(), np.array([[1, 0], [0, 0]]), 0)


def test_an_id_is_of_the_code_not_of_its_place(tmp_path: Path) -> None:
    one, other = task(tmp_path / "one"), task(tmp_path / "other")
    assert one.source != other.source
    assert run_of(one).id == run_of(other).id
    assert cache.key_of(one) == cache.key_of(other)
    commented = task(tmp_path / "other", f'"""A docstring."""\n# A comment\n{PARITY}')
    assert run_of(commented).id == run_of(one).id
    changed = task(tmp_path / "other", PARITY.replace("(seed)", "(seed + 1)"))
    assert run_of(changed).id != run_of(one).id
    assert data.prepare(changed).hash != data.prepare(one).hash
    with pytest.raises(TaskError, match=r"other/mine\.py: has changed since it was read"):
        custom.load.__wrapped__(tmp_path / "other/mine.py", one.source.partition("#")[2])


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("def build(:", TaskError, r"mine\.py: no Python: "),
        ("import nothing_of_that_name", TaskError, r"mine\.py:1: cannot be imported: ModuleNotFoundError"),
        (PARITY.replace("def vocabulary", "def words"), TaskError, "build and vocabulary; vocabulary is missing"),
        (f"{PARITY}\nclass Args: pass", TaskError, r"Args must be a lra_bench\.config\.Strict"),
        (PARITY.replace("integers(1, 3", "integer(1, 3"), DataError, r"mine\.py:10: build: AttributeError: "),
        (PARITY.replace("return {split", "return {0"), DataError, r"build returns no splits of .*: KeyError: 'train'"),
        (PARITY.replace("return {split", "{split"), DataError, r"build returns no splits of .*: TypeError"),
        (PARITY.replace("(1, 3", "(1, 4"), DataError, r"tokens are from 1 to 3, and there are 3 symbols"),
        (PARITY.replace("Split(tokens", "Split(tokens[0]"), DataError, r"tokens are int64\[1, 40\], not integers"),
        (PARITY.replace("(n, 1), length)", "n, length)"), DataError, r"lengths are int64\[30\], not .* \[30, 1\]"),
        (PARITY.replace(".sum((1, 2))", ".sum()"), DataError, r"label is int64\[\], not a number"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_file_is_one_line(
    tmp_path: Path, source: str, error: type[LraError], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        data.prepare(task(tmp_path, source))
    assert "\n" not in str(raised.value)
    assert str(tmp_path / "mine.py") in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"yours\.py: there is no such file"):
        task(tmp_path, yaml=YAML.replace("mine.py", "yours.py"))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("label - 1", r"label\[\d+\]: -1 is no class; they begin with 0"),
        ("label.astype(np.uint64) + 2**32", r"label\[0\]: 429496729[67] is no class"),
        ("np.where(label > 0, np.nan, 1.0)", r"label\[\d+\] holds no number"),
        ("label * 1e39", r"label\[:, 0\]: 1e\+39 is beyond 1e\+15"),
        ("2.0**24 + label", r"label\[:, 0\]: from 16777216 to 16777217, a standard deviation"),
        ("label[:, None] - [[0, 1]]", r"label\[\d+\]: -1 is below 0"),
    ],
)
def test_labels_are_held_from_both_sides_before_they_are_cast(tmp_path: Path, label: str, message: str) -> None:
    source = PARITY.replace("(tokens == 1).sum((1, 2)) % 2)", "cast((tokens == 1).sum((1, 2)) % 2))")
    assert "cast(" in source
    spec = task(tmp_path, f"{source}\ndef cast(label):\n    return {label}\n")
    with pytest.raises(DataError, match=message):
        data.prepare(spec)
