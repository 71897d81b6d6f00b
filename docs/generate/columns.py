"""The columns of a result: what `result.json` has, and what `lra.results` gives."""

from __future__ import annotations

import itertools
import typing

from generate import comments
from generate.keys import described, sentence
from generate.writing import Folder, code, definitions
from lra_bench.records.schema import COLUMNS, STATUSES, Result

INTRO = """\
# Columns of a result

A run leaves one result, `result.json`: scalars only, with the unit in the name. A value that is not known is `null`,
never 0. A failed run leaves a result too, whose `status` and `error` say what happened. `lra.results` and
`lra compare --format csv` have the same columns.
"""
NAMED = "As its name says."


def fields() -> list[comments.Field]:
    """The columns, in order."""
    return [field for field in comments.of_class(Result) if field.name in COLUMNS]


def write(folder: Folder) -> None:
    """Write the page of all columns, a list for each of the schema's parts."""
    hints = typing.get_type_hints(Result)
    parts = [INTRO, "The values of `status` are " + ", ".join(map(code, STATUSES)) + ".\n"]
    for heading, own in itertools.groupby(fields(), key=lambda field: field.heading):
        title = heading.split(":")[0]
        said = [(f"{code(one.name)} ({described(hints[one.name])})", sentence(one.says) or NAMED) for one in own]
        parts += [f"## {title[0].upper()}{title[1:]}", "", definitions(said)]
    folder.put("columns", "\n".join(parts))
