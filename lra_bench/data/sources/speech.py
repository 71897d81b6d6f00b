"""Speech Commands 0.02 (Warden, arXiv 1804.03209): which word is it, from a second of sound, sample after sample?

Read from `speech_commands_v0.02.tar.gz` itself, in the user's folder or fetched. token = level of mu-law + 1: the
continuous companding formula of ITU-T G.711, mu = 255, in 256 levels. A clip that is shorter than `length` is padded on
the right, a longer one is cut. The splits are the archive's own lists, which no speaker is in two of; train is what
neither names. What differs from others:

- CKConv (Romero et al., arXiv 2102.02611) and S4 (Gu et al., arXiv 2111.00396) read ten words as raw floats, and cut
  them at random, 70 : 15 : 15, so that a speaker may be in train and in test; `words: ten` has their words, not their
  cut;
- TFDS makes twelve classes of the same archive, of the ten words, of all others and of silence.

Every clip is made into its tokens once, in the place where it stays: what is asked for is in memory once.
"""

from __future__ import annotations

import io
import re
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from lra_bench.config import Strict
from lra_bench.data import Progress
from lra_bench.data.batches import permutation
from lra_bench.data.download import Remote, fetched
from lra_bench.data.formats import archives, quantization
from lra_bench.data.formats.quantization import decode, encode, row
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

__all__ = [
    "HEADER", "PUBLISHED", "VERSION", "Args",
    "build", "check", "decode", "encode", "files", "row", "values", "vocabulary",
]  # fmt: skip

VERSION = 1
HEADER = "Source\tTarget"
PUBLISHED = True

REMOTE = Remote(
    url="http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    name="speech_commands_v0.02.tar.gz",
    bytes=2_428_923_189,
    sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
)
RATE, MU = 16_000, 255
TEN = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
OTHERS = (
    "backward", "bed", "bird", "cat", "dog", "eight", "five", "follow", "forward", "four", "happy", "house", "learn",
    "marvin", "nine", "one", "seven", "sheila", "six", "three", "tree", "two", "visual", "wow", "zero",
)  # fmt: skip
WORDS = {"all": tuple(sorted(TEN + OTHERS)), "ten": TEN}
LISTS = {"validation_list.txt": "val", "testing_list.txt": "test"}


