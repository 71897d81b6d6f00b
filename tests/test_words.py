"""The field's words: what a user reads has none of those that were ours alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from lra_bench import cli

ROOT = Path(__file__).parent.parent
RETIRED = {
    r"knobs?": "option",
    r"levers?": "technique",
    r"trunks?": "backbone",
    r"ledgers?": "training budget",
    r"did[- ]not[- ]learn": "at chance",
    r"quantis\w+|distil|optimis\w+|normalis\w+|behaviour|colours?|neighbours?": "American spelling",
    r"cells?": "run",
    r"promises?|certificates?": "conformance check, conformance record",
    r"whole numbers?": "integers",
    r"eaten|eats?": "consumed",
    r"goes on|go on|taken up": "resumes",
    r"slices?": "micro-batch",
    r"without a look|a look at val": "chance level, validation",
    r"given up": "pruned",
    r"drawn anew|anew": "resampled, re-initialized",
    r"a mixer a layer": "hybrid: one mixer per layer",
    r"lra matrix|configs/matrix|--lever|--ledger|--fresh": "lra sweep, configs/sweeps, --technique, --overwrite",
    r"(cell|row|hits)\.json": "run.json, result.json, per_example.json",
}
RETIRED_NAMES = {
    "cell", "cells", "desert", "errand", "knob", "knobs", "ledger", "lever", "levers", "octets", "pulls", "rung",
    "sheet", "sheets", "trunk",
}  # fmt: skip
TABLES = {"report", "kernels", "mixers", "model"}  # whose cells are a table's, or means of tokens


def helps() -> Iterator[tuple[str, str]]:
    """Every command's help, as typed and as printed."""

    def walk(command: Any, name: str, parent: Any) -> Iterator[tuple[str, str]]:
        ctx = command.make_context(name, [], parent=parent, resilient_parsing=True)
        yield f"lra {name} --help", command.get_help(ctx)
        for word, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, f"{name} {word}".strip(), ctx)

    yield from walk(typer.main.get_command(cli.registered()), "", None)


def pages() -> Iterator[tuple[str, str]]:
    configs = sorted([*(ROOT / "configs").rglob("*.yaml"), *(ROOT / "tasks").glob("*.yaml")])
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")), *configs):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def retired(text: str) -> list[str]:
    return [
        f"{found[0]!r}: {instead}"
        for words, instead in RETIRED.items()
        for found in re.finditer(rf"(?<![\w-])({words})(?![\w-])", text, re.IGNORECASE)
    ]


def names(path: Path) -> Iterator[str]:
    """The names that a file of Python gives to its classes, functions, parameters and variables."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def words(name: str) -> set[str]:
    """The words of a name, in lower case: `_of_cell` and `OfCell` are of and cell."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


@pytest.mark.parametrize("word", ["a knob", "Cells", "goes on", "`row.json`", "--fresh"])
def test_a_retired_word_is_found(word: str) -> None:
    assert retired(f"Here is {word}, so.")


def test_what_a_user_reads_has_the_fields_words() -> None:
    found = [f"{where}: {said}" for where, text in (*helps(), *pages()) for said in retired(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["_of_cell", "CellFailed", "KNOB_TYPES", "run_cells"])
def test_a_retired_name_is_found(name: str) -> None:
    assert words(name) & RETIRED_NAMES


def test_what_a_programmer_reads_has_the_fields_words() -> None:
    package = ROOT / "lra_bench"
    files = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in TABLES]
    found = [f"{path}: {name}" for path in files for name in names(path) if words(name) & RETIRED_NAMES]
    assert not found, "\n".join(found)
