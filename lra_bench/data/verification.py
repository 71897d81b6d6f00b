"""Checks of every example of a task, by other code than that which made it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from lra_bench.config import TaskSpec
from lra_bench.data import Check, Dataset, Progress, arguments, cache, checksums, of, texts, vocabulary, workers
from lra_bench.data.made import About
from lra_bench.data.splits import cut
from lra_bench.errors import DataError
from lra_bench.metrics import ACCURACY, EXACT_MATCH, METRICS, SQUARED_ERROR
from lra_bench.shapes import Split

AT_ONCE = 256  # examples that a process checks in one go
FEW = 5  # classes that are named


def verify(task: TaskSpec, progress: Progress, include: Sequence[Path] = ()) -> list[Check]:
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
    cache.hold(task, data.splits, data.about)
    return [
        Check("files", True, f"{folder}: all as their manifest says"),
        _content(data),
        _recorded(task, data, include),
        _counts(task, data),
        *(_examples(task, name, split, progress) for name, split in data.splits.items()),
        *(_padding(task, name, split) for name, split in data.splits.items()),
        *_derived(task, data),
        _duplicates(task, data),
        _vocabulary(task, data),
        *(_labels(task, name, split, data.about) for name, split in data.splits.items()),
        *(Check("note", True, note) for note in data.about.notes),
        *(_lengths(task, name, split) for name, split in data.splits.items()),
    ]


def _content(data: Dataset) -> Check:
    return Check("content", cache.content_of(data.splits) == data.hash, f"hash {data.hash}")


def _recorded(task: TaskSpec, data: Dataset, include: Sequence[Path]) -> Check:
    """The hash that the same question had for an answer before."""
    known = checksums.sha256(task, include)
    said = "none for this question" if known is None else "the same" if known == data.hash else f"another: {known}"
    return Check("recorded hash", known in (None, data.hash), said)


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


Piece = tuple[TaskSpec, int, Split]


def _pieces(task: TaskSpec, split: Split) -> Iterator[Piece]:
    for start in range(0, len(split), AT_ONCE):
        part = cut(split, start, start + AT_ONCE)
        yield task, start, Split(np.array(part.tokens), np.array(part.lengths), np.array(part.label))


def _faults(piece: Piece) -> list[str]:
    task, start, split = piece
    source, args, faults = of(task), arguments(task), []
    for i, (tokens, label) in enumerate(zip(split.tokens, split.label, strict=True), start):
        try:
            source.check(args, tokens, label)
        except DataError as error:
            faults.append(f"example {i}: {error}")
    return faults


def _padding(task: TaskSpec, name: str, split: Split) -> Check:
    """As many real tokens as `lengths` says; in a text first, then nothing but padding."""
    places, wrong = np.arange(split.tokens.shape[-1]), 0
    for start in range(0, len(split), AT_ONCE):
        part = cut(split, start, start + AT_ONCE)
        there = part.tokens > 0
        as_stated = (there.sum(-1) == part.lengths).all(1)
        if task.grid is None:
            as_stated &= (there == (places < part.lengths[..., None])).all((1, 2))
        wrong += int((~as_stated).sum())
    return Check(f"padding of {name}", not wrong, f"{wrong} of {len(split)} are not as long as stated")


def _derived(task: TaskSpec, data: Dataset) -> Iterator[Check]:
    """The labels of some examples against what they were made from, where the source can make that again."""
    derive = getattr(of(task), "derived", None)
    if derive is None or task.folder is not None:
        return
    known = derive(arguments(task), task.seed)
    found = [
        known[key] == label
        for split in data.splits.values()
        for tokens, label in zip(split.tokens, split.label, strict=True)
        if (key := tokens.tobytes()) in known
    ]
    wrong = f"{found.count(False)} of {len(found)} labels are not what they were made from says"
    yield Check("derived labels", bool(found) and all(found), wrong)


def _duplicates(task: TaskSpec, data: Dataset) -> Check:
    """Examples that stand twice, in one split or in two. Released files may have some, generated data may not."""
    digests = {name: [_digest(tokens) for tokens in split.tokens] for name, split in data.splits.items()}
    distinct = {name: set(found) for name, found in digests.items()}
    within = sum(len(digests[name]) - len(distinct[name]) for name in digests)
    across = sum(len(distinct[one] & distinct[other]) for one, other in combinations(distinct, 2))
    detail = f"{within} within a split, {across} across splits"
    theirs = task.folder is not None or of(task).PUBLISHED
    return Check("duplicates", theirs or not within + across, detail)


def _digest(tokens: np.ndarray) -> bytes:
    return hashlib.blake2b(tokens.tobytes(), digest_size=16).digest()


def _vocabulary(task: TaskSpec, data: Dataset) -> Check:
    """Every id has a symbol, and the first stream of each split is the same when written as text and read again."""
    source, symbols = of(task), len(vocabulary(task))
    highest = max(int(split.tokens.max()) for split in data.splits.values())
    firsts = (split.tokens[0, 0] for split in data.splits.values())
    streams = (first[first > 0] for first in firsts)
    ok = highest < symbols and all(np.array_equal(source.encode(source.decode(s)), s) for s in streams)
    return Check("vocabulary", ok, f"{symbols} symbols with padding, highest id {highest}")


def remarks(task: TaskSpec, data: Dataset) -> list[str]:
    """What is not wrong with the examples, and what who runs them will want to know, a line each."""
    shared, names = data.about.overlap, [name for name in data.splits if name != "train"]
    said = [f"{shared:,} inputs of {' and '.join(names)} stand in an earlier split, too"] if shared else []
    lacking = (_lacking(task, name, split, data.about) for name, split in data.splits.items())
    return [*data.about.notes, *said, *(line for line in lacking if line)]


def _lacking(task: TaskSpec, name: str, split: Split, about: About) -> str | None:
    """The classes or labels that no example of a split has."""
    if METRICS[task.metric] not in (ACCURACY, EXACT_MATCH):
        return None
    there = np.bincount(split.label, minlength=task.classes) if split.label.ndim == 1 else split.label.sum(0)
    missing = [about.name(int(c)) for c in np.flatnonzero(np.asarray(there) == 0)]
    if not missing:
        return None
    more = f" and {len(missing) - FEW} more" if len(missing) > FEW else ""
    return f"no example of {name} is of {', '.join(missing[:FEW])}{more}"


def _labels(task: TaskSpec, name: str, split: Split, about: About) -> Check:
    label, metric = split.label, METRICS[task.metric]
    level = texts.chance(task, label)
    chance = f"{level:.2%}" if metric.share else f"{level:.4g}"
    if metric in (ACCURACY, EXACT_MATCH):
        said = (_classes if metric is ACCURACY else _several)(task, label, about)
    else:
        said = (_numbers if metric is SQUARED_ERROR else _symbols)(label)
    more = [said, f"chance {chance}", *([lacks] if (lacks := _lacking(task, name, split, about)) else [])]
    return Check(f"labels of {name}", bool(np.isfinite(label).all()), "; ".join(more))


def _classes(task: TaskSpec, label: np.ndarray, about: About) -> str:
    return _percent(np.bincount(label, minlength=task.classes) / len(label), about)


def _several(task: TaskSpec, label: np.ndarray, about: About) -> str:
    return f"{_percent(label.mean(0), about)}; {label.sum(1).mean():.2f} an example"


def _percent(shares: np.ndarray, about: About) -> str:
    return ", ".join(f"{about.name(label)}: {share:.1%}" for label, share in enumerate(shares))


def _numbers(label: np.ndarray) -> str:
    spread = f"mean {label.mean():.4g}, standard deviation {label.std():.4g}"
    return f"{spread}, {label.min():.4g} to {label.max():.4g}"


def _symbols(label: np.ndarray) -> str:
    asked = (label > 0).sum(1)
    return f"{asked.min()} to {asked.max()} symbols asked for in an example"


def _lengths(task: TaskSpec, name: str, split: Split) -> Check:
    low, middle, high = np.percentile(split.lengths, [10, 50, 90])
    spread = f"mean {split.lengths.mean():.1f}, median {middle:.0f}, p10 {low:.0f}, p90 {high:.0f}"
    longest = int(split.lengths.max())
    return Check(f"lengths of {name}", split.lengths.min() > 0 and longest <= task.length, f"{spread}, max {longest}")
