"""Pathfinder's pictures: their contours are what is documented, their labels what the contours say."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lra_bench import data
from lra_bench.config import Overlay, tasks
from lra_bench.data import silent, verification
from lra_bench.data.generated import Dice
from lra_bench.data.sources.pathfinder import contours, pathfinder
from lra_bench.data.sources.pathfinder.contours import CONTOUR_TRIES, OVERLAP, Scene
from lra_bench.data.sources.pathfinder.drawings import Pictures, pictures
from lra_bench.data.sources.pathfinder.paddles import DEGREES, compass, disc, paddles
from lra_bench.data.sources.pathfinder.walks import solve
from lra_bench.errors import DataError, TaskError

NAMES = {32: "pathfinder", 64: "pathfinder64", 128: "pathx", 256: "pathfinder256"}
# The first digits of SHA-256 over four pictures of each size.
KNOWN = {32: "5ee7642f2311", 64: "cfebaa70546c", 128: "afe9bff57e85", 256: "01336ca21d06"}


def args(size: int = 32, difficulty: str = "hard", split: str = "shuffled") -> pathfinder.Args:
    return pathfinder.Args.model_validate({"size": size, "difficulty": difficulty, "split": split, "black": "level"})


def drawn(asked: pathfinder.Args, n: int, seed: int = 0) -> list[tuple[Scene, Pictures]]:
    """`n` pictures of each scene that there may be."""
    manner = pathfinder.SIZES[asked.size][-1]
    return [(scene, pictures(scene, manner, n, Dice(seed, 0))) for scene in pathfinder.scenes(asked)]


def bag(made: Pictures, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the paddles of a picture are, and their kinds, in no order."""
    at, kind = made.paddles_of(i)
    order = np.random.default_rng(i).permutation(len(kind))
    return at[order], kind[order]


@pytest.fixture(scope="module")
def hard() -> tuple[Scene, Pictures]:
    return drawn(args(), 2000)[0]


@pytest.mark.parametrize("size", NAMES)
def test_the_bytes_are_the_same_for_ever(size: int) -> None:
    """If this fails, rows that stand compare with nothing: raise VERSION, or undo it."""
    made = drawn(args(size, "easy"), 4, seed=3)
    assert hashlib.sha256(b"".join(part.levels.tobytes() for _, part in made)).hexdigest()[:12] == KNOWN[size]


def test_the_contours_say_the_label(hard: tuple[Scene, Pictures]) -> None:
    scene, made = hard
    found = [solve(scene, *bag(made, i), made.markers[i]) for i in range(len(made.label))]
    assert np.array_equal(found, made.label)


@pytest.mark.parametrize("size", [128, 256])
def test_the_contours_of_large_pictures_say_the_label(size: int) -> None:
    for scene, made in drawn(args(size, "easy"), 50):
        assert [solve(scene, *bag(made, i), made.markers[i]) for i in range(50)] == made.label.tolist()


def test_the_other_end_is_the_other_label(hard: tuple[Scene, Pictures]) -> None:
    scene, made = hard
    one, two = (contour.at[:, -1] for contour in made.contours[:2])
    for i in range(200):
        other = two[i] if np.array_equal(made.markers[i, 1], one[i]) else one[i]
        assert solve(scene, *bag(made, i), np.stack([made.markers[i, 0], other])) == 1 - made.label[i]


def test_markers_that_lie_on_no_end_are_refused(hard: tuple[Scene, Pictures]) -> None:
    scene, made = hard
    with pytest.raises(DataError, match="0 of two markers lie where a contour begins"):
        solve(scene, *bag(made, 0), np.zeros((2, 2), np.int64))
    with pytest.raises(DataError, match="a marker lies on no paddle"):
        solve(scene, *bag(made, 0), np.stack([made.markers[0, 0], [0, 0]]))


