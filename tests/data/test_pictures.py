"""Examples that are pictures are shown as such: on the screen, and as PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import Lra

from lra_bench.cli import screen
from lra_bench.config import Overlay, tasks
from lra_bench.data import pictures

SMALL = Overlay("test", {"splits": {"train": 3, "val": 2, "test": 2}})


def test_a_gray_picture_is_its_levels() -> None:
    task = tasks.load("pathfinder", settings=[SMALL])
    levels = np.arange(1024) % 256
    drawn = pictures.picture(task, levels + 1)
    assert drawn is not None
    assert np.array_equal(drawn, levels.reshape(32, 32))
    black = pictures.picture(task, np.zeros(1024, int))
    assert black is not None
    assert not black.any(), "padding is black"


def test_three_tokens_are_a_pixel_where_there_are_colors() -> None:
    task = tasks.load("image", variant="rgb")
    tokens = np.tile([256, 1, 101], 1024)
    drawn = pictures.picture(task, tokens)
    assert drawn is not None
    assert drawn.shape == (32, 32, 3)
    assert (drawn == [255, 0, 100]).all()


@pytest.mark.parametrize("name", ["listops", "mnist-permuted", "adding"])
def test_what_is_no_picture_has_none(name: str) -> None:
    assert pictures.picture(tasks.load(name), np.ones(784, int)) is None


def test_a_wide_picture_is_made_to_fit() -> None:
    wide = np.repeat(np.array([[0, 255]], np.uint8), 100, axis=1)
    assert pictures.fitted(wide, 300) is wide
    assert pictures.fitted(np.repeat(wide, 40, axis=0), 20).shape == (4, 20)


def test_two_rows_are_a_line_of_shades_or_of_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.array([[0, 255], [0, 255], [255, 0]], np.uint8)
    monkeypatch.setattr(screen.out, "_color_system", None)
    assert screen.picture(picture).plain == " @\n= "
    monkeypatch.setattr(screen.out, "_color_system", 3)
    drawn = screen.picture(picture)
    assert drawn.plain == "▀▀\n▀▀\n"
    styles = [str(span.style) for span in drawn.spans]
    assert styles[:2] == ["#000000 on #000000", "#ffffff on #ffffff"]
    assert styles[2] == "#ffffff on #000000", "an odd row is followed by black"


@pytest.mark.slow
def test_the_command_shows_and_writes_them(lra: Lra, tmp_path: Path) -> None:
    few = [part for key in ("train", "val", "test") for part in ("--set", f"task.splits.{key}=3")]
    done = lra("data", "show", "pathfinder@easy", "-n", "2", "--png", "drawn", *few)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pathfinder train") == 2
    assert "%" in done.stdout or "@" in done.stdout, "a disc's shade"
    drawn = sorted((tmp_path / "drawn").iterdir())
    assert [path.name for path in drawn] == ["pathfinder-train-0.png", "pathfinder-train-1.png"]
    assert Image.open(drawn[0]).size == (32, 32)
    refused = lra("data", "show", "parity", "--variant", "quick", "--png", "drawn")
    assert refused.returncode == 2
    assert "the examples of parity are no pictures" in refused.stderr
