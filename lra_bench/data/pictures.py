"""Examples that are pictures, as pictures: for people to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lra_bench.config import TaskSpec
from lra_bench.data import arguments, load, values


def picture(task: TaskSpec, tokens: np.ndarray) -> np.ndarray | None:
    """One stream of tokens [L] as gray levels, uint8 [rows, columns], or as colors, uint8 [rows, columns, 3].

    None where the task's examples are no pictures: it has no grid, or its symbols stand for no numbers.
    """
    numbers = values(task)
    if task.grid is None or numbers is None:
        return None
    levels = np.rint(255 * numbers[tokens, 0]).astype(np.uint8).reshape(task.grid)
    channels = getattr(load(task.source), "channels", None)
    colors = 1 if channels is None else channels(arguments(task))
    return levels if colors == 1 else levels.reshape(len(levels), -1, colors)


def fitted(picture: np.ndarray, columns: int) -> np.ndarray:
    """The picture, made smaller if it is more than so many columns wide."""
    from PIL import Image

    rows, wide = picture.shape[:2]
    if wide <= columns:
        return picture
    size = (columns, max(1, round(rows * columns / wide)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def write(picture: np.ndarray, path: Path) -> None:
    """Write it as a PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
