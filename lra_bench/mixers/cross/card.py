"""What a cross form says of itself, and where it lies; read from its source without importing it (or jax)."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from lra_bench.errors import ConfigError

FOLDER = Path(__file__).parent
YES = "yes"  # of `CrossCard.growing`


@dataclass(frozen=True)
class CrossCard:
    """What a cross form claims of itself; the conformance checks hold it to that."""

    paper: str  # arXiv id
    equation: str  # where the cross form stands in the paper, or what of the paper it is made of
    exact_when: str = ""  # the limit in which it equals softmax attention to the source; "" if none
    growing: str = YES  # does it read for a target whose places see none after them? Or why not
    differs: str = ""  # what is not done as in the paper, and why; "" if nothing


def path_of(mixer: Path) -> Path | None:
    """The cross form's file of the mixer in a file: `cross/` beside it, under the same name; None: it has none."""
    path = mixer.parent / FOLDER.name / mixer.name
    return path if path.is_file() else None


def read(path: Path) -> CrossCard:
    """What the cross form in a file claims.

    Raises:
        ConfigError: the file has no `CARD = CrossCard(...)` with literal arguments.
    """
    try:
        tree = ast.parse(path.read_bytes())
        call = next(node.value for node in tree.body if isinstance(node, ast.Assign) and _binds_card(node))
        assert isinstance(call, ast.Call)
        return CrossCard(**{k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg})
    except (OSError, SyntaxError, UnicodeDecodeError, StopIteration, AssertionError, TypeError, ValueError) as error:
        why = f": {error}" if str(error) else ""
        raise ConfigError(f"{path}: a cross form has CARD = CrossCard(...) with literal arguments{why}") from None


def _binds_card(node: ast.Assign) -> bool:
    return any(getattr(target, "id", "") == "CARD" for target in node.targets)
