"""IMDb's archive read as it is published, its parts made into splits, its damage told."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lra_bench import data
from lra_bench.config import Overlay, tasks
from lra_bench.data import download, silent
from lra_bench.data.download import Remote, fetched
from lra_bench.data.formats import text_bytes
from lra_bench.data.sources import text
from lra_bench.errors import DataError, TaskError

TRAIN = text.Args(val_from="train")
COUNTS = {"train": 6, "val": 2, "test": 4}


def reviews(part: str, n: int) -> dict[str, bytes]:
    """`n` of each label, each with a text of its own, as long as its number and more."""
    numbers = {"neg": 3, "pos": 7}
    return {
        f"aclImdb/{part}/{label}/{i}_{number}.txt": f"{i} {part} {label} ".encode() + b"\xc3\xa9" * (i + 1)
        for label, number in numbers.items()
        for i in range(n)
    }


def archive(folder: Path, members: dict[str, bytes], name: str = "aclImdb_v1.tar.gz") -> Path:
    with tarfile.open(folder / name, "w:gz") as file:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return folder


@pytest.fixture
def released(tmp_path: Path) -> Path:
    beside = {"aclImdb/README": b"read me", "aclImdb/train/unsup/0_0.txt": b"none", "../escape/0_1.txt": b"none"}
    return archive(tmp_path, {**reviews("train", 5), **reviews("test", 2), **beside})


def texts(split: data.Split) -> list[str]:
    return [text.decode(tokens[0]) for tokens in split.tokens]


def test_the_parts_become_splits(released: Path) -> None:
    built = text.build(TRAIN, 64, COUNTS, 0, released, silent)
    assert {name: len(split) for name, split in built.items()} == COUNTS
    everything = {name: set(texts(split)) for name, split in built.items()}
    assert all(" train " in t for name in ("train", "val") for t in everything[name])
    assert all(" test " in t for t in everything["test"])
    assert not everything["train"] & everything["val"]
    for split in built.values():
        assert split.tokens.dtype == np.uint8
        for tokens, label in zip(split.tokens, split.label, strict=True):
            assert ("pos" in text.decode(tokens[0])) == label
            text.check(TRAIN, tokens, int(label))


def test_the_order_is_the_seeds_not_the_archives(released: Path, tmp_path: Path) -> None:
    members = {**reviews("train", 5), **reviews("test", 2)}
    (tmp_path / "turned").mkdir()
    turned = archive(tmp_path / "turned", dict(reversed(members.items())))
    first, again = (text.build(TRAIN, 64, COUNTS, 0, folder, silent) for folder in (released, turned))
    other = text.build(TRAIN, 64, COUNTS, 1, released, silent)
    assert all(texts(first[name]) == texts(again[name]) for name in COUNTS)
    assert texts(first["train"]) != texts(other["train"])


def test_what_stands_twice_in_train_is_not_in_val(tmp_path: Path) -> None:
    members = {**reviews("train", 3), **reviews("test", 1)}
    twice = dict.fromkeys(list(members)[:4], b"the same")
    folder = archive(tmp_path, members | twice)
    for seed in range(8):
        built = text.build(TRAIN, 64, {"train": 4, "val": 2, "test": 2}, seed, folder, silent)
        assert "the same" not in texts(built["val"])
    with pytest.raises(TaskError, match=r"splits\.val: asks for 3 examples; .* leaves 2"):
        text.build(TRAIN, 64, {"train": 1, "val": 3, "test": 2}, 0, folder, silent)


def test_as_published_val_is_test(released: Path) -> None:
    built = text.build(text.Args(val_from="test"), 64, {"train": 10, "val": 4, "test": 4}, 0, released, silent)
    assert texts(built["val"]) == texts(built["test"])
    assert len(set(texts(built["train"]))) == 10


def test_long_reviews_are_cut_within_a_character_too(released: Path) -> None:
    built = text.build(TRAIN, 14, COUNTS, 0, released, silent)
    for split in built.values():
        assert split.lengths.max() <= 14
        for tokens, label in zip(split.tokens, split.label, strict=True):
            text.check(TRAIN, tokens, int(label))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", r"train/neg/0_3\.txt: the text is empty"), (b"caf\xe9 noir", r"0_3\.txt: no UTF-8: .* at byte 3")],
)
def test_a_wrong_review_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    members = {**reviews("train", 3), **reviews("test", 1)}
    members["aclImdb/train/neg/0_3.txt"] = content
    with pytest.raises(DataError, match=message):
        text.build(TRAIN, 64, COUNTS, 0, archive(tmp_path, members), silent)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95])
def test_a_damaged_archive_is_one_line(released: Path, keep: float) -> None:
    path = released / "aclImdb_v1.tar.gz"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataError, match=r"aclImdb_v1\.tar\.gz: damaged, or no \.tar\.gz"):
        text.build(TRAIN, 64, COUNTS, 0, released, silent)


def test_the_folder_must_hold_one_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looked for one aclImdb\*\.tar\.gz.*there is nothing of that name"):
        text.files(tmp_path)
    for name in ("aclImdb_a.tar.gz", "aclImdb_b.tar.gz"):
        archive(tmp_path, {}, name)
    with pytest.raises(DataError, match=r"there is aclImdb_a\.tar\.gz, aclImdb_b\.tar\.gz"):
        text.files(tmp_path)


def test_verify_holds_on_the_task_as_it_ships(released: Path) -> None:
    settings = [Overlay("test", {"folder": str(released), "splits": COUNTS, "length": 64})]
    checks = data.verify(tasks.load("text", settings=settings))
    assert [check for check in checks if not check.ok] == []


@given(st.text(min_size=1))
def test_bytes_and_back(written: str) -> None:
    tokens = text_bytes.encode(written)
    assert text_bytes.decode(tokens) == written
    assert np.array_equal(text_bytes.tokens_of(written.encode(), 10**6), tokens)
    assert "\t" not in text_bytes.escaped(written)
    assert "\n" not in text_bytes.escaped(written)


@given(st.text(min_size=1), st.integers(1, 9))
def test_a_cut_text_survives_the_round_trip(written: str, length: int) -> None:
    tokens = text_bytes.tokens_of(written.encode(), length)
    text_bytes.check(tokens)
    assert np.array_equal(text_bytes.encode(text_bytes.decode(tokens)), tokens)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Remote]:
    """A file on a server of this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file.bin").write_bytes(b"what it was")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/file.bin"
        yield Remote(url, "file.bin", 11, hashlib.sha256(b"what it was").hexdigest())
        server.shutdown()


