"""A report, for people or for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lra_bench.errors import ConfigError

if TYPE_CHECKING:
    from lra_bench.report.tables import Report


MARGIN = 3  # between two columns


class Format(StrEnum):
    table = "table"
    md = "md"
    csv = "csv"
    json = "json"
    latex = "latex"
    html = "html"


SUFFIXES = {
    ".txt": Format.table,
    ".md": Format.md,
    ".csv": Format.csv,
    ".json": Format.json,
    ".tex": Format.latex,
    ".html": Format.html,
    ".htm": Format.html,
}
How = Annotated[
    Format | None,
    typer.Option("--format", help="The output format; the default is a table, or what --out's extension says."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Write to this file; .md, .csv, .json, .tex, .html or .txt says the format.", metavar="FILE"
    ),
]


def chosen(format: Format | None, *, json: bool, out: Path | None = None) -> Format:
    """The format that --format, --json and the name of --out ask for together; --json is --format json.

    Raises:
        ConfigError: they ask for two, or the name ends in what is no format.
    """
    if json and format not in (None, Format.json):
        raise ConfigError(f"--json and --format {format.value}: one of the two")
    if json or format is not None:
        return format or Format.json
    if out is None or not out.suffix:
        return Format.table
    if out.suffix not in SUFFIXES:
        raise ConfigError(f"--out {out}: must end in {', '.join(SUFFIXES)}, or --format says how to write it")
    return SUFFIXES[out.suffix]


def tell(report: Report, format: Format, out: Path | None = None) -> None:
    """The numbers for programs, or the tables for people."""
    from lra_bench.cli import screen
    from lra_bench.report import tables

    if format in (Format.csv, Format.json):
        _write(tables.exported(report.numbers, format.value), out)
    elif format is not Format.table:
        _write("\n".join(tables.written(one, format.value) for one in report.tables), out)
    else:
        with screen.to(out) as console:
            for one in report.tables:
                parts = list(blocks(one.cells.reset_index().to_dict("records"), console.width))
                for part in parts[:-1]:
                    console.print(screen.titled(one.title, part))
                console.print(screen.titled(one.title, parts[-1], one.notes))


def blocks(rows: Sequence[Mapping[Any, Any]], width: int) -> Iterator[list[dict[str, Any]]]:
    """The results, with as many columns at once as stand side by side without a broken line; the first is in each."""
    first, *others = rows[0] if rows else ("",)
    room = width - _width(first, rows)
    taken: list[str] = []
    for key in others:
        if taken and sum(_width(one, rows) for one in (*taken, key)) > room:
            yield [{one: row[one] for one in (first, *taken)} for row in rows]
            taken = []
        taken.append(key)
    yield [{one: row[one] for one in (first, *taken)} for row in rows] if rows else []


def _width(key: str, rows: Sequence[Mapping[Any, Any]]) -> int:
    """Of a column: its longest run; a head may be broken between its words."""
    return max([*map(len, str(key).split()), *(len(str(row[key])) for row in rows)], default=0) + MARGIN


def _write(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text if text.endswith("\n") else f"{text}\n", encoding="utf-8")
