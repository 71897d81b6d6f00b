"""A table as wide as there is room: words and numbers stay whole, and where they cannot, a row is a block of lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

BETWEEN = 3  # columns of space between two of the table's
WORDS = (24, 16, 12, 8)  # columns that a word is given at most, as there is room; a longer one is cut, but for a number


class ResponsiveTable:
    """Rows with the same keys; numbers stand right, missing is empty."""

    def __init__(self, rows: Sequence[Mapping[Any, Any]]) -> None:
        self._keys = [str(key) for key in rows[0]] if rows else []
        self._rows = [["" if value is None else str(value) for value in row.values()] for row in rows]
        values = [[row[key] for row in rows] for key in rows[0]] if rows else []
        self._right = [all(isinstance(v, int | float | None) or str(v)[:1].isdigit() for v in each) for each in values]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width + 1 - BETWEEN * len(self._keys)
        whole = [max(map(cell_len, column)) for column in self._columns()]
        every = ([self._least(place, column, most) for place, column in enumerate(self._columns())] for most in WORDS)
        least = next((least for least in every if sum(least) <= room), None)
        if least is None:
            yield from self._blocks()
        else:
            yield self._table(None if sum(whole) <= room else dealt(whole, least, room))

    def _columns(self) -> list[list[str]]:
        """Each with its head."""
        return [[key, *(row[place] for row in self._rows)] for place, key in enumerate(self._keys)]

    def _least(self, place: int, column: Sequence[str], most: int) -> int:
        """The columns that the words of a column need, at most so many for one."""
        head, *entries = ([cell_len(word) for word in entry.split()] for entry in column)
        numbers = max(sum(entries, [0]))
        words = min(most, max([*head, numbers, 1]))
        return max(numbers, words) if self._right[place] else words

    def _table(self, widths: Sequence[int] | None) -> Table:
        built = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
        for place, (key, right) in enumerate(zip(self._keys, self._right, strict=True)):
            width = widths[place] if widths else None
            built.add_column(key, justify="right" if right else "left", overflow="fold", width=width)
        for row in self._rows:
            built.add_row(*row)
        return built

    def _blocks(self) -> RenderResult:
        """A line a value; an empty one after each row."""
        for row in self._rows:
            for key, value in zip(self._keys, row, strict=True):
                if value:
                    yield Text(f"{key}: " if key else "", style="bold", end="")
                    yield value
            yield ""


def dealt(whole: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths between the least and the whole that fill the room, in proportion to what is wanted."""
    wanted = [most - few for most, few in zip(whole, least, strict=True)]
    spare, total = room - sum(least), sum(wanted)
    return [few + spare * want // total for few, want in zip(least, wanted, strict=True)]