def test_a_file_is_fetched_once(served: Remote, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetched(served)
    assert path == root / "downloads/file.bin"
    assert path.read_bytes() == b"what it was"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]
    with monkeypatch.context() as patch:
        patch.setattr(download, "_download", None)
        assert fetched(served) == path
    path.write_bytes(b"broken")
    assert fetched(served).read_bytes() == b"what it was"


def test_a_file_that_is_not_what_it_was_is_refused(served: Remote, root: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be fetched.*put file\.bin into a folder of yours"):
        fetched(served._replace(sha256="0" * 64))
    assert not (root / "downloads/file.bin").exists()


class Proxy(BaseHTTPRequestHandler):
    """It has what is asked for of any host, and notes what that is."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(502 if "unknown" in self.path else 200)
        self.end_headers()
        self.wfile.write(b"what it was")

    def log_message(self, *said: object) -> None:
        pass


def test_a_file_comes_by_the_environments_proxy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    there = Remote("http://nowhere.invalid/file.bin", "file.bin", 11, hashlib.sha256(b"what it was").hexdigest())
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
        assert fetched(there).read_bytes() == b"what it was"
        assert set(Proxy.asked) == {there.url}
        with pytest.raises(DataError, match=r"unknown\.invalid.*cannot be fetched \(HTTPError: 502"):
            fetched(there._replace(url="http://unknown.invalid/file.bin", name="other.bin"))
        monkeypatch.setenv("no_proxy", "nowhere.invalid")
        with pytest.raises(DataError, match=r"cannot be fetched \(ConnectionError"):
            fetched(there._replace(name="third.bin"))
        server.shutdown()


def test_no_network_is_one_line_soon() -> None:
    with pytest.raises(DataError, match=r"nowhere\.invalid.*cannot be fetched.*--set task\.folder=FOLDER"):
        fetched(Remote("http://nowhere.invalid/file.bin", "file.bin", 1, "0" * 64))
