"""Mixers: one a file. The file's name, `_` written as `-`, is the command line's name is the table's row.

Found by looking into this folder for files that state a `CARD`; there is no registry to edit. A card may give further
names to settings of its own options (`aliases`). Nothing here opens jax until `load` is called.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType

from lra_bench.errors import ConfigError, nearest
from lra_bench.mixers.card import Card, ModelCard, NoOptions, Option, aliases, code, is_card, kinds, read, turned
from lra_bench.mixers.cross import card as cross_card
from lra_bench.mixers.cross.card import CrossCard
from lra_bench.source_code import digest, imported

__all__ = [
    "Card",
    "CrossCard",
    "ModelCard",
    "NoOptions",
    "Option",
    "code",
    "code_with_cross",
    "cross",
    "files",
    "is_card",
    "kinds",
    "load",
    "load_cross",
    "model_card",
    "names",
    "not_crossing",
    "place",
    "read",
    "reference",
    "turned",
]

FOLDER = Path(__file__).parent


def files() -> list[Path]:
    """The mixers' files that ship with the package."""
    return sorted(path for path in FOLDER.glob("*.py") if "\nCARD = " in path.read_text(encoding="utf-8"))


def place(path: Path) -> str:
    """A mixer's file as a run's record names it: of one that ships, without where the package lies."""
    return f"{FOLDER.parent.name}/{FOLDER.name}/{path.name}" if path.parent == FOLDER else str(path)


def _named(own: ModelCard) -> list[ModelCard]:
    return [own, *aliases(own)]


@cache
def _shipped() -> dict[str, ModelCard]:
    every = [named for path in files() for named in _named(read(path))]
    return {named.name: named for named in sorted(every, key=lambda named: named.name)}


def names() -> tuple[str, ...]:
    """The mixers that ship with the package, sorted; aliases too."""
    return tuple(_shipped())


def model_card(name: str) -> ModelCard:
    """What the mixer called `name`, or the user's own file if `name` is a path to one, says of itself.

    Raises:
        ConfigError: there is none, or its file is no mixer's.
    """
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"model '{name}': there is no such file")
        return read(path.resolve())
    if name not in names():
        raise ConfigError(f"model '{name}': not found; {nearest(name, names())}")
    return _shipped()[name]


def load(path: Path) -> ModuleType:
    """Import the mixer's file: a module with `Config` and `Mixer`; without options where the file states none.

    Raises:
        ConfigError: it cannot be imported.
    """
    if path.parent == FOLDER:
        return importlib.import_module(f"{__name__}.{path.stem}")
    module = imported(path, ConfigError)
    if not hasattr(module, "Config"):
        vars(module)["Config"] = NoOptions
    return module


def reference() -> Path:
    """The mixer that the others are compared with: the one whose card says it is attention in full."""
    return next(model_card.path for model_card in _shipped().values() if model_card.card.family == "full")


def not_causal(files: Iterable[Path]) -> str | None:
    """Why a model of the mixers in these files has no causal form; None: it has."""
    for path in files:
        card = read(path).card
        if not card.can_be_causal:
            why = card.causal_form.removeprefix("no: ") or "its card says nothing of such a form"
            return f"{path.stem.replace('_', '-')} cannot be causal: {why}"
    return None


def cross(path: Path) -> CrossCard | None:
    """What the cross form of the mixer in a file says of itself; None: it has none, so that it reads no source.

    Raises:
        ConfigError: its file has no card.
    """
    found = cross_card.path_of(path)
    return None if found is None else cross_card.read(found)


def load_cross(path: Path) -> ModuleType | None:
    """Import the cross form of the mixer in a file: a module with `Cross`; None: it has none.

    Raises:
        ConfigError: it cannot be imported.
    """
    found = cross_card.path_of(path)
    if found is None:
        return None
    if path.parent == FOLDER:
        return importlib.import_module(f"{__name__}.{found.parent.name}.{found.stem}")
    return imported(found, ConfigError)


def code_with_cross(path: Path) -> str:
    """`code` of the mixer in a file, and of its cross form, where it has one.

    Raises:
        ConfigError: a file is no Python.
    """
    found = cross_card.path_of(path)
    return code(path) if found is None else digest([code(path), code(found)])


def not_crossing(path: Path, *, growing: bool) -> str | None:
    """Why the mixer in a file reads no source for a target; None: it does.

    Args:
        growing: a place of the target sees none after it.
    """
    name, found = path.stem.replace("_", "-"), cross(path)
    if found is None:
        return f"{name} has no cross form, by which a target reads a source"
    if growing and found.growing != cross_card.YES:
        return f"{name} does not read for a growing target: {found.growing.removeprefix('no: ')}"
    return None


def files_that_cross() -> list[Path]:
    """The mixers' files that ship with a cross form."""
    return [path for path in files() if cross_card.path_of(path)]
