"""What a source makes: the splits, and what is known of them beside their examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from lra_bench.shapes import Split


@dataclass(frozen=True)
class About:
    """What is known of a data set beside its examples. It is kept with them in the cache, and is in no hash."""

    classes: list[str] | None = None  # the classes' or labels' names, by their numbers
    times: dict[str, int] = field(default_factory=dict)  # by name, how often train's files have it
    first: dict[str, str] = field(default_factory=dict)  # and in which file and line first
    unused_rows: int | None = None  # of the files, that no split has
    truncated: int | None = None  # texts of the splits that are longer than the task's length
    overlap: int | None = None  # inputs of a split that stand in another, too
    notes: list[str] = field(default_factory=list)  # what else its user may want to know

    def name(self, number: int) -> str:
        """A class's or label's name, or its number where it has none."""
        return self.classes[number] if self.classes and number < len(self.classes) else str(number)

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Self:
        """Of what a manifest has kept; of one that an earlier version wrote, nothing."""
        return cls(**kept.get("about", {}))

    def kept(self) -> dict[str, Any]:
        """What a manifest keeps, and `read` reads."""
        return {"about": asdict(self)}


COLUMNS = ("unused_rows", "truncated", "overlap")
"""Those of `About` that stand in a result, too."""


def columns(each: Iterable[About]) -> dict[str, int | None]:
    """The columns of a result, over the data of one task, or of several; None where nothing is known of any."""
    known = list(each)
    found = {name: [n for about in known if (n := getattr(about, name)) is not None] for name in COLUMNS}
    return {name: sum(numbers) if numbers else None for name, numbers in found.items()}


class Made(dict[str, Split]):
    """The splits that a source made, by name, and what it knows of them."""

    def __init__(self, splits: Mapping[str, Split], about: About) -> None:
        super().__init__(splits)
        self.about = about

    def known(self, *, notes: Iterable[str] = (), **more: Any) -> Made:
        """The same splits, of which more is known."""
        return Made(self, replace(self.about, notes=[*self.about.notes, *notes], **more))


def about(splits: Mapping[str, Split]) -> About:
    """What the source knows of them, if it says."""
    return splits.about if isinstance(splits, Made) else About()
