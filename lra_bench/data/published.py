"""Published parts, train and test, made into splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from lra_bench.config import Strict
from lra_bench.data.batches import permutation
from lra_bench.data.splits import cut, taken
from lra_bench.errors import TaskError
from lra_bench.shapes import Split


class Args(Strict):
    """How the published parts become splits."""

    val_from: Literal["train", "test"]  # what val is cut from; "test": val is the first of test


def splits(
    train: Split, test: Split, counts: Mapping[str, int], seed: int, val_from: str, path: Path
) -> dict[str, Split]:
    """So many examples of each split, in an order that `seed` gives; `val_from` as in `Args`.

    A val that is cut from train shares no example with it: those that stand in train twice stay there.

    Raises:
        TaskError: there are not so many; `path` is where they were looked for.
    """
    test = taken(test, permutation(len(test), seed, 0))
    if val_from == "test":
        val, train = test, taken(train, permutation(len(train), seed, 0))
    else:
        val, train = apart(train, counts["val"], seed)
    return completed({"train": train, "val": val, "test": test}, counts, seed, {"train": path})


def completed(
    parts: Mapping[str, Split], counts: Mapping[str, int], seed: int, places: Mapping[str, Path | str]
) -> dict[str, Split]:
    """The first so many examples of each split. What `parts` lacks is cut from train, in an order that `seed` gives.

    Raises:
        TaskError: there are not so many; `places` says where they were looked for, a split that it lacks in train's.
    """
    parts = dict(parts)
    for split in ("test", "val"):
        if split not in parts:
            parts[split], parts["train"] = apart(parts["train"], counts[split], seed)
    for split, n in counts.items():
        if n > len(parts[split]):
            place = places.get(split, places["train"])
            raise TaskError(f"splits.{split}: asks for {n} examples; {place} leaves {len(parts[split])}")
    return {split: cut(parts[split], 0, n) for split, n in counts.items()}


def apart(train: Split, n: int, seed: int) -> tuple[Split, Split]:
    """`n` examples that stand in train once, and the others, both in an order that `seed` gives."""
    order = permutation(len(train), seed, 0)
    digests = [hashlib.blake2b(tokens.tobytes(), digest_size=16).digest() for tokens in train.tokens]
    times = Counter(digests)
    once = np.array([i for i in order if times[digests[i]] == 1][:n], np.int64)
    return taken(train, once), taken(train, order[~np.isin(order, once)])
