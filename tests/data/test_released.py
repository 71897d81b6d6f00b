"""Pathfinder's released folders: lists of two kinds, PNG files, three ways to cut them, and all that can be wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lra_bench import data
from lra_bench.config import Overlay, tasks
from lra_bench.data import silent, split_schemes
from lra_bench.data.sources.pathfinder import pathfinder, released
from lra_bench.errors import DataError, TaskError

LISTS, EACH = (10, 2, 0), 10  # numbers of the lists, not in their order, and pictures of each
COUNTS = {"train": 24, "val": 3, "test": 3}


def args(split: str = "shuffled", difficulty: str = "hard") -> pathfinder.Args:
    return pathfinder.Args.model_validate({"size": 32, "difficulty": difficulty, "split": split, "black": "level"})


def picture(k: int, i: int) -> np.ndarray:
    """A picture that tells which it is."""
    levels = np.random.default_rng([k, i]).integers(0, 256, (32, 32)).astype(np.uint8)
    levels[0, :2] = k, i
    return levels


def row(k: int, i: int) -> list[str]:
    return [f"imgs/{k}", f"sample_{i}.png", str(i), str((k + i) % 2), "1.0", "14", "4", "2", "0.5", "1", "1"]


def as_text(path: Path, rows: list[list[str]]) -> None:
    path.write_text("".join(" ".join(columns) + "\n" for columns in rows), encoding="utf-8")


def as_array(path: Path, rows: list[list[str]]) -> None:
    with path.open("wb") as file:
        np.save(file, np.array(rows))


def album(folder: Path, write: Callable[[Path, list[list[str]]], None] = as_text) -> Path:
    """A difficulty's folder as it is released."""
    (folder / "metadata").mkdir(parents=True)
    for k in LISTS:
        (folder / f"imgs/{k}").mkdir(parents=True)
        for i in range(EACH):
            Image.fromarray(picture(k, i)).save(folder / f"imgs/{k}/sample_{i}.png")
        write(folder / f"metadata/{k}.npy", [row(k, i) for i in range(EACH)])
    return folder


@pytest.fixture
def folder(tmp_path: Path, alone: None) -> Path:
    return album(tmp_path / "pathfinder32" / "curv_contour_length_14")


def read(folder: Path, split: str = "shuffled", counts: dict[str, int] = COUNTS) -> dict[str, data.Split]:
    return pathfinder.build(args(split), 1024, counts, 0, folder, silent)


def which(split: data.Split) -> list[tuple[int, int]]:
    """The list and the number of each picture, which must be the one that was written, and of its label."""
    found = [(int(tokens[0, 0]) - 1, int(tokens[0, 1]) - 1) for tokens in split.tokens]
    for (k, i), tokens, label in zip(found, split.tokens, split.label, strict=True):
        assert np.array_equal(tokens[0] - 1, picture(k, i).reshape(-1))
        assert label == (k + i) % 2
    return found


IN_ORDER = [(k, i) for k in sorted(LISTS) for i in range(EACH)]


@pytest.mark.parametrize("up", [0, 1, 2])
def test_every_picture_is_read_once(folder: Path, up: int) -> None:
    built = read([folder, *folder.parents][up])
    assert {name: len(split) for name, split in built.items()} == COUNTS
    assert sorted(which(built["train"]) + which(built["val"]) + which(built["test"])) == IN_ORDER
    assert (built["train"].tokens.dtype, built["train"].tokens.shape) == (np.uint16, (24, 1, 1024))
    assert (built["val"].lengths == 1024).all()


def test_lists_may_be_arrays(folder: Path, tmp_path: Path) -> None:
    arrays = read(album(tmp_path / "arrays", as_array))
    assert all(np.array_equal(split.tokens, arrays[name].tokens) for name, split in read(folder).items())


def test_torch_42_is_random_split_in_the_order_of_the_lists(folder: Path) -> None:
    """Recorded of torch.utils.data.random_split(range(30), [24, 3, 3], torch.Generator().manual_seed(42)), 2.13.0."""
    built = read(folder, "torch-42")
    assert [which(built[name]) for name in COUNTS] == [[IN_ORDER[i] for i in part] for part in RANDOM_SPLIT]


RANDOM_SPLIT = [
    [12, 0, 6, 25, 8, 15, 10, 18, 16, 23, 28, 26, 20, 7, 21, 22, 29, 13, 14, 2, 4, 1, 9, 11],
    [17, 19, 27],
    [5, 24, 3],
]


@pytest.mark.parametrize(
    ("n", "seed", "start", "digest"),
    [
        (2, 42, [0, 1], "9d34149fbd1fe777"),
        (10, 42, [2, 6, 1, 8, 4, 5, 0, 9, 3, 7], "fd6484606b698821"),
        (1000, 0, [44, 37, 675, 775], "cee4a88ef6120e8e"),
        (1000, 2**31 + 5, [257, 377, 119, 797], "3cdf1dfe728838db"),
        (200_000, 42, [37542, 143173, 127710, 58234], "ee4e53fa9a9cb431"),
    ],
)
def test_the_permutation_is_torchs(n: int, seed: int, start: list[int], digest: str) -> None:
    """Recorded of torch.randperm(n, generator=torch.Generator().manual_seed(seed)), PyTorch 2.13.0 on a CPU."""
    found = split_schemes.torch_permutation(n, seed)
    assert found[: len(start)].tolist() == start
    assert hashlib.sha256(found.astype("<i8").tobytes()).hexdigest()[:16] == digest


