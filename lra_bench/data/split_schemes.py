"""The ways in which the field cuts one set of examples into train, val and test, each with its own test set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from lra_bench.data.batches import permutation

SEED = 42  # of torch-42
TORCH, TFDS, SHUFFLED = "torch-42", "tfds", "shuffled"


def shuffled(n: int, counts: Mapping[str, int], seed: int) -> dict[str, np.ndarray]:
    """Ours: the splits one after the other, test first and train last, in an order that `seed` gives."""
    order = permutation(n, seed, 0)
    stops = np.cumsum([counts.get(split, 0) for split in ("test", "val", "train")])
    test, val, train = np.split(order[: stops[-1]], stops[:-1])
    return {"train": train, "val": val, "test": test}


def torch_42(n: int) -> dict[str, np.ndarray]:
    """Train 80 %, val 10 % and test 10 %, as PyTorch's random_split with its generator's seed 42 cuts them.

    So S4 (state-spaces/s4, src/dataloaders/lra.py), S5 and Mega do.
    """
    tenth = int(0.1 * n)
    train, val, test = np.split(torch_permutation(n, SEED), [n - 2 * tenth, n - tenth])
    return {"train": train, "val": val, "test": test}


def tfds(keys: Sequence[str], salt: str) -> dict[str, np.ndarray]:
    """Train [:80%], val [80%:90%] and test [90%:] of the examples in TensorFlow Datasets' order.

    A limit between examples is rounded to the nearest.
    """
    limits = [round(len(keys) * share / 100) for share in (80, 90)]
    train, val, test = np.split(tfds_order(keys, salt), limits)
    return {"train": train, "val": val, "test": test}


def tfds_order(keys: Sequence[str], salt: str) -> np.ndarray:
    """TensorFlow Datasets' order of the examples of a split, int64 [n].

    That of MD5 over the name of the split, the salt, and an example's key (tensorflow_datasets.core.hashing).
    """
    hashes = [hashlib.md5((salt + key).encode(), usedforsecurity=False).digest() for key in keys]
    return np.array(sorted(range(len(keys)), key=hashes.__getitem__), np.int64)


def torch_permutation(n: int, seed: int) -> np.ndarray:
    """What torch.randperm(n) gives on a CPU whose generator has that seed, int64 [n].

    Its words are those of MT19937, 32 bits each, reduced by a remainder; PyTorch 1.0 to 2.13 do so for n < 2^32 / 20.
    """
    words = np.random.RandomState(seed).randint(0, 1 << 32, max(n - 1, 0), dtype=np.uint32).astype(np.int64)
    other = np.arange(n - 1) + words % np.arange(n, 1, -1)
    order = list(range(n))
    for i, j in enumerate(other.tolist()):
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)
