"""Looking at every example of a task, with eyes other than those that made it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from lra_bench.config import Strict, TaskSpec
from lra_bench.data import Check, Dataset, Progress, arguments, cache, load, vocabulary, workers
from lra_bench.data.splits import cut
from lra_bench.errors import DataError
from lra_bench.shapes import Split

AT_ONCE = 256  # examples that a process looks at in one go


def verify(task: TaskSpec, progress: Progress) -> list[Check]:
    """Every check of the task's examples, built first if they are not in the cache.

    Files that are not what their manifest says end it at the first check.
    """
    key = cache.key_of(task)
    folder = cache.folder_of(task, key)
    try:
        data = cache.read(folder, key, fresh=False)
    except (FileNotFoundError, NotADirectoryError):
        data = cache.prepare(task, progress)
    except cache.Unusable as fault:
        return [Check("files", False, f"{folder}: {fault}")]
    return [
        Check("files", True, f"{folder}: all as their manifest says"),
        _content(data),
        _counts(task, data),
        *(_examples(task, name, split, progress) for name, split in data.splits.items()),
        *(_padding(name, split) for name, split in data.splits.items()),
        _duplicates(task, data),
        _vocabulary(task, data),
        *(_labels(task, name, split) for name, split in data.splits.items()),
        *(_lengths(task, name, split) for name, split in data.splits.items()),
    ]


def _content(data: Dataset) -> Check:
    return Check("content", cache.content_of(data.splits) == data.hash, f"hash {data.hash}")


def _counts(task: TaskSpec, data: Dataset) -> Check:
    counts = {name: len(split) for name, split in data.splits.items()}
    return Check("counts", counts == task.splits, ", ".join(f"{name} {n}" for name, n in counts.items()))


def _examples(task: TaskSpec, name: str, split: Split, progress: Progress) -> Check:
    """Every example by the source's own rules, its label derived again."""
    faults: list[str] = []
    done = 0
    for found in workers.results(_faults, _pieces(task, split)):
        faults += found
        done = min(done + AT_ONCE, len(split))
        progress(f"checking {name}", done, len(split))
    detail = f"{len(split)} hold to the rules of the source" if not faults else f"{len(faults)} do not: {faults[0]}"
    return Check(f"examples of {name}", not faults, detail)


Piece = tuple[str, Strict, int, Split]


def _pieces(task: TaskSpec, split: Split) -> Iterator[Piece]:
    args = arguments(task)
    for start in range(0, len(split), AT_ONCE):
        part = cut(split, start, start + AT_ONCE)
        yield task.source, args, start, Split(np.array(part.tokens), np.array(part.lengths), np.array(part.label))


def _faults(piece: Piece) -> list[str]:
    name, args, start, split = piece
    check, faults = load(name).check, []
    for i, (tokens, label) in enumerate(zip(split.tokens, split.label.tolist(), strict=True), start):
        try:
            check(args, tokens, label)
        except DataError as error:
            faults.append(f"example {i}: {error}")
    return faults


def _padding(name: str, split: Split) -> Check:
    """Real tokens first, as many as `lengths` says, then nothing but padding."""
    places = np.arange(split.tokens.shape[-1])
    wrong = 0
    for start in range(0, len(split), AT_ONCE):
        part = cut(split, start, start + AT_ONCE)
        as_stated = (part.tokens > 0) == (places < part.lengths[..., None])
        wrong += int((~as_stated.all(axis=(1, 2))).sum())
    return Check(f"padding of {name}", not wrong, f"{wrong} of {len(split)} are not as long as stated")


def _duplicates(task: TaskSpec, data: Dataset) -> Check:
    """Examples that stand twice, in one split or in two. Released files may have some, generated data may not."""
    digests = {name: [_digest(tokens) for tokens in split.tokens] for name, split in data.splits.items()}
    distinct = {name: set(found) for name, found in digests.items()}
    within = sum(len(digests[name]) - len(distinct[name]) for name in digests)
    across = sum(len(distinct[one] & distinct[other]) for one, other in combinations(distinct, 2))
    detail = f"{within} within a split, {across} across splits"
    theirs = task.folder is not None or load(task.source).PUBLISHED
    return Check("duplicates", theirs or not within + across, detail)


def _digest(tokens: np.ndarray) -> bytes:
    return hashlib.blake2b(tokens.tobytes(), digest_size=16).digest()


def _vocabulary(task: TaskSpec, data: Dataset) -> Check:
    """Every id has a symbol, and the first stream of each split is the same when written as text and read again."""
    source, symbols = load(task.source), len(vocabulary(task))
    highest = max(int(split.tokens.max()) for split in data.splits.values())
    streams = (split.tokens[0, 0, : split.lengths[0, 0]] for split in data.splits.values())
    ok = highest < symbols and all(np.array_equal(source.encode(source.decode(s)), s) for s in streams)
    return Check("vocabulary", ok, f"{symbols} symbols with padding, highest id {highest}")


def _labels(task: TaskSpec, name: str, split: Split) -> Check:
    shares = np.bincount(split.label, minlength=task.classes) / len(split)
    percent = ", ".join(f"{label}: {share:.1%}" for label, share in enumerate(shares))
    return Check(f"labels of {name}", len(shares) == task.classes, f"{percent}; most frequent {shares.max():.2%}")


def _lengths(task: TaskSpec, name: str, split: Split) -> Check:
    low, middle, high = np.percentile(split.lengths, [10, 50, 90])
    spread = f"mean {split.lengths.mean():.1f}, median {middle:.0f}, p10 {low:.0f}, p90 {high:.0f}"
    longest = int(split.lengths.max())
    return Check(f"lengths of {name}", split.lengths.min() > 0 and longest <= task.length, f"{spread}, max {longest}")
