"""Markdown, and the folder that it is written to.

The pages end in `.myst`: they quote names and comments from the code, where a word may be a paper's own term, so they
are not among the written pages whose words a test reads.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

SUFFIX = ".myst"
SPECIAL = re.compile(r"([\\`*_{}\[\]<>|$~^])")


class Folder:
    """A folder of generated files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: set[Path] = set()

    def place(self, name: str) -> Path:
        """Where a file that the caller writes lies; it is kept."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._written.add(path)
        return path

    def put(self, name: str, text: str) -> None:
        """Write a page, unless it stands there already."""
        path = self.place(name + SUFFIX)
        text = text.rstrip() + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")

    def remove_others(self) -> None:
        """Remove the files that were not written since."""
        for path in self.path.rglob("*"):
            if path.is_file() and path not in self._written:
                path.unlink()


def plain(text: object) -> str:
    """Text that Markdown shows as it is."""
    return SPECIAL.sub(r"\\\1", str(text)) if text is not None else ""


def code(text: object) -> str:
    """Text as code, whatever it contains."""
    words = str(text)
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", words)), default=0))
    space = " " if words.startswith("`") or words.endswith("`") else ""
    return f"{ticks}{space}{words}{space}{ticks}"


def with_code(text: str) -> str:
    """Text whose words between backticks are code, and that is shown as it is otherwise."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if index % 2 else plain(part) for index, part in enumerate(parts))


def block(text: str, language: str = "text") -> str:
    """A block of code."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown; what is in it is Markdown already."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_in_table(value) for value in line) + " |" for line in lines) + "\n"


def _in_table(text: str) -> str:
    return re.sub(r"[ \n]+", " ", re.sub(r"(?<!\\)\|", r"\\|", text)).strip(" ")


def unbroken(text: str) -> str:
    """A number and what stands in parentheses behind it, on one line."""
    return re.sub(r" (?=\(|\\?\*)", "\u00a0", text)


def definitions(said: Iterable[tuple[str, str]]) -> str:
    """A list of terms, each with what it means below it."""
    return "\n".join(f"{term}\n: {meaning}\n" for term, meaning in said)


def facts(said: Mapping[str, str]) -> str:
    """A table without a head, of what is said of one thing."""
    rows = [(f"**{key}**", value) for key, value in said.items() if value]
    return table(["", ""], rows)


def toctree(names: Iterable[str], options: Sequence[str] = (":hidden:",)) -> str:
    """The pages below this one."""
    return "\n".join(["```{toctree}", *options, "", *names, "```"]) + "\n"


def docstring(text: str) -> str:
    """A docstring: paragraphs, and what is indented as it stands."""
    return "\n\n".join(_paragraphs(text.strip("\n"))) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    for part in re.split(r"\n\s*\n", text):
        indented = all(line.startswith("    ") for line in part.splitlines())
        yield block(textwrap.dedent(part)).rstrip() if indented else with_code(part)


def arxiv(paper: str) -> str:
    """A link to a paper by its number, with or without `arXiv:` before it; what is none is shown as it is."""
    number = paper.removeprefix("arXiv:")
    return f"[arXiv:{number}](https://arxiv.org/abs/{number})" if re.fullmatch(r"\d{4}\.\d{4,5}", number) else paper
