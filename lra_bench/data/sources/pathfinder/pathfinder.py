"""Pathfinder: do the two discs lie on the ends of one dashed contour? Linsley et al. (arXiv 1805.08315), made small and
given to sequence models, pixel after pixel, by Long Range Arena (arXiv 2011.04006, section 2.2.5); Path-X is its 128.

Generated from a seed (`contours.py`, `drawings.py`), or read from the folders of LRA's release (`released.py`). The
parameters are those that LRA documents (google-research/long-range-arena, lra_benchmarks/data/pathfinder.py).

What differs from LRA's pipeline and data:

- token = gray level + 1: there black, most of a picture, is 0, which is padding and is masked by models with a mask, as
  with `black: padding`;
- the process is the documented one, not its code: what differs is said in `contours.py` and `paddles.py`;
- how many distractors there are follows from the difficulty's own contour length; LRA documents the hard one alone;
- generated splits share no picture; every example is counted, where there a last, short batch is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from lra_bench.config import Strict
from lra_bench.data import Progress, generated
from lra_bench.data.formats import quantization
from lra_bench.data.formats.quantization import decode, encode, row, values
from lra_bench.data.generated import Dice
from lra_bench.data.sources.pathfinder import released
from lra_bench.data.sources.pathfinder.contours import Scene
from lra_bench.data.sources.pathfinder.drawings import Manner, Pictures, pictures
from lra_bench.data.sources.pathfinder.paddles import Stroke, disc
from lra_bench.data.sources.pathfinder.walks import solve
from lra_bench.data.split_schemes import SHUFFLED
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

__all__ = [
    "HEADER", "PUBLISHED", "VERSION", "Args",
    "build", "check", "decode", "derived", "encode", "files", "row", "values", "vocabulary",
]  # fmt: skip

VERSION = 1
HEADER = "Source\tTarget"
PUBLISHED = False  # where no folder is given
CLASSES = 2

CONTOUR = {"easy": 6, "intermediate": 9, "hard": 14}  # paddles of a target contour
# Of a size in pixels, as LRA documents it: (padding, seed_distance, paddle_length, paddle_thickness in half pixels),
# paddle_margin_list, continuity, paddles of all distractors at most; marker_radius in half pixels, contrasts of targets
# and of distractors in twentieths. A target's is its snake's times its paddles', 2 x 0.75 at 32, a distractor's is its
# snake's alone: so in the generator, from which comes too what LRA leaves out.
SIZES = {
    32: ((1, 7, 2, 1), (1,), 1.0, 20, Manner(3, 30, 40)),
    64: ((1, 12, 5, 2), (1,), 1.8, 22, Manner(5, 16, 16)),
    128: ((1, 20, 5, 3), (2, 3), 1.8, 35, Manner(6, 18, 18)),
    256: ((22, 27, 5, 4), (3,), 1.8, 30, Manner(10, 20, 20)),
}
CHUNK = {32: 2048, 64: 128, 128: 64, 256: 32}  # pictures that are drawn together: where more of them are no quicker
DIM = 205  # the level of the dimmest marker there can be
CLEAR, NEAR = 64, 6  # levels of a disc that are looked at, and by which one that another program drew may be darker


class Args(Strict):
    """Which pictures they are, and how released ones become splits."""

    size: Literal[32, 64, 128, 256]  # pixels along an edge
    difficulty: Literal["easy", "intermediate", "hard"]  # target contours of 6, 9 or 14 paddles
    split: Literal["shuffled", "torch-42", "tfds"]  # of released pictures: see `split_schemes.py`
    black: quantization.Black


def vocabulary(args: Args) -> tuple[str, ...]:
    """The symbol of each id: padding and 256 levels."""
    return quantization.SYMBOLS


def files(folder: Path) -> dict[str, Path]:
    """The released lists of pictures and labels in `folder`, for every difficulty that is there.

    They stand for the pictures too: of 200,000 files nobody wants the hash before every run. So a picture that is
    changed while its list stays is not noticed.

    Raises:
        DataError: there are none.
    """
    return released.lists(folder)


def build(
    args: Args, length: int, splits: Mapping[str, int], seed: int, folder: Path | None, progress: Progress
) -> dict[str, Split]:
    """So many pictures of each split, made from `seed`, or read and cut as `args.split` says.

    Raises:
        TaskError: `length` is not that of a picture, there are not so many, or generated ones are to be cut otherwise.
        DataError: a released list or picture is missing or wrong.
    """
    if length != args.size * args.size:
        raise TaskError(f"length: {length}; a picture of {args.size} x {args.size} has {args.size * args.size} pixels")
    if folder is not None:
        album = released.album(folder, args.size, args.difficulty, CONTOUR[args.difficulty])
        return released.splits(album, splits, args.split, seed, args.black, progress)
    if args.split != SHUFFLED:
        raise TaskError(f"args.split: {args.split} cuts released pictures; name their folder: --set task.folder=FOLDER")
    return generated.splits(partial(draw, args, length, seed), splits, f"{args!r}", progress)


def scenes(args: Args) -> list[Scene]:
    """What is in a picture, for each of the margins that one may have."""
    (padding, distance, long, thick), margins, continuity, most, _ = SIZES[args.size]
    contour = CONTOUR[args.difficulty]
    short = contour // 3
    return [
        Scene(args.size, padding, distance, Stroke(long, thick, margin, continuity), contour, short, most // short)
        for margin in margins
    ]


def drawn(args: Args, n: int, dice: Dice) -> list[tuple[Scene, Pictures]]:
    """`n` pictures, those of each margin together; any margin is as likely as another."""
    choices = scenes(args)
    margin = dice.throw(len(choices), (n,))
    return [
        (scene, pictures(scene, SIZES[args.size][-1], int((margin == index).sum()), dice))
        for index, scene in enumerate(choices)
        if (margin == index).any()
    ]


def derived(args: Args, seed: int) -> dict[bytes, int]:
    """The labels of the first chunk's pictures, tokens [1, L] as bytes, by a walk along the contours that were drawn.

    Raises:
        DataError: a marker lies where none may.
    """
    dice = Dice(seed, 0)
    margins = drawn(args, CHUNK[args.size], dice)
    return {
        quantization.tokens_of(made.levels[i], args.black).tobytes(): solve(scene, *made.paddles_of(i), made.markers[i])
        for scene, made in margins
        for i in range(len(made.label))
    }


def draw(args: Args, length: int, seed: int, chunk: int) -> tuple[Split, list[bytes]]:
    """The chunk of a number, as `generated.Draw` has it."""
    dice = Dice(seed, chunk)
    n = CHUNK[args.size]
    parts = [made for _, made in drawn(args, n, dice)]
    order = dice.order((n,))
    flat = np.concatenate([part.levels for part in parts]).reshape(n, length)[order]
    label = np.concatenate([part.label for part in parts])[order]
    digests = [hashlib.blake2b(picture.tobytes(), digest_size=16).digest() for picture in flat]
    return quantization.split(flat, label, args.black), digests


def check(args: Args, tokens: np.ndarray, label: int) -> None:
    """Hold a picture, tokens [1, L], against what there can be: black and white, mostly black, and two discs.

    Its label is not derived: from pixels alone that is what models are for. `derived` has it from the contours.

    Raises:
        DataError: a pixel is missing, its levels are not 0 to 255, too few are black, it has no two discs, or its label
            is none.
    """
    quantization.check(tokens[0], label, CLASSES, args.black)
    picture = np.maximum(tokens[0].astype(np.int64) - 1, 0).reshape(args.size, args.size)
    if (picture.min(), picture.max()) != (0, 255):
        raise DataError(f"its levels are {picture.min()} to {picture.max()}, not 0 to 255")
    if np.median(picture) > NEAR:
        raise DataError(f"its median level is {np.median(picture):.0f}: it is not drawn on black")
    found = discs(args, picture)
    if len(found) < 2:
        raise DataError(f"{len(found)} discs of a marker's size are in it, not two")


def discs(args: Args, picture: np.ndarray) -> np.ndarray:
    """Where a marker may lie in a picture [P, P], int64 [m, 2]: nothing is darker there than a dim disc would be.

    A marker has the level 255, but where a distractor is brighter: there the whole picture is scaled down.
    """
    template = disc(SIZES[args.size][-1].marker).astype(np.int64)
    reach = len(template) // 2
    fits = np.ones(picture.shape, bool)
    padded = np.pad(picture, reach, constant_values=255)
    for y, x in np.argwhere(template >= CLEAR):
        there = padded[y : y + args.size, x : x + args.size]
        fits &= there * 255 >= template[y, x] * DIM - NEAR * 255
    return np.argwhere(fits)
