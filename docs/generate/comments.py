"""What the comments beside keys and fields say: the meaning of a setting stands there once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z][\w.-]*):(?P<value>[^#]*)(?:#\s*(?P<says>.*))?$")
MORE = re.compile(r"\s+#\s*(?P<says>.*)$")
FIELD = re.compile(r"    (?P<name>[a-z]\w*): [^#]+(?:#\s*(?P<says>.*))?$")
HEADING = re.compile(r"    # (?P<says>.*)$")


class Field(NamedTuple):
    """A field of a class."""

    name: str
    says: str
    heading: str  # the comment above it that stands alone


def of_yaml(path: Path) -> dict[tuple[str, ...], str]:
    """The comment beside each key of a YAML file, by the keys that lead there."""
    said: dict[tuple[str, ...], str] = {}
    above: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := KEY.match(line):
            indent = len(found["indent"])
            above = [*((at, key) for at, key in above if at < indent), (indent, found["key"])]
            said[tuple(key for _, key in above)] = found["says"] or ""
        elif above and (more := MORE.match(line)):
            path_ = tuple(key for _, key in above)
            said[path_] = f"{said[path_]} {more['says']}".strip()
    return said


def of_class(cls: type) -> Iterator[Field]:
    """The fields of a class with the comment beside each, from its source."""
    heading = ""
    for line in inspect.getsource(cls).splitlines():
        if alone := HEADING.match(line):
            heading = alone["says"]
        elif field := FIELD.match(line):
            yield Field(field["name"], field["says"] or "", heading)
