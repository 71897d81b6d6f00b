"""Windows of a text, and the byte that follows at each place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lra_bench import data
from lra_bench.config import tasks
from lra_bench.data import silent
from lra_bench.data.sources import causal_lm
from lra_bench.data.sources.causal_lm import Args
from lra_bench.errors import DataError, TaskError
from lra_bench.shapes import Split

L = 16
COUNTS = {"train": 50, "val": 4, "test": 3}
TEXT = "".join(f"{i:03d} Häuser. " for i in range(200))


def built(folder: Path) -> dict[str, Split]:
    return causal_lm.build(Args(), L, COUNTS, 0, folder, silent)


def test_what_is_asked_for_is_what_follows_and_no_window_of_train_reaches_into_the_end(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(TEXT)
    made, text = built(tmp_path), TEXT.encode()
    held_out = L * (COUNTS["val"] + COUNTS["test"]) + 2
    windows = [(np.append(split.tokens[i, 0], split.label[i, -1]) - 1).astype(np.uint8).tobytes()
               for split in made.values() for i in range(len(split))]  # fmt: skip
    assert all(window in text[:-held_out] for window in windows[: COUNTS["train"]])
    assert windows[-1] == text[-L - 1 :]
    for split in made.values():
        assert (split.tokens[:, 0, 1:] == split.label[:, :-1]).all()
        for tokens, label in zip(split.tokens, split.label, strict=True):
            causal_lm.check(Args(), tokens, label)


def test_a_label_of_another_place_is_found(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(TEXT)
    split = built(tmp_path)["test"]
    with pytest.raises(DataError, match="not what follows"):
        causal_lm.check(Args(), split.tokens[0], np.roll(split.label[0], 1))
    with pytest.raises(TaskError, match=r"splits\.\w+: asks for \d+ windows"):
        causal_lm.build(Args(), L, COUNTS | {"val": 900}, 0, tmp_path, silent)


def test_the_shipped_task_asks_at_every_place_and_needs_a_text() -> None:
    task = tasks.load("bytes")
    assert (data.asked(task), data.looks_ahead(task)) == (task.length, True)
    assert not data.looks_ahead(tasks.load("masked-lm"))
    with pytest.raises(DataError, match=r"train\.txt"):
        causal_lm.build(Args(), L, COUNTS, 0, None, silent)