def test_tfds_is_the_order_of_its_hashes(folder: Path) -> None:
    """Held against its own hasher, with the key and the name of the split that LRA's builder gives."""
    from tensorflow_datasets.core import hashing

    hasher = hashing.Hasher("hard")
    order = sorted(IN_ORDER, key=lambda it: hasher.hash_key(f"imgs/{it[0]}_sample_{it[1]}.png_{it[1] + 1}"))
    built = read(folder, "tfds")
    assert [*which(built["train"]), *which(built["val"]), *which(built["test"])] == order


def test_fewer_of_a_scheme_are_its_first(folder: Path) -> None:
    for split in ("torch-42", "tfds"):
        whole, few = read(folder, split), read(folder, split, {"train": 5, "val": 2, "test": 1})
        assert all(which(few[name]) == which(whole[name])[: len(few[name])] for name in few)
    with pytest.raises(TaskError, match=r"splits.val: asks for 4 examples; .*curv_contour_length_14 leaves 3"):
        read(folder, "tfds", {"val": 4})


@pytest.mark.parametrize("split", ["shuffled", "torch-42", "tfds"])
def test_a_picture_of_no_length_is_left_out_and_told(folder: Path, split: str) -> None:
    (folder / "imgs/2/sample_3.png").write_bytes(b"")
    counts = {"train": 22, "val": 2, "test": 2}
    with pytest.warns(UserWarning, match=r"sample_3.png: of no length; 1 of 30 pictures are left out"):
        built = read(folder, split, counts)
    assert (2, 3) not in [picture for part in built.values() for picture in which(part)]
    with pytest.warns(UserWarning, match="of no length"), pytest.raises(TaskError, match="leaves"):
        read(folder, split, COUNTS)


def spoilt(folder: Path, columns: dict[int, str]) -> Path:
    """The list 2 with other columns in its fourth line."""
    rows = [row(2, i) for i in range(EACH)]
    for column, value in columns.items():
        rows[3][column] = value
    as_text(folder / "metadata/2.npy", rows)
    return folder


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({0: "../.."}, r"2\.npy:4: '\.\./\.\.' and 'sample_3\.png' are not a sub-folder"),
        ({0: "imgs/../../x"}, "are not a sub-folder"),
        ({0: "/etc"}, "are not a sub-folder"),
        ({1: "../sample_3.png"}, "are not a sub-folder"),
        ({1: "sample_99.png"}, r"2\.npy:4: .*imgs/2/sample_99.png is not there"),
        ({3: "2"}, r"2\.npy:4: its label is '2', not 0 or 1"),
        ({3: "1.0"}, "its label is '1.0'"),
        ({4: "1.0 7"}, r"2\.npy:4: has 12 columns, not 11"),
        ({5: "9"}, r"2\.npy:4: contours of 9 paddles; this difficulty has 14"),
    ],
)
def test_a_wrong_line_is_named(folder: Path, columns: dict[int, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(spoilt(folder, columns))


def png(folder: Path) -> Path:
    return folder / "imgs/2/sample_3.png"


def cut_short(folder: Path) -> None:
    png(folder).write_bytes(png(folder).read_bytes()[:-300])


def one_bit_off(folder: Path, place: int = 500) -> None:
    content = bytearray(png(folder).read_bytes())
    content[place] ^= 4
    png(folder).write_bytes(content)


def checksum_off(folder: Path) -> None:
    one_bit_off(folder, -13)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_short, "is damaged, or no PNG"),
        (one_bit_off, "is damaged, or no PNG"),
        (checksum_off, "is damaged, or no PNG"),
        (lambda folder: png(folder).write_bytes(b"GIF89a"), "is damaged, or no PNG"),
        (lambda folder: Image.new("L", (64, 32)).save(png(folder)), "is 64 x 32 of mode L, not 32 x 32 of 8-bit gray"),
        (lambda folder: Image.new("RGB", (32, 32)).save(png(folder)), "is 32 x 32 of mode RGB"),
    ],
)
def test_a_wrong_picture_is_named(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder)
    with pytest.raises(DataError, match=rf"2\.npy:4: .*sample_3\.png {message}"):
        read(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00 binary", "neither lines of text nor an array of strings"),
        (released.NUMPY + b"\x01\x00 cut", "neither lines of text nor an array of strings"),
    ],
)
def test_a_wrong_list_is_named(folder: Path, content: bytes, message: str) -> None:
    (folder / "metadata/2.npy").write_bytes(content)
    with pytest.raises(DataError, match=rf"2\.npy: {message}"):
        read(folder)


class Trap:
    """What is unpickled of it opens a file."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.sprung,)


def test_a_list_is_never_unpickled(folder: Path, tmp_path: Path) -> None:
    np.save(folder / "metadata/2.npy", np.array([[Trap(tmp_path / "sprung")]], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"2\.npy: neither lines"):
        read(folder)
    assert not (tmp_path / "sprung").exists()


def test_a_missing_folder_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no metadata/\*\.npy in it"):
        pathfinder.files(tmp_path / "empty")
    with pytest.raises(DataError, match=r"looked for metadata in .*curv_baseline"):
        pathfinder.build(args(difficulty="easy"), 1024, COUNTS, 0, folder.parent, silent)
    (folder / "metadata/x.npy").touch()
    with pytest.raises(DataError, match=r"x\.npy: a list's name is a number"):
        read(folder)


def test_the_cache_knows_them_by_their_lists(folder: Path) -> None:
    task = tasks.load("pathfinder", settings=[Overlay("test", {"folder": str(folder), "splits": COUNTS})])
    first = data.prepare(task)
    assert first.fresh
    assert not data.prepare(task).fresh
    spoilt(folder, {3: "0"})
    assert data.prepare(task).fresh
