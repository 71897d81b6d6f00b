"""A report, for people or for programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lra_bench.errors import ConfigError

if TYPE_CHECKING:
    from lra_bench.report.tables import Report


class Format(StrEnum):
    table = "table"
    md = "md"
    csv = "csv"
    json = "json"
    latex = "latex"
    html = "html"


def chosen(format: Format, *, json: bool) -> Format:
    """The format that --format and --json ask for together.

    Raises:
        ConfigError: they ask for two.
    """
    if json and format not in (Format.table, Format.json):
        raise ConfigError(f"--json and --format {format.value}: one of the two")
    return Format.json if json else format


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
                rows = one.cells.reset_index().to_dict("records")
                console.print(screen.titled(one.title, rows, one.notes))


def _write(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text if text.endswith("\n") else f"{text}\n", encoding="utf-8")