@pytest.mark.slow
@given(st.integers(0, 2**63 - 1), st.sampled_from(["easy", "intermediate", "hard"]))
@settings(max_examples=6, deadline=None)
def test_the_contours_are_what_is_documented(seed: int, difficulty: str) -> None:
    (scene, made), *_ = drawn(args(32, difficulty), 20, seed)
    table = paddles(scene.stroke)
    one, two = made.contours[:2]
    assert scene.contour == {"easy": 6, "intermediate": 9, "hard": 14}[difficulty]
    assert (one.kind.shape, len(made.contours)) == ((20, scene.contour), 2 + 20 // (scene.contour // 3))
    assert all(contour.kind.shape == (20, scene.contour // 3) for contour in made.contours[2:])
    apart = np.hypot(*(one.at[:, 0] - two.at[:, 0]).T)
    assert (abs(apart - scene.seed_distance) <= np.sqrt(2)).all()
    for contour in made.contours:
        placed = contour.kind[:, 0] >= 0
        assert ((contour.kind >= 0) == placed[:, None]).all(), "a contour is whole or not there"
        at, kind = contour.at[placed], contour.kind[placed]
        assert (kind[:, 0] < DEGREES).all()
        assert (kind[:, 1:] >= DEGREES).all()
        assert ((at >= scene.padding) & (at < scene.size - scene.padding)).all()
        pivots = (at + table.onward[kind])[:, :-1]
        assert np.array_equal(pivots + table.spots[kind[:, 1:] - DEGREES], at[:, 1:])


@pytest.mark.parametrize("size", [32, 128])
def test_a_turn_is_less_than_what_continuity_allows(size: int) -> None:
    for scene, made in drawn(args(size, "easy"), 40):
        table = paddles(scene.stroke)
        ways = np.concatenate([compass(), table.spots])
        for contour in made.contours[:2]:
            way = ways[contour.kind]
            cosine = (way[:, 1:] * way[:, :-1]).sum(-1) / np.linalg.norm(way[:, 1:], axis=-1)
            turn = np.degrees(np.arccos(np.clip(cosine / np.linalg.norm(way[:, :-1], axis=-1), -1, 1)))
            assert turn.max() < 90 / scene.stroke.continuity
            assert 10 < turn.mean() < 45 / scene.stroke.continuity


def test_paddles_do_not_meet(hard: tuple[Scene, Pictures]) -> None:
    """By two masks at a time, each drawn on a canvas of its own; a paddle may touch the one before it."""
    scene, made = hard
    table = paddles(scene.stroke)
    wide = 2 * table.reach + 1
    for i in range(25):
        canvases, whose = [], []
        for c, contour in enumerate(made.contours[:2]):
            for p, (at, kind) in enumerate(zip(contour.at[i], contour.kind[i], strict=True)):
                canvas = np.zeros((scene.size + wide, scene.size + wide), int)
                canvas[at[0] : at[0] + wide, at[1] : at[1] + wide] = table.mask[kind].reshape(wide, wide)
                canvases.append(canvas)
                whose.append((c, p))
        for a, (c, p) in enumerate(whose):
            for b, (d, q) in enumerate(whose[:a]):
                if c != d or abs(p - q) > 1:
                    assert (canvases[a] + canvases[b]).max() < OVERLAP, f"picture {i}: {c}.{p} and {d}.{q}"


def test_targets_that_cross_in_a_pivot_are_drawn_anew(hard: tuple[Scene, Pictures]) -> None:
    scene, made = hard
    one, two = made.contours[:2]
    assert not contours.meeting(scene, one, two).any()
    pivot, other = ((grown.at + paddles(scene.stroke).onward[grown.kind])[:, 3] for grown in (one, two))
    moved = two._replace(at=two.at + (pivot - other)[:, None])
    assert contours.meeting(scene, one, moved).all()


def test_markers_lie_on_a_first_and_a_last_paddle(hard: tuple[Scene, Pictures]) -> None:
    _, made = hard
    first, last = (np.stack([contour.at[:, end] for contour in made.contours[:2]], 1) for end in (0, -1))
    begins = (made.markers[:, :1] == first).all(2)
    ends = (made.markers[:, 1:] == last).all(2)
    assert (begins.any(1) & ends.any(1)).all()
    assert np.array_equal((begins & ends).any(1), made.label == 1)
    assert abs(begins[:, 0].mean() - 0.5) < 0.06, "either contour is as likely to be begun on"


def test_labels_are_balanced(hard: tuple[Scene, Pictures]) -> None:
    assert abs(hard[1].label.mean() - 0.5) < 5 * 0.5 / np.sqrt(2000)


def test_pictures_are_like_the_public_generators(hard: tuple[Scene, Pictures]) -> None:
    """Recorded of 800 pictures that it drew with LRA's arguments. They have fewer distractors: less of them is ink."""
    _, made = hard
    apart = np.hypot(*(made.markers[:, 0] - made.markers[:, 1]).T)
    for label, theirs in ((0, 12.46), (1, 13.77)):
        assert abs(apart[made.label == label].mean() - theirs) < 0.8
    assert 0.125 < (made.levels >= 64).mean() < 0.20
    assert 0.340 < (made.levels > 0).mean() < 0.50


def test_a_disc_is_drawn_as_the_public_generator_draws_it() -> None:
    """As in its pictures: the middle of a marker's four brightest pixels lies half a pixel up and left."""
    found = disc(3)[3:7, 3:7]
    assert found.tolist() == [[0, 28, 65, 3], [28, 228, 254, 133], [66, 255, 255, 190], [0, 132, 178, 55]]


def test_contours_that_find_no_room_are_left_out(hard: tuple[Scene, Pictures]) -> None:
    _, made = hard
    placed = np.mean([contour.kind[:, 0] >= 0 for contour in made.contours[2:]])
    assert CONTOUR_TRIES == 5
    assert 0.8 < placed < 1, "five tries each on a crowded picture"


@pytest.mark.parametrize("size", NAMES)
def test_the_tasks_as_they_ship(size: int) -> None:
    for variant, contour in ((None, 14), ("easy", 6), ("intermediate", 9), ("quick", 6)):
        task = tasks.load(NAMES[size], variant=variant)
        asked = data.arguments(task)
        assert isinstance(asked, pathfinder.Args)
        assert (task.length, task.grid, asked.size) == (size * size, [size, size], size)
        assert {scene.contour for scene in pathfinder.scenes(asked)} == {contour}
        if variant != "quick":
            assert task.splits == {"train": 160_000, "val": 20_000, "test": 20_000}


@pytest.fixture
def fewer(monkeypatch: pytest.MonkeyPatch, alone: None) -> None:
    """Chunks of 64 pictures, fewer tries at once, and no other process."""
    monkeypatch.setattr(contours, "AT_ONCE", 1 << 19)
    monkeypatch.setattr(pathfinder, "CHUNK", dict.fromkeys(pathfinder.CHUNK, 64))


@pytest.mark.usefixtures("fewer")
def test_a_longer_train_leaves_the_others_alone() -> None:
    built, longer = (
        pathfinder.build(args(), 1024, {"train": n, "val": 30, "test": 50}, 0, None, silent) for n in (40, 100)
    )
    assert {name: split.tokens.dtype for name, split in built.items()} == dict.fromkeys(built, np.uint16)
    for name in ("val", "test"):
        assert np.array_equal(built[name].tokens, longer[name].tokens)
    assert np.array_equal(built["train"].tokens, longer["train"].tokens[:40])
    other = pathfinder.build(args(), 1024, {"test": 50}, 1, None, silent)
    assert not np.array_equal(built["test"].tokens, other["test"].tokens)


@pytest.mark.usefixtures("fewer")
@pytest.mark.parametrize("size", [32, 128])
def test_they_are_what_verify_wants(size: int) -> None:
    small = [Overlay("test", {"splits": {"train": 40, "val": 8, "test": 16}})]
    verification = data.verify(tasks.load(NAMES[size], variant="quick", settings=small))
    assert [check for check in verification if not check.ok] == []


@pytest.mark.parametrize(
    ("asked", "length", "message"),
    [
        (args(64), 1024, "length: 1024; a picture of 64 x 64 has 4096 pixels"),
        (args(split="tfds"), 1024, "args.split: tfds cuts released pictures; name their folder"),
    ],
)
def test_what_cannot_be_is_said(asked: pathfinder.Args, length: int, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        pathfinder.build(asked, length, {"train": 1}, 0, None, silent)


def test_a_picture_that_is_none_is_refused(hard: tuple[Scene, Pictures]) -> None:
    made = hard[1]
    i = int(np.argmax(np.hypot(*(made.markers[:, 0] - made.markers[:, 1]).T)))
    tokens = made.levels[i].reshape(1, -1).astype(np.uint16) + 1

    def refused(changed: Any, message: str, label: int = 0) -> None:
        with pytest.raises(DataError, match=message):
            pathfinder.check(args(), changed, label)

    pathfinder.check(args(), tokens, 1)
    refused(tokens, "its label is 2", 2)
    refused(np.where(tokens == 1, 0, tokens), "levels are missing")
    refused(np.minimum(tokens, 200), "its levels are 0 to 199")
    refused(np.where(tokens < 60, 60, tokens) - 59 * (np.arange(1024) == 0), "its median level is 59")
    y, x = made.markers[i, 0]
    picture = tokens.copy().reshape(32, 32)
    picture[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = 1
    picture[0, 0] = 256
    refused(picture.reshape(1, -1), "1 discs of a marker's size")


@pytest.mark.usefixtures("fewer")
def test_verify_derives_labels_from_the_contours() -> None:
    few = {"train": 24, "val": 20, "test": 20}
    task = tasks.load("pathfinder", settings=[Overlay("test", {"splits": few})])
    made = data.prepare(task)
    (check,) = [check for check in data.verify(task) if check.name == "derived labels"]
    assert check == ("derived labels", True, "0 of 64 labels are not what they were made from says")
    wrong = dataclasses.replace(made.splits["val"], label=1 - made.splits["val"].label)
    turned = dataclasses.replace(made, splits={**made.splits, "val": wrong})
    (check,) = verification._derived(task, turned)
    assert (check.ok, check.detail[:8]) == (False, "20 of 64")
