"""XLA's flags, looked up before they are set: XLA ends the process at one in `XLA_FLAGS` that it does not know.

A flag that is gone in a newer release, or not there yet in an older one, is found by its name in the libraries that
read the variable: jaxlib's own, and those of the plugins for GPU and TPU. Nothing is loaded for it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

PACKAGES = ("jaxlib", "jax_plugins", "libtpu")
SUFFIXES = (".so", ".dylib", ".dll", ".pyd")
READS = b"XLA_FLAGS\0"  # in a library that reads the variable
CHUNK = 2**24
LONGEST = 128  # bytes of a flag's name


def known(flags: Iterable[str], folders: Sequence[Path] | None = None) -> list[str]:
    """Those of the flags, as `--name` or `--name=value`, that every installed XLA knows; none where no XLA is found.

    `folders` are searched for libraries in place of those of the installed packages.
    """
    names = {flag: flag.removeprefix("--").partition("=")[0].encode() + b"\0" for flag in flags}
    sought = {READS, *names.values()}
    found = [_holding(path, sought) for path in _libraries(_installed() if folders is None else folders)]
    readers = [held for held in found if READS in held]
    return [flag for flag, name in names.items() if readers and all(name in held for held in readers)]


def _installed() -> list[Path]:
    specs = (importlib.util.find_spec(name) for name in PACKAGES)
    return [Path(folder) for spec in specs if spec for folder in spec.submodule_search_locations or ()]


def _libraries(folders: Sequence[Path]) -> Iterator[Path]:
    return (path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES)


def _holding(path: Path, sought: Iterable[bytes]) -> set[bytes]:
    """Those of the names that stand in the file."""
    left, end = set(sought), b""
    with path.open("rb") as content:
        while left and (chunk := content.read(CHUNK)):
            chunk = end + chunk
            left = {name for name in left if name not in chunk}
            end = chunk[-LONGEST:]
    return set(sought) - left
