"""What a user has -> tokens; logits -> answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lra_bench import data
from lra_bench.config import TaskSpec
from lra_bench.errors import ConfigError, DataError, RunFailed
from lra_bench.metrics import EXACT_MATCH, METRICS, SQUARED_ERROR

Answer = Callable[[np.ndarray], np.ndarray]  # tokens [B, S, L] -> logits


def read(content: bytes, origin: str) -> list[str]:
    """The inputs in a file, a line each: of whatever else Unicode ends lines at, none does here.

    A line ends in \\n or \\r\\n; in a file that has no \\n, in \\r. A byte order mark is no part of the first.

    Raises:
        DataError: there is none, or it is no UTF-8.
    """
    try:
        text = content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{origin}:{number}: no UTF-8: {error.reason} at byte {error.start} of the file") from None
    text = text.replace("\r\n", "\n") if "\n" in text else text.replace("\r", "\n")
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{origin}: holds no input")
    return lines


def known(card: Mapping[str, Any], task: TaskSpec, origin: str) -> list[str] | None:
    """The names of the classes that an exported file has, where they have names.

    Raises:
        ConfigError: the file answers numbers, and an earlier version lost what they are in.
    """
    if METRICS[task.metric].real and "units" not in card and "units" not in str(card.get("outputs")):
        raise ConfigError(
            f"{origin}: an earlier version exported it, whose answers are in standard deviations of its training "
            "numbers, which it did not keep; lra export the run again"
        )
    return card.get("classes")


def nameless(card: Mapping[str, Any], task: TaskSpec) -> bool:
    """Did an earlier version export it without the names that its classes have, for they were those in train?"""
    return (
        "classes" not in card
        and "classes" in task.args
        and task.args["classes"] is None
        and not METRICS[task.metric].real
    )


def tokens(task: TaskSpec, lines: Sequence[str], origin: str, *, cut: bool) -> np.ndarray:
    """Inputs, a line each, as tokens int32 [N, S, L]; two streams stand beside each other with a tab between them.

    Raises:
        DataError: names the line in `origin`, and what is wrong with it.
    """
    made = np.zeros((len(lines), task.streams, task.length), np.int32)
    for number, line in enumerate(lines, 1):
        streams = line.split("\t") if task.streams > 1 else [line]
        if len(streams) != task.streams:
            raise DataError(f"{origin}:{number}: {task.streams} texts with a tab between them, not {len(streams)}")
        for s, stream in enumerate(streams):
            found = _encoded(task, stream, f"{origin}:{number}")
            if len(found) > task.length and not cut:
                raise DataError(
                    f"{origin}:{number}: {len(found):,} symbols, and the model reads {task.length:,}; --cut"
                )
            made[number - 1, s, : len(found)] = found[: task.length]
    return made


def _encoded(task: TaskSpec, text: str, where: str) -> np.ndarray:
    try:
        found = data.of(task).encode(text)
    except (DataError, ValueError, OverflowError) as error:
        known = data.vocabulary(task)[1:]
        few = f"; known: {' '.join(known)}" if len(known) <= 40 else ""
        raise DataError(f"{where}: {error}{few}") from None
    if not len(found):
        raise DataError(f"{where}: is empty; no model was trained on an empty text: take the line out")
    if found.max() >= len(data.vocabulary(task)):
        raise DataError(f"{where}: symbol {found.max()} of {len(data.vocabulary(task))}")
    return found


def predictions(
    task: TaskSpec,
    answer: Answer,
    tokens: np.ndarray,
    batch: int,
    top: int,
    classes: Sequence[str] | None,
    count: data.Progress,
) -> Iterator[dict[str, Any]]:
    """`answers` for tokens [N, S, L], `batch` of them at once, or as many as an exported file takes."""
    size = getattr(answer, "batch", None) or batch
    for first in range(0, len(tokens), size):
        part = tokens[first : first + size]
        filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        count("predicting", first + len(part), len(tokens))
        yield from answers(task, answer(filled)[: len(part)], part, top, first + 1, classes)


def answers(
    task: TaskSpec,
    logits: np.ndarray,
    tokens: np.ndarray,
    top: int,
    first: int = 1,
    classes: Sequence[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """What the model says of each input: logits [N, C], or [N, L, C] where a symbol is asked for at each place.

    `classes` are the names of the task's classes, where the task does not say them itself.

    Raises:
        RunFailed: they are not finite; names the input, where `first` is the number of the first.
    """
    metric = METRICS[task.metric]
    names = list(classes or _names(task))
    for number, (row, given) in enumerate(zip(logits, tokens, strict=True), first):
        if not np.isfinite(row).all():
            raise RunFailed(f"input {number}: the model's logits are not finite: it says nothing", "nan")
        if metric is SQUARED_ERROR:
            yield {"answer": [float(x) for x in row]}
        elif metric is EXACT_MATCH:
            share = 1 / (1 + np.exp(-row.astype(float)))
            yield {"answer": [names[c] for c in np.flatnonzero(share > 0.5)], "p": [round(float(p), 6) for p in share]}
        elif metric.everywhere:
            best, there = row.argmax(-1) + 1, given[-1] > 0
            yield {"answer": data.of(task).decode(best[there].astype(given.dtype))}
        else:
            p = np.exp(row - row.max(), dtype=float)
            p /= p.sum()
            order = np.argsort(-p, kind="stable")[:top]
            said = {"answer": names[order[0]], "p": round(float(p[order[0]]), 6)}
            yield said | ({"top": {names[c]: round(float(p[c]), 6) for c in order}} if top > 1 else {})


def _names(task: TaskSpec) -> list[str]:
    """The classes' names, where the task's args have them; else their numbers."""
    named = task.args.get("classes")
    parts = [part.strip() for part in named.split(",")] if isinstance(named, str) else []
    return parts if len(parts) == task.classes else [str(c) for c in range(task.classes)]
