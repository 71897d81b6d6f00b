"""Sets that TensorFlow Datasets prepares, read without TensorFlow."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from samples import first_fast

from lra_bench import check, data, templates
from lra_bench.config import Overlay, tasks
from lra_bench.data import cache, silent
from lra_bench.data.formats import prepared
from lra_bench.data.sources import tfds_image, tfds_text
from lra_bench.errors import DataError, LraError, TaskError

TEXT = tfds_text.Args(
    name="tiny", feature="review", label="mood", train_split="train", val_split=None, test_split="test"
)
GREY, RGB = (tfds_image.Args(**{**TEXT.model_dump(), "feature": "picture", "color": c}) for c in ("gray", "rgb"))
COUNTS = {"train": 6, "val": 3, "test": 4}
PICTURES = np.random.default_rng(0).integers(0, 256, (20, 2, 3, 3)).astype(np.uint8)


class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Texts, pictures as PNG and as they are, and sounds."""

    VERSION = tfds.core.Version("1.0.0")
    name = "tiny"
    pkg_dir_path = Path(__file__).parent
    unlabelled = False

    def _info(self) -> Any:
        features = {
            "review": tfds.features.Text(),
            "mood": tfds.features.ClassLabel(names=["bad", "good"]),
            "picture": tfds.features.Image(shape=(2, 3, 3), encoding_format="png"),
            "planes": tfds.features.Tensor(shape=(2, 3, 1), dtype=np.uint8),
            "sound": tfds.features.Tensor(shape=(None,), dtype=np.int64),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {"train": self._generate_examples(0, 12), "test": self._generate_examples(12, 20)}

    def _generate_examples(self, start: int, stop: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in range(start, stop):
            png = io.BytesIO()
            Image.fromarray(PICTURES[i]).save(png, "png")
            png.seek(0)
            mood = -1 if self.unlabelled and i == 13 else i % 2
            yield i, {"review": f"é {i}", "mood": mood, "picture": png, "planes": PICTURES[i, ..., :1], "sound": [i]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tfds")
    Tiny(data_dir=root, file_format="array_record").download_and_prepare()
    return root


def test_texts_become_bytes_and_val_is_cut_from_train(folder: Path) -> None:
    made = tfds_text.build(TEXT, 8, COUNTS, 0, folder, silent)
    read = {
        split: {tfds_text.decode(t[0]): int(label) for t, label in zip(part.tokens, part.label, strict=True)}
        for split, part in made.items()
    }
    assert {split: len(texts) for split, texts in read.items()} == COUNTS
    assert not set(read["train"]) & set(read["val"])
    for split, numbers in (("train", range(12)), ("val", range(12)), ("test", range(12, 20))):
        assert read[split].items() <= {f"é {i}": i % 2 for i in numbers}.items()
    assert "tensorflow" not in sys.modules
    assert made.about.classes == ["bad", "good"]
    assert (made.about.unused_rows, made.about.truncated) == (7, 0)
    assert tfds_text.build(TEXT, 4, COUNTS, 0, folder, silent).about.truncated >= 4


def test_a_slice_is_a_split(folder: Path) -> None:
    args = TEXT.model_copy(update={"train_split": "train[:9]", "val_split": "train[9:]"})
    made = tfds_text.build(args, 8, {"train": 9, "val": 3, "test": 8}, 0, folder, silent)
    assert len({t.tobytes() for split in made.values() for t in split.tokens}) == 20


@pytest.mark.parametrize(("args", "length"), [(GREY, 6), (RGB, 18)])
def test_pictures_become_levels_row_by_row(folder: Path, args: tfds_image.Args, length: int) -> None:
    counts = {"train": 9, "val": 3, "test": 8}
    made = tfds_image.build(args, length, counts, 0, folder, silent)
    levels = PICTURES.reshape(20, 18)
    if args is GREY:
        luma = PICTURES.astype(np.float32) / 255 @ np.array([0.2989, 0.587, 0.114], np.float32) * 255.5
        levels = luma.astype(np.uint8).reshape(20, 6)
    wanted = {(row + np.uint16(1)).tobytes(): i % 2 for i, row in enumerate(levels)}
    found = {t.tobytes(): label for s in made.values() for t, label in zip(s.tokens, s.label, strict=True)}
    assert found == wanted


def test_a_tensor_of_bytes_is_a_picture(folder: Path) -> None:
    made = tfds_image.build(GREY.model_copy(update={"feature": "planes"}), 6, COUNTS, 0, folder, silent)
    rows = {(row.reshape(-1) + np.uint16(1)).tobytes() for row in PICTURES[12:, ..., 0]}
    assert {t.tobytes() for t in made["test"].tokens} <= rows


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"feature": "sound"}, TaskError, "args.feature: 'sound' is not a text in tiny; it can be: review"),
        ({"feature": "reviw"}, TaskError, "did you mean 'review'"),
        ({"label": "review"}, TaskError, "args.label: 'review' is not an answer in tiny; it can be: mood"),
        ({"train_split": "trian"}, TaskError, "args.train_split: 'trian' is not a split in tiny; did you mean 'train'"),
        ({"train_split": "train[x"}, DataError, r"1\.0\.0: train\[x: cannot be read: "),
        ({"train_split": "train[:0]"}, DataError, r"train\[:0\]: cannot be read: "),
        ({"name": "tidy"}, TaskError, r"args\.name: tidy; .*1\.0\.0 holds tiny:1\.0\.0"),
    ],
)
def test_what_the_set_has_not_is_named(
    folder: Path, values: dict[str, Any], error: type[LraError], message: str
) -> None:
    with pytest.raises(error, match=message):
        tfds_text.build(TEXT.model_copy(update=values), 8, COUNTS, 0, folder, silent)


