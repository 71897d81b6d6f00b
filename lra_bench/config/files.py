"""Where recipes and tasks are found: the user's own first, then what ships."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lra_bench.errors import ConfigError, LraError, nearest


def shipped(kind: str) -> Path:
    """The package's own `tasks` or `configs`: inside a wheel, or beside the package in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "shipped" / kind
    return inside if inside.is_dir() else package.parent / kind


def folders(kind: str, include: Sequence[Path]) -> list[Path]:
    """Where YAML files of a kind are looked for: the user's own first, then `--include-path`, then what ships."""
    named = [folder for path in include for folder in (path / kind, path)]
    every = [Path(kind), *named, shipped(kind)]
    return list({folder.resolve(): folder for folder in every if folder.is_dir()}.values())


def found(kind: str, include: Sequence[Path] = ()) -> dict[str, Path]:
    """Every YAML file of a kind by its name; the first folder that has one wins."""
    files: dict[str, Path] = {}
    for folder in folders(kind, include):
        for path in sorted(folder.glob("*.yaml")):
            files.setdefault(path.stem, path)
    return dict(sorted(files.items()))


def file_of(kind: str, name: str, include: Sequence[Path] = (), error: type[LraError] = ConfigError) -> Path:
    """The file of the recipe or task called `name`, or `name` itself if it is a path to a YAML file.

    Raises:
        ConfigError, or `error`: there is none; the nearest valid name is named.
    """
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise error(f"{name}: there is no such file")
        return Path(name)
    files = found(kind, include)
    if name not in files:
        raise error(f"{Path(kind).name.removesuffix('s')} '{name}': not found; {nearest(name, files)}")
    return files[name]


def first_comment(path: Path) -> str:
    """The comment that a YAML file begins with, as one line."""
    return " ".join(_comment_lines(path))


def _comment_lines(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if not line.startswith("#"):
            return
        yield line.lstrip("# ").rstrip()
