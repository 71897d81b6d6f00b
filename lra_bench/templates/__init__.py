"""Start something of the user's own: files that pass their checks as they stand, to be changed from there."""

from __future__ import annotations

import datetime
import keyword
import re
from pathlib import Path
from typing import get_args

from lra_bench import config, data, mixers
from lra_bench.config import tasks
from lra_bench.errors import ConfigError, nearest
from lra_bench.mixers.card import Family

OWN = "python"  # a source in a file of the user's own, which is written too
FORMATS = {
    "csv": "table", "tsv": "table", "jsonl": "table", "parquet": "table", "tfds": "tfds_text", OWN: OWN, "py": OWN,
}  # fmt: skip
TEMPLATES = Path(__file__).parent


def model(name: str, family: str, folder: Path) -> list[Path]:
    """Write a mixer's file and its test into `folder`; the paths.

    Raises:
        ConfigError: the name is no name or is taken, the family is none, or a file is there already.
    """
    stem = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", stem) or keyword.iskeyword(stem):
        raise ConfigError(f"'{name}': a model's name is made of a-z, 0-9 and -, and begins with a letter")
    if name in mixers.names():
        raise ConfigError(f"'{name}': a model of that name ships with the package")
    if family not in get_args(Family):
        raise ConfigError(f"--family {family}: {nearest(family, get_args(Family))}")
    values = {"title": name, "file": stem, "family": family, "year": datetime.date.today().year}
    files = {folder / f"{stem}.py": "mixer.txt", folder / f"test_{stem}.py": "test.txt"}
    taken = next((path for path in files if path.exists()), None)
    if taken:
        raise ConfigError(f"{taken}: is there already")
    folder.mkdir(parents=True, exist_ok=True)
    for path, template in files.items():
        path.write_text((TEMPLATES / template).read_text(encoding="utf-8").format(**values), encoding="utf-8")
    return list(files)


def task(name: str, source: str, folder: Path) -> Path:
    """Write a task's YAML into `folder`, after one with the same source, or of a format that a source reads; the path.

    Where the source is to be the user's own, its Python file is written beside it.

    Raises:
        ConfigError: the name is no name or is taken, or the source is none.
    """
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ConfigError(f"'{name}': a task's name is made of a-z, 0-9 and -, and begins with a letter")
    if name in config.found("tasks"):
        raise ConfigError(f"'{name}': there is a task of that name, {config.found('tasks')[name]}")
    if source not in {*data.names(), *FORMATS}:
        raise ConfigError(f"--from {source}: {nearest(source, {*data.names(), *FORMATS})}")
    path, own = folder / f"{name}.yaml", folder / f"{name.replace('-', '_')}.py"
    files = [path, own] if FORMATS.get(source) == OWN else [path]
    if taken := next((file for file in files if file.exists()), None):
        raise ConfigError(f"{taken}: is there already")
    folder.mkdir(parents=True, exist_ok=True)
    if own in files:
        own.write_text((TEMPLATES / "source.txt").read_text(encoding="utf-8"), encoding="utf-8")
    text = _pattern(FORMATS.get(source, source)).read_text(encoding="utf-8").partition("\nvariants:")[0].rstrip() + "\n"
    text = re.sub("^title: .*", f"title: {name}", text, flags=re.MULTILINE)
    text = re.sub(r"^source: python\b", f"source: {own.name}", text, flags=re.MULTILINE)
    path.write_text(f"{text}{_unsaid(text)}", encoding="utf-8")
    return path


def _unsaid(text: str) -> str:
    """The keys that a task's YAML leaves out, as a comment with their defaults."""
    lines = (config.shipped("tasks") / f"{tasks.BASE}.yaml").read_text(encoding="utf-8").splitlines()[1:]
    said = set(re.findall(r"^(\w+):", text, re.MULTILINE))
    return "".join(f"# {line}\n" for line in lines if line.partition(":")[0] not in said)


def _pattern(source: str) -> Path:
    """A YAML of that source: a template, or a task that ships."""
    shipped = sorted(config.shipped("tasks").glob("*.yaml"))
    every = [*TEMPLATES.glob("*.yaml"), *shipped]
    return next(path for path in every if config.read(path).values.get("source") == source)
