"""Published parts, train and test, or a user's own files, made into splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from lra_bench.config import Strict
from lra_bench.data.batches import permutation
from lra_bench.data.made import About, Made
from lra_bench.data.splits import cut, taken
from lra_bench.errors import TaskError
from lra_bench.shapes import SPLITS, Split

Places = Mapping[str, Path | str]
"""Where the examples of a split were looked for, for messages; a split that it lacks in train's."""

DIGEST = 16  # bytes by which an example is told from others


class Args(Strict):
    """How the published parts become splits."""

    val_from: Literal["train", "test"]  # what val is cut from; "test": val is the first of test


class Examples(NamedTuple):
    """All that a file holds."""

    split: Split
    long: np.ndarray  # bool [N]: is it longer than the task's length, and was cut?


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
        once, rest = _apart(_digests(train), counts["val"], seed)
        val, train = taken(train, once), taken(train, rest)
    return first({"train": train, "val": val, "test": test}, counts, {"train": path})


def first(parts: Mapping[str, Split], counts: Mapping[str, int], places: Places) -> dict[str, Split]:
    """The first so many examples of each part, which stand in an order that was drawn.

    Raises:
        TaskError: there are not so many.
    """
    for split, n in counts.items():
        if n > len(parts[split]):
            raise TaskError(_too_few(split, n, len(parts[split]), places))
    return {split: cut(parts[split], 0, n) for split, n in counts.items()}


def completed(
    files: Mapping[str, Examples],
    counts: Mapping[str, int],
    seed: int,
    places: Places,
    unit: str = "symbols",
    streams: int | None = None,
) -> Made:
    """So many examples of each split, from files that stand in any order of their own, perhaps sorted.

    Of a file that holds more, those are drawn by `seed` and stay in its order. What has no file is cut from train, in
    an order that `seed` gives; it shares no example with it: those that stand in train twice stay there. An example is
    told from others by its first so many `streams`; None: by all.

    Raises:
        TaskError: there are not so many; the message has counts that there are. `unit` is what an example is long in.
    """
    train = files["train"].split
    cut_off = [split for split in ("test", "val") if split not in files]
    digests = _digests(train, streams) if cut_off else []
    rest, chosen = np.arange(len(train)), dict[str, np.ndarray]()
    for split in cut_off:
        once, others = _apart([digests[i] for i in rest], counts[split], seed)
        chosen[split], rest = rest[once], rest[others]
    there = {split: len(examples.split) for split, examples in files.items()} | {s: len(i) for s, i in chosen.items()}
    there["train"] = len(rest)
    alone = sum(times == 1 for times in Counter(digests).values())
    twice = _twice(len(digests) - alone, train, places["train"], unit)
    for split, n in counts.items():
        if n > there[split]:
            few = _too_few(split, n, there[split], places, len(train) if cut_off else None)
            raise TaskError("; ".join([few, *twice, *_that_fit(counts, files, alone)]))
    for split in files:
        n, whole = counts[split], split != "train" or not cut_off
        chosen[split] = drawn(there[split], n, seed) if whole else rest[:n]
    return _made(files, chosen, places, twice)


def _made(files: Mapping[str, Examples], chosen: Mapping[str, np.ndarray], places: Places, notes: list[str]) -> Made:
    """The chosen examples, and how many of each file are in no split, and how many of them were cut."""
    used, truncated, made = Counter[str](), 0, dict[str, Split]()
    for split in (split for split in SPLITS if split in chosen):
        index, file = chosen[split], split if split in files else "train"
        used[file] += len(index)
        truncated += int(files[file].long[index].sum())
        whole = len(index) == len(files[file].split) and (np.diff(index) == 1).all()
        made[split] = files[file].split if whole else taken(files[file].split, index)
    left = {file: len(examples.split) - used[file] for file, examples in files.items()}
    rows = {file: f"of {len(examples.split):,} rows" for file, examples in files.items()}
    said = [f"{_name(places, file)}: {n:,} {rows[file]} are in no split" for file, n in left.items() if n]
    if truncated:
        total, longest = sum(map(len, made.values())), files["train"].split.tokens.shape[-1]
        said.append(f"{truncated:,} of {total:,} examples are longer than {longest:,} and were cut")
    return Made(made, About(unused_rows=sum(left.values()), truncated=truncated, notes=[*said, *notes]))


def drawn(there: int, n: int, seed: int) -> np.ndarray:
    """The places of so many examples of those that there are, drawn by `seed`, in their order."""
    return np.arange(there) if n == there else np.sort(permutation(there, seed, 0)[:n])


def _apart(digests: list[bytes], n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of `n` examples that stand in train once, and of the others, both in an order that `seed` gives."""
    order, times = permutation(len(digests), seed, 0), Counter(digests)
    once = np.array([i for i in order if times[digests[i]] == 1][:n], np.int64)
    return once, order[~np.isin(order, once)]


def _digests(split: Split, streams: int | None = None) -> list[bytes]:
    return [hashlib.blake2b(tokens[:streams].tobytes(), digest_size=DIGEST).digest() for tokens in split.tokens]


def overlap(splits: Mapping[str, Split], streams: int | None = None) -> int:
    """How many inputs of val and of test stand in a split before theirs, too, by their first so many streams."""
    seen, found = set[bytes](), 0
    for split in (splits[name] for name in SPLITS if name in splits):
        here = _digests(split, streams)
        found += sum(digest in seen for digest in here)
        seen.update(here)
    return found


def _twice(n: int, train: Split, place: Path | str, unit: str) -> list[str]:
    """A line where so many examples of train are equal to others, and so cannot be cut off it."""
    if not n:
        return []
    of = f"{n:,} of {len(train):,} rows of {_base(place)}"
    return [f"{of} are equal to others in their first {train.tokens.shape[-1]:,} {unit}, and stay in train"]


def _too_few(split: str, asked: int, there: int, places: Places, rows: int | None = None) -> str:
    of = "" if rows is None else f", of {rows:,} rows"
    return f"splits.{split}: asks for {asked} examples; {places.get(split, places['train'])} leaves {there}{of}"


def _that_fit(counts: Mapping[str, int], files: Mapping[str, Examples], alone: int) -> list[str]:
    """The line to write instead, where there is one; `alone` examples of train are equal to no other.

    Files give what they have. What is cut from train stays as it is, or is a tenth of train each, if it would be most.
    """
    fits = {split: min(n, len(files[split].split)) for split, n in counts.items() if split in files}
    rows, own = len(files["train"].split), {split: n for split, n in counts.items() if split not in files}
    if sum(own.values()) > rows // 2:
        own = dict.fromkeys(own, rows // 10)
    fits |= own | {"train": min(counts["train"], rows - sum(own.values()))}
    if min(fits.values()) < 1 or sum(own.values()) > alone:
        return []
    return [f"write splits: {{{', '.join(f'{split}: {fits[split]}' for split in counts)}}}"]


def _name(places: Places, split: str) -> str:
    return _base(places.get(split, places["train"]))


def _base(place: Path | str) -> str:
    return place.name if isinstance(place, Path) else place
