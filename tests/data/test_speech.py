"""The archive of Speech Commands read as it is published, its samples as levels of mu-law."""

from __future__ import annotations

import io
import struct
import tarfile
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lra_bench import data
from lra_bench.config import Overlay, tasks
from lra_bench.data import silent
from lra_bench.data.sources import speech
from lra_bench.errors import DataError, TaskError

ALL, TEN = (speech.Args(words=words) for words in ("all", "ten"))
COUNTS = {"train": 6, "val": 2, "test": 2}
WORDS = ("yes", "zero", "go", "bed")


def sound(samples: np.ndarray, channels: int = 1, width: int = 2, rate: int = 16_000) -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return content.getvalue()


def clips() -> dict[str, np.ndarray]:
    """Three speakers of four words; what they say begins with what it is, and is of any length up to a second."""
    draw = np.random.default_rng(0)
    said = {}
    for speaker in range(3):
        for label, word in enumerate(WORDS):
            samples = draw.integers(-(1 << 15), 1 << 15, 16_000 - 1000 * speaker).astype(np.int16)
            samples[0] = 1000 * speaker + label
            said[f"{word}/{speaker:08x}_nohash_0.wav"] = samples
    return said


def write(folder: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(folder / "speech_commands_v0.02.tar.gz", "w:gz", compresslevel=1) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return folder


def released() -> dict[str, bytes]:
    names = list(clips())
    return {
        "LICENSE": b"CC BY 4.0",
        "_background_noise_/pink_noise.wav": sound(np.zeros(40_000)),
        "testing_list.txt": "\n".join(names[4:7]).encode() + b"\n",
        **{name: sound(samples) for name, samples in clips().items()},
        "validation_list.txt": "\n".join(names[8:10]).encode() + b"\n",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, released())


def test_the_archives_lists_are_the_splits(folder: Path) -> None:
    built = speech.build(ALL, 16_000, {"train": 7, "val": 2, "test": 3}, 0, folder, silent)
    by_tokens = {}
    for name, samples in clips().items():
        tokens = np.zeros(16_000, np.uint16)
        tokens[: len(samples)] = speech.companded(samples / 32768) + np.uint16(1)
        by_tokens[tokens.tobytes()] = name, len(samples)
    names = {}
    for split, part in built.items():
        for tokens, lengths, label in zip(part.tokens, part.lengths, part.label, strict=True):
            name, length = by_tokens[tokens.tobytes()]
            assert (speech.WORDS["all"][label], lengths.tolist()) == (name.partition("/")[0], [length])
            names.setdefault(split, set()).add(name)
    every = list(clips())
    assert names == {"train": set(every) - {*every[4:7], *every[8:10]}, "val": {*every[8:10]}, "test": {*every[4:7]}}


def test_ten_words_are_ten_classes(folder: Path) -> None:
    built = speech.build(TEN, 16_000, {"train": 3, "val": 1, "test": 2}, 0, folder, silent)
    assert {speech.TEN[label] for part in built.values() for label in part.label} == {"yes", "go"}
    assert len(speech.WORDS["all"]) == len(set(speech.WORDS["all"])) == 35


def test_a_shorter_length_cuts_and_a_seed_orders(folder: Path) -> None:
    one, other = (speech.build(ALL, 500, COUNTS, seed, folder, silent)["train"] for seed in (0, 1))
    assert one.tokens.shape == (6, 1, 500)
    assert (one.lengths == 500).all()
    assert not np.array_equal(one.tokens, other.tokens)
    with pytest.raises(TaskError, match="length: 16001; a clip has 16000 samples"):
        speech.build(ALL, 16_001, COUNTS, 0, folder, silent)
    with pytest.raises(TaskError, match=r"splits\.test: asks for 4 clips; .* has 3"):
        speech.build(ALL, 500, {**COUNTS, "test": 4}, 0, folder, silent)


def test_companding_is_g711s_formula() -> None:
    """By hand: F(1) = 1 is level 255; F(0) = 0 is 127.5, rounded up; F(1/255) = ln 2 / ln 256 = 1/8 is 143.4375."""
    assert speech.companded(np.array([-1, 0, 1 / 255, 1])).tolist() == [0, 128, 143, 255]
    assert speech.expanded(np.array([0, 255])) == pytest.approx(np.array([-1, 1]))
    curve = np.arange(-(1 << 15), 1 << 15) / (1 << 15)
    exact = (np.sign(curve) * np.log1p(255 * np.abs(curve)) / np.log(256) + 1) / 2 * 255 % 1
    assert np.abs(exact[curve != 0] - 0.5).min() > 1e-6, "no machine's logarithm rounds a sample to another level"


@given(st.integers(0, 255))
def test_an_expanded_level_is_of_that_level(level: int) -> None:
    assert speech.companded(speech.expanded(np.array([level])))[0] == level


@given(st.integers(-(1 << 15), (1 << 15) - 1))
def test_a_token_stands_for_a_value_near_its_sample(sample: int) -> None:
    value = speech.values(ALL)[speech.TOKENS[np.int16(sample).view(np.uint16)], 0]
    assert abs(value - sample / 32768) <= 0.0222 * abs(sample / 32768) + 1e-4, "half a level is 2.2 % of what it is"


def test_values_are_one_a_symbol() -> None:
    table = speech.values(ALL)
    assert table.shape == (len(speech.vocabulary(ALL)), 1)
    assert table.dtype == np.float32
    assert table[0] == 0
    assert (np.diff(table[1:, 0]) > 0).all()


CLIP = f"{WORDS[0]}/00000000_nohash_0.wav"
WHOLE = sound(np.arange(100))
COMPRESSED = WHOLE[:20] + struct.pack("<H", 7) + WHOLE[22:]  # 7 is mu-law


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (sound(np.arange(100), channels=2), "2 channels of 16 bits at 16000 Hz, not 1 of 16 at 16000"),
        (sound(np.arange(100), width=1), "1 channels of 8 bits"),
        (sound(np.arange(100), rate=8000), "1 channels of 16 bits at 8000 Hz"),
        (sound(np.arange(0)), "0 samples, and its head says 0"),
        (WHOLE[:-50], "75 samples, and its head says 100"),
        (WHOLE[:20], r"no \.wav: "),
        (COMPRESSED, r"no \.wav: unknown format: 7"),
        (b"ID3 an mp3", r"no \.wav: file does not start with RIFF id"),
    ],
    ids=["stereo", "8 bits", "8 kHz", "empty", "cut", "head alone", "compressed", "mp3"],
)
def test_a_clip_of_another_kind_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path, {**released(), CLIP: content})
    with pytest.raises(DataError, match=rf"speech_commands_v0\.02\.tar\.gz: {CLIP}: {message}"):
        speech.build(ALL, 16_000, {"train": 7, "val": 2, "test": 3}, 0, tmp_path, silent)