def test_a_wrong_example_is_named(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataError, match=r"train\[0\]: a picture of 2 x 3 x 3 has 18 tokens, not the task's length of 6"
    ):
        tfds_image.build(RGB, 6, COUNTS, 0, folder, silent)
    with pytest.raises(TaskError, match=r"splits\.test: asks for 9 examples; tiny leaves 8"):
        tfds_text.build(TEXT, 8, {**COUNTS, "test": 9}, 0, folder, silent)
    monkeypatch.setattr(Tiny, "unlabelled", True)
    Tiny(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    with pytest.raises(DataError, match=r"test\[\d\]: mood: -1 is no class"):
        tfds_text.build(TEXT, 8, COUNTS, 0, tmp_path, silent)


def test_a_folder_is_one_set_whose_files_are_the_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looked for one set that TFDS has prepared; there is no dataset_info\.json"):
        prepared.files(tmp_path)
    Tiny(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    found = prepared.files(tmp_path)
    assert found == prepared.files(tmp_path / "tiny/1.0.0")
    assert "tiny-train.array_record-00000-of-00001" in found
    path = found["tiny-train.array_record-00000-of-00001"]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"train: cannot be read: "):
        tfds_text.build(TEXT, 8, COUNTS, 0, tmp_path, silent)
    (tmp_path / "tiny/1.0.0/features.json").unlink()
    with pytest.raises(DataError, match="cannot be read as a set of TFDS"):
        tfds_text.build(TEXT, 8, COUNTS, 0, tmp_path, silent)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/dataset_info.json").write_text("{}")
    with pytest.raises(DataError, match=r"there is other, tiny/1\.0\.0"):
        prepared.files(tmp_path)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("imdb_review", TaskError, "TFDS has no such set; did you mean 'imdb_reviews'"),
        ("imdb_reviews/plane_text", TaskError, "BuilderConfig plane_text not found"),
        (
            "imdb_reviews/plain_text:1.0.0",
            DataError,
            r"cannot be prepared here \(OSError: no network\); prepare it elsewhere",
        ),
    ],
)
def test_a_set_that_cannot_be_had_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, error: type[LraError], message: str
) -> None:
    def alone(url: str) -> None:
        raise OSError("no network")

    monkeypatch.setattr(prepared, "knock", alone)
    with pytest.raises(error, match=message):
        tfds_text.build(TEXT.model_copy(update={"name": name}), 8, COUNTS, 0, None, silent)


def test_a_set_is_prepared_once_in_the_cache(
    monkeypatch: pytest.MonkeyPatch, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tfds, "builder", lambda name, **place: Tiny(**place))
    first, second = (tfds_text.build(TEXT, 8, COUNTS, 0, None, silent)["train"].tokens for _ in range(2))
    assert (root / "tfds/tiny/1.0.0/dataset_info.json").is_file()
    np.testing.assert_array_equal(first, second)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("source", "changed"), first_fast(("tfds_text", {}), ("tfds_image", {"feature": "picture"})))
def test_a_new_task_is_checked_and_verified(tmp_path: Path, folder: Path, source: str, changed: dict[str, str]) -> None:
    path = templates.task("mine", source, tmp_path)
    lines = path.read_text()
    for old, fresh in (
        ("imdb_reviews/plain_text:1.0.0", "tiny:1.0.0"), ("mnist:3.0.1", "tiny:1.0.0"),
        ("feature: text", "feature: review"), ("feature: image", "feature: picture"), ("label: label", "label: mood"),
        ("folder: null", f"folder: {folder}"), ("784", "6"), ("[28, 28]", "[2, 3]"), ("classes: 10", "classes: 2"),
        ("{train: 800, val: 100, test: 100}", "{train: 6, val: 3, test: 4}"),
    ):  # fmt: skip
        lines = lines.replace(old, fresh)
    path.write_text(lines)
    (finding,) = check.those([path])
    assert finding.ok, finding.detail
    spec = tasks.load(str(path), settings=[Overlay("test", {"args": changed})])
    assert [check for check in data.verify(spec) if not check.ok] == []
    assert set(cache.key_of(spec)["files"]) == set(prepared.files(folder))
