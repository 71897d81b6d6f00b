"""The field's words: what a user reads has none of those that were ours alone."""

from __future__ import annotations

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


@pytest.mark.parametrize("word", ["a knob", "Cells", "goes on", "`row.json`", "--fresh"])
def test_a_retired_word_is_found(word: str) -> None:
    assert retired(f"Here is {word}, so.")


def test_what_a_user_reads_has_the_fields_words() -> None:
    found = [f"{where}: {said}" for where, text in (*helps(), *pages()) for said in retired(text)]
    assert not found, "\n".join(found)