class Args(Strict):
    """Which of the words are asked for."""

    words: Literal["all", "ten"]  # all 35, or: yes no up down left right on off stop go


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding and 256 levels."""
    return quantization.SYMBOLS


def values(args: Args) -> np.ndarray:
    """The amplitude from -1 to 1 that each id stands for, float32 [257, 1]; padding stands for 0."""
    return np.concatenate(([0.0], expanded(np.arange(MU + 1)))).astype(np.float32)[:, None]


def companded(amplitude: np.ndarray) -> np.ndarray:
    """The level of mu-law, uint8, of amplitudes from -1 to 1: sgn x ln(1 + mu |x|) / ln(1 + mu), rounded."""
    curve = np.sign(amplitude) * np.log1p(MU * np.abs(amplitude)) / np.log1p(MU)
    return np.floor((curve + 1) / 2 * MU + 0.5).astype(np.uint8)


def expanded(level: np.ndarray) -> np.ndarray:
    """The amplitude, float64, in the middle of what `companded` gives that level."""
    curve = 2 * level / MU - 1
    return np.sign(curve) * np.expm1(np.abs(curve) * np.log1p(MU)) / MU


TOKENS = companded(np.arange(1 << 16, dtype=np.uint16).view(np.int16) / (1 << 15)) + np.uint16(1)  # of a sample's bits


def files(folder: Path) -> dict[str, Path]:
    """The archive in `folder`, which holds all splits.

    Raises:
        DataError: there is none, or there are several.
    """
    return {"archive": archives.one(folder, "speech_commands_v0.02*.tar.gz", REMOTE.url)}


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> dict[str, Split]:
    """So many clips of each split, drawn in an order that `seed` gives. The archive is read twice: names, then sounds.

    Raises:
        TaskError: there are not so many, or `length` is more than a second.
        DataError: the archive is missing or damaged, has no list of a split, or a clip is no sound of that kind.
    """
    if length > RATE:
        raise TaskError(f"length: {length}; a clip has {RATE} samples")
    path = fetched(REMOTE) if folder is None else files(folder)["archive"]
    words = WORDS[args.words]
    wanted: dict[str, tuple[str, int]] = {}
    for split, names in _named(path, words, progress).items():
        n = splits[split]
        if n > len(names):
            raise TaskError(f"splits.{split}: asks for {n} clips; {path} has {len(names)}")
        wanted |= {names[i]: (split, place) for place, i in enumerate(permutation(len(names), seed, 0)[:n])}
    made = {split: _empty(n, length) for split, n in splits.items()}
    done = 0
    for named, content in archives.members(path, _clips(words)):
        if named[0] in wanted:
            split, place = wanted[named[0]]
            _put(made[split], place, _samples(f"{path}: {named[0]}", content), words.index(named["word"]))
            done += 1
            if done % 1000 == 0:
                progress(f"reading {path.name}", done, len(wanted))
    return made


def _clips(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?P<word>{'|'.join(words)})/[^/]+\.wav")


def _named(path: Path, words: tuple[str, ...], progress: Progress) -> dict[str, list[str]]:
    """The names of the clips of each split, sorted."""
    clip, lists, every = _clips(words), dict[str, set[str]](), []
    pattern = re.compile(rf"{clip.pattern}|{'|'.join(map(re.escape, LISTS))}")
    for named, content in archives.members(path, pattern):
        if named["word"]:
            every.append(named[0])
            if len(every) % 1000 == 0:
                progress(f"reading the names in {path.name}", len(every), len(every))
        else:
            lists[LISTS[named[0]]] = set(content.decode("ascii", "replace").split())
    missing = [name for name, split in LISTS.items() if split not in lists]
    if missing:
        raise DataError(f"{path}: holds no {missing[0]}")
    listed = lists["val"] | lists["test"]
    return {
        "train": sorted(name for name in every if name not in listed),
        **{split: sorted(name for name in every if name in names) for split, names in lists.items()},
    }


def _empty(n: int, length: int) -> Split:
    return Split(np.zeros((n, 1, length), np.uint16), np.zeros((n, 1), np.int32), np.zeros(n, np.int32))


def _put(split: Split, place: int, samples: np.ndarray, label: int) -> None:
    """A clip's samples, int16 [n], as tokens in the place where they stay."""
    n = min(len(samples), split.tokens.shape[-1])
    split.tokens[place, 0, :n] = TOKENS[samples[:n].view(np.uint16)]
    split.lengths[place], split.label[place] = n, label


def _samples(name: str, content: bytes) -> np.ndarray:
    """The samples of a .wav file, int16 [n].

    Raises:
        DataError: it is none, or not of one channel of 16 bits at 16 kHz, or is empty or cut off.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            kind = file.getnchannels(), 8 * file.getsampwidth(), file.getframerate()
            stated, sound = file.getnframes(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise DataError(f"{name}: no .wav: {error or 'it is cut off'}") from None
    if kind != (1, 16, RATE):
        raise DataError(f"{name}: {kind[0]} channels of {kind[1]} bits at {kind[2]} Hz, not 1 of 16 at {RATE}")
    if not stated or len(sound) != 2 * stated:
        raise DataError(f"{name}: {len(sound) // 2} samples, and its head says {stated}")
    return np.frombuffer(sound, "<i2").astype(np.int16)


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold a clip, tokens [1, L], and its label against what there can be. Its label cannot be derived.

    Raises:
        DataError: it is empty, a level is none of 256, or there is no such word.
    """
    samples = tokens[0][tokens[0] > 0]
    if not samples.size:
        raise DataError("it is empty")
    quantization.check(samples, label, len(WORDS[args.words]))
