"""Corpora: each split from its place in the archive; what is missing or damaged in one line."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lra_bench.config import tasks
from lra_bench.data import cache, corpora, download, silent
from lra_bench.data.corpora import CORPORA, Args, Part
from lra_bench.data.sources import causal_lm, masked_lm
from lra_bench.errors import DataError

TEXT = "".join(f"{i:03d} Häuser. " for i in range(200)).encode()
HELD_OUT = {"val": 0, "test": 0}


Pack = Callable[[str, dict[str, bytes]], Path]


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    """Makes an archive in `tmp_path`, and has its checksum recorded as the corpus's."""

    def pack(name: str, files: dict[str, bytes]) -> Path:
        path = tmp_path / CORPORA[name].remote.name
        with zipfile.ZipFile(path, "w") as archive:
            for file, content in files.items():
                archive.writestr(file, content)
        remote = CORPORA[name].remote._replace(sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        monkeypatch.setitem(CORPORA, name, CORPORA[name]._replace(remote=remote))  # type: ignore[arg-type]
        return path

    return pack


@pytest.fixture
def three_files(packed: Pack) -> dict[str, bytes]:
    """An archive of WikiText-2's form in `tmp_path`, and what it holds."""
    files = {f"wikitext-2-raw/wiki.{part}.raw": part.encode() * 200 for part in ("train", "valid", "test")}
    packed("wikitext-2", files)
    return files


def test_each_split_is_of_its_file(tmp_path: Path, three_files: dict[str, bytes]) -> None:
    found = corpora.texts(Args(corpus="wikitext-2"), tmp_path, HELD_OUT)
    assert [(split, (tokens - 1).tobytes()) for split, tokens in found.items()] == [
        ("train", three_files["wikitext-2-raw/wiki.train.raw"]),
        ("val", three_files["wikitext-2-raw/wiki.valid.raw"]),
        ("test", three_files["wikitext-2-raw/wiki.test.raw"]),
    ]


def test_splits_of_one_file_lie_end_to_end(tmp_path: Path, packed: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """enwik8's are 90, 5 and 5 million of 100 million bytes; here of as many as the text has."""
    parts = CORPORA["enwik8"].parts
    assert [(part.start, part.end) for part in parts.values()] == [
        (0, 90_000_000), (90_000_000, 95_000_000), (95_000_000, 100_000_000),
    ]  # fmt: skip
    cut = {split: Part("enwik8", part.start // 50_000, (part.end or 0) // 50_000) for split, part in parts.items()}
    monkeypatch.setitem(CORPORA, "enwik8", CORPORA["enwik8"]._replace(parts=cut))  # type: ignore[arg-type]
    packed("enwik8", {"enwik8": TEXT})
    found = corpora.texts(Args(corpus="enwik8"), tmp_path, HELD_OUT)
    assert [len(tokens) for tokens in found.values()] == [1800, 100, 100]
    assert (np.concatenate(list(found.values())) - 1).tobytes() == TEXT[:2000]


def test_the_archive_is_fetched_where_no_folder_is_named(
    tmp_path: Path, three_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / CORPORA["wikitext-2"].remote.name
    asked = []
    monkeypatch.setattr(download, "fetched", lambda remote: asked.append(remote) or archive)
    found = corpora.texts(Args(corpus="wikitext-2"), None, HELD_OUT)
    assert asked == [CORPORA["wikitext-2"].remote]
    assert len(found["train"]) == len(three_files["wikitext-2-raw/wiki.train.raw"])


def test_both_tasks_over_bytes_read_them(tmp_path: Path, three_files: dict[str, bytes]) -> None:
    counts = {"train": 5, "val": 2, "test": 2}
    for source, args in (
        (causal_lm, Args(corpus="wikitext-2")),
        (masked_lm, masked_lm.Args(corpus="wikitext-2", rate=0.1)),
    ):
        made = source.build(args, 16, counts, 0, tmp_path, silent)  # type: ignore[attr-defined]
        assert [len(split) for split in made.values()] == [5, 2, 2]
    assert list(causal_lm.files(tmp_path)) == ["wikitext-2"]


def test_what_is_missing_or_another_file_is_named(tmp_path: Path, packed: Pack) -> None:
    wanted = Args(corpus="wikitext-2")
    with pytest.raises(DataError, match=r"looked for wikitext-2-raw-v1\.zip"):
        corpora.texts(wanted, tmp_path, HELD_OUT)
    path = packed("wikitext-2", {"other": b"text"})
    with pytest.raises(DataError, match=r"wikitext-2-raw-v1\.zip: damaged, or not http"):
        corpora.texts(wanted, tmp_path, HELD_OUT)
    path.write_bytes(b"another")
    with pytest.raises(DataError, match=r"its SHA-256 is another"):
        corpora.texts(wanted, tmp_path, HELD_OUT)
    with pytest.raises(DataError, match=r"task\.args\.corpus=NAME"):
        corpora.texts(Args(), None, HELD_OUT)


def test_a_text_beside_an_archive_is_known_by_what_it_holds(tmp_path: Path, three_files: dict[str, bytes]) -> None:
    """The content that a run is of changes with either."""
    task = tasks.load("bytes").model_copy(update={"folder": str(tmp_path)})
    found = set()
    for text in (None, TEXT, TEXT[1:]):
        if text is not None:
            (tmp_path / "train.txt").write_bytes(text)
        found.add(cache.content_of_files(task))
    assert len(found) == 3


SIZES = {"enwik8": 5_000_000, "wikitext-2": 1_290_590}  # bytes of test


@pytest.mark.parametrize("variant", list(CORPORA))
@pytest.mark.parametrize("name", ["bytes", "masked-lm"])
def test_the_shipped_tasks_have_each_and_its_test_has_as_many_windows(name: str, variant: str) -> None:
    task = tasks.load(name, variant=variant)
    assert task.args["corpus"] == variant
    assert task.splits["test"] * task.length + 1 <= SIZES[variant]
