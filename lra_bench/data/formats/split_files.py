"""Which files of a user's folder are of which split, by their names."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from lra_bench.errors import DataError
from lra_bench.shapes import SPLITS

NAMES = {"train": ("train",), "val": ("val", "valid", "validation", "dev", "eval"), "test": ("test",)}


def split_of(stem: str) -> str | None:
    """The split that a file of that name, without its suffix, is of; None if of none."""
    return next((split for split, names in NAMES.items() if stem.lower() in names), None)


def one_each(folder: Path, suffix: str) -> dict[str, Path]:
    """The file of each split in `folder` that has one.

    Raises:
        DataError: there is none for train, or a split has two.
    """
    found: dict[str, Path] = {}
    for path in _files(folder, (suffix,)):
        split = split_of(path.stem)
        if split in found:
            raise DataError(f"{folder}: {found[split].name} and {path.name} are both of {split}; a split is one file")
        if split is not None:
            found[split] = path
    if "train" not in found:
        raise DataError(f"{folder}: looked for train{suffix}; it is not there")
    return {split: found[split] for split in SPLITS if split in found}


def unread(folders: Iterable[Path], suffixes: Collection[str], read: Collection[Path]) -> list[str]:
    """A line where files of these suffixes lie beside those that were read, and are of no split."""
    others = [path.name for folder in folders for path in _files(folder, suffixes) if path not in read]
    if not others:
        return []
    known = "; ".join(f"{split}: {', '.join(names)}" for split, names in NAMES.items())
    more = f" and {len(others) - 5} more" if len(others) > 5 else ""
    return [f"not read, for they have no split's name ({known}): {', '.join(others[:5])}{more}"]


def _files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in suffixes and path.is_file())