def test_a_damaged_or_incomplete_archive_is_named(folder: Path) -> None:
    path = speech.files(folder)["archive"]
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"damaged, or no \.tar\.gz"):
        speech.build(ALL, 500, COUNTS, 0, folder, silent)
    members = released()
    del members["validation_list.txt"]
    write(folder, members)
    with pytest.raises(DataError, match=r"holds no validation_list\.txt"):
        speech.build(ALL, 500, COUNTS, 0, folder, silent)
    path.unlink()
    with pytest.raises(DataError, match=r"looked for one speech_commands_v0\.02\*\.tar\.gz"):
        speech.files(folder)


@pytest.mark.parametrize(
    ("tokens", "label", "message"), [([0, 0], 0, "empty"), ([1, 300], 0, "missing"), ([1, 2], 35, "not below 35")]
)
def test_check_finds_what_cannot_be(tokens: list[int], label: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        speech.check(ALL, np.array([tokens], np.uint16), label)


@pytest.mark.slow
def test_verify_holds_on_the_task_as_it_ships(folder: Path) -> None:
    settings = [Overlay("test", {"folder": str(folder), "splits": COUNTS})]
    checks = data.verify(tasks.load("speech-commands", settings=settings))
    assert [check for check in checks if not check.ok] == []
    assert tasks.load("speech-commands", variant="ten").classes == 10
