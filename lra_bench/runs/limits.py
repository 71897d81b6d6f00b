"""Fewer examples than there are."""

from __future__ import annotations

from collections.abc import Mapping

from lra_bench import data
from lra_bench.config import TaskSpec
from lra_bench.data import published
from lra_bench.data.splits import cut, taken
from lra_bench.shapes import Split


def limited(task: TaskSpec, splits: Mapping[str, Split], limit: int | None) -> dict[str, Split]:
    """At most so many examples of each split.

    Those that are drawn here stand in an order that was drawn: the first. Those that are read may be sorted: some that
    the task's seed draws, in their order.
    """
    if limit is None:
        return dict(splits)
    if task.folder is None and not data.of(task).PUBLISHED:
        return {name: cut(split, 0, limit) for name, split in splits.items()}
    return {
        name: taken(split, published.drawn(len(split), limit, task.seed)) if limit < len(split) else split
        for name, split in splits.items()
    }
