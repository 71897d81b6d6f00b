"""What a table calls a model: its name, with the options and techniques that differ; and where the page tells of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


def bare(label: str) -> str:
    """The model of a label, without its options and techniques."""
    return label.partition(" + ")[0].partition("[")[0]


def anchors(labels: Iterable[str]) -> dict[str, str]:
    """A fragment of the page's address for each label, no two alike."""
    found: dict[str, str] = {}
    for label in labels:
        plain = "model-" + (re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-") or "unnamed")
        name = plain
        while name in found.values() and label not in found:
            name = f"{plain}-{len(found)}"
        found.setdefault(label, name)
    return found


def anchor(label: str, known: Mapping[str, str]) -> str | None:
    """Where the page tells of a label, or of its model; None: nowhere."""
    return known.get(label) or known.get(bare(label))
