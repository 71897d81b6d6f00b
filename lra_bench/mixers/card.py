"""A mixer's card and options, read from its source without importing it (or jax).

A mixer's file is self-describing: `CARD = Card(...)` with literal arguments, and a frozen dataclass
`Config` whose fields have a plain type, a literal default and a docstring beneath them that says what
the option means. Listing verbs and the parent of a sweep read that from the syntax tree alone. A user's own file may
leave out both: its card then claims nothing, and it has no options.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeGuard, get_args

from lra_bench.errors import ConfigError, nearest
from lra_bench.kernels.impl import BATCHED, FUSED, HOPPER, PALLAS, WALKED, XLA
from lra_bench.source_code import hash_of

Family = Literal[
    "full",
    "fixed-pattern",
    "combined-patterns",
    "learnable-pattern",
    "memory",
    "low-rank",
    "kernel",
    "recurrence",
    "downsampling",
    "synthetic",
    "fourier",
    "state-space",
    "other",
]

YES = "yes"  # of `Card.causal_form`
GROWTHS = ("time", "memory")  # of `Card.causal_growth`
FOREIGN = {"torch", "tensorflow", "keras", "mxnet", "paddle"}  # libraries whose modules no run can have
OPTION_TYPES = {"int": int, "float": float, "str": str, "bool": bool, "None": type(None)}


@dataclass(frozen=True)
class Card:
    """What a mixer claims of itself; the conformance checks hold it to that."""

    title: str
    family: Family
    paper: str  # arXiv id
    equation: str  # where the mixer stands in the paper
    year: int | None
    time: float | None  # exponent of L, options held fixed; L log L counts as 1; None: no claim
    memory: float | None  # exponent of L; None: no claim
    exact_when: str  # the limit in which it equals softmax attention; "" if none
    differs: str  # what is not done as in the paper, and why; "" if nothing
    causal: bool | str = False  # a token sees none that come after it; or the option that says so
    causal_form: str = ""  # under `backbone.causal`: yes, or why it has none; "": nothing is said, so it has none
    causal_growth: dict[str, float] = field(default_factory=dict)  # its exponents of L, time or memory, that are others
    segment: str = (
        ""  # the option that says how long a segment is, where nothing flows from one back to those before it
    )
    padded_length: str | None = ""  # what depends on how far a text is padded; "": nothing does; None: no claim
    control: str = ""  # why tables say what it scores: what it cannot see; "" if it is no control
    exact_padded: bool = True  # the limit holds for texts with padding too
    exact_without: str = ""  # what the limit switches off, so that it says nothing of it
    public: str = ""  # the fastest public form of the mechanism that is known, and where it runs
    short: dict[str, Any] = field(default_factory=dict)  # options that fit a text of some forty tokens
    aliases: dict[str, dict[str, Any]] = field(default_factory=dict)  # further names, and the options that they turn
    alias_cards: dict[str, dict[str, Any]] = field(default_factory=dict)  # what an alias says otherwise than this card

    @property
    def can_be_causal(self) -> bool:
        """Has it a form for `backbone.causal`?"""
        return self.causal is True or self.causal_form == YES

    def is_causal(self, options: Mapping[str, Any], asked: bool = False) -> bool:
        """Is it that, with these options, and where `backbone.causal` is `asked`?"""
        if asked and self.can_be_causal:
            return True
        return bool(options[self.causal]) if isinstance(self.causal, str) else self.causal

    def growth(self, causal: bool) -> tuple[float | None, float | None]:
        """The exponents of L of work and of memory, of the causal form where that is asked for."""
        own = self.causal_growth if causal else {}
        return own.get("time", self.time), own.get("memory", self.memory)

    def seen_from(self, places: float, options: Mapping[str, Any], asked: bool = False) -> float:
        """How many places of a text so many first ones learn of in one layer; infinity: all."""
        if self.is_causal(options, asked):
            return places
        if not self.segment or math.isinf(places):
            return math.inf
        segment = int(options[self.segment])
        return math.ceil(places / segment) * segment


@dataclass(frozen=True)
class Walked:
    """The options of a mixer that is computed by platform: block by block, or all blocks at once."""

    there: ClassVar[tuple[str, ...]] = WALKED
    impl: str = field(default="auto", kw_only=True)

    @property
    def few(self) -> int | None:
        """So many rows that all tokens attend to, or that attend to all, and to nothing else; None: of another kind."""
        return None

    def __post_init__(self) -> None:
        if self.impl not in ("auto", *self.there):
            raise ConfigError(f"impl: '{self.impl}'; it can be: auto, {', '.join(self.there)}")


@dataclass(frozen=True)
class Fused(Walked):
    """Of one that has a kernel for GPU and TPU besides."""

    there: ClassVar[tuple[str, ...]] = FUSED


@dataclass(frozen=True)
class OnHopper(Fused):
    """Of one whose walk is a kernel on Hopper, which holds its state."""

    there: ClassVar[tuple[str, ...]] = (*FUSED, HOPPER)


BY_PLATFORM: Mapping[str, type[Walked]] = {"Walked": Walked, "Fused": Fused, "OnHopper": OnHopper}
SAID = {
    XLA: "xla, block by block, as a CPU wants it",
    BATCHED: "batched, all blocks at once",
    PALLAS: "pallas, a kernel for GPU and TPU, which a CPU interprets, slowly",
    HOPPER: "hopper, on an NVIDIA GPU of compute capability 9.0 its walk too is a kernel",
}


@dataclass(frozen=True)
class NoOptions:
    """The `Config` of a file that states none."""


@dataclass(frozen=True)
class Option:
    """One field of a mixer's `Config`."""

    name: str
    type: str  # as annotated
    default: Any
    meaning: str


@dataclass(frozen=True)
class ModelCard:
    """All that a mixer's file says of itself: its name, what its card claims, and its options."""

    name: str
    path: Path
    card: Card
    options: tuple[Option, ...]


def title(path: Path) -> str:
    """The mixer's name: its file's, with `-` for `_`."""
    return path.stem.replace("_", "-")


def read(path: Path) -> ModelCard:
    """Read the card and the options of the mixer in `path`; a card that claims nothing where the file has none.

    Raises:
        ConfigError: the file has no `Mixer`, or a `CARD` or `Config` that is not literal.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a mixer's file: {error}") from None
    said = {name: node for node in tree.body for name in _bound(node)}
    if "Mixer" not in said:
        raise ConfigError(f"{path}: a mixer's file defines Mixer, which is missing{_instead(tree)}")
    if "CARD" not in said and _foreign(tree):
        raise ConfigError(f"{path}: not a mixer's file{_instead(tree)}")
    card = _card(said["CARD"], path) if "CARD" in said else no_claims(title(path))
    options = tuple(_options(said["Config"], path)) if "Config" in said else ()
    _name_options(card, {option.name for option in options}, path)
    return ModelCard(title(path), path, card, options)


def no_claims(name: str) -> Card:
    """The card of a file that states none."""
    return Card(
        name,
        "other",
        paper="",
        equation="",
        year=None,
        time=None,
        memory=None,
        exact_when="",
        differs="",
        padded_length=None,
    )


def _bound(node: ast.stmt) -> list[str]:
    """The names that a statement binds."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _foreign(tree: ast.Module) -> list[str]:
    """Libraries that the file imports whose modules no run can have."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return sorted({name.split(".")[0] for name in names} & FOREIGN)


def _instead(tree: ast.Module) -> str:
    """What to do about a file that is no mixer's; of a module of another library, that it has to be one of ours."""
    foreign = _foreign(tree)
    why = f"; {foreign[0]} is not supported, a mixer is written in JAX" if foreign else ""
    return f"{why}; lra new model NAME --family other writes a file to start from"


def code(path: Path) -> str:
    """Ten hexadecimal digits over the mixer's code, without its card, and that of a user's own files that it imports.

    Raises:
        ConfigError: there is no such file, or one is no Python.
    """
    return hash_of(path, ConfigError, is_card)


def aliases(model_card: ModelCard) -> list[ModelCard]:
    """The model cards of the further names: the same file, its options at other defaults.

    Raises:
        ConfigError: an alias turns an option that is none, or to a value of another type.
    """
    named = []
    own = model_card.card
    for name, values in own.aliases.items():
        defaults = turned(model_card, values)
        options = tuple(replace(option, default=defaults[option.name]) for option in model_card.options)
        turns = ", ".join(f"{option} = {value}" for option, value in values.items())
        card = replace(own, **{"title": f"{own.title}, {turns}", **own.alias_cards.get(name, {})})
        named.append(replace(model_card, name=name, card=card, options=options))
    return named


def is_card(node: ast.stmt) -> TypeGuard[ast.Assign]:
    """Does the statement state the card, which moves no number?"""
    return isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "CARD" for t in node.targets)


class _Said(ast.Expr):
    """A statement that is a constant alone: a docstring."""

    value: ast.Constant


def _is_said(node: ast.stmt | None) -> TypeGuard[_Said]:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _card(node: ast.stmt, path: Path) -> Card:
    if not is_card(node) or not isinstance(node.value, ast.Call):
        raise ConfigError(f"{path}: CARD must be CARD = Card(...) with literal arguments")
    try:
        card = Card(**{k.arg: ast.literal_eval(k.value) for k in node.value.keywords if k.arg})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: CARD: {error}") from None
    if strange := next((name for name in card.causal_growth if name not in GROWTHS), None):
        raise ConfigError(f"{path}: CARD: causal_growth: '{strange}'; {nearest(strange, GROWTHS)}")
    if card.family not in get_args(Family):
        raise ConfigError(f"{path}: CARD: family '{card.family}'; it can be: {', '.join(get_args(Family))}")
    return card


def _name_options(card: Card, options: set[str], path: Path) -> None:
    """Hold the names of options on the card to be those of options, and of aliases, to be of aliases.

    Raises:
        ConfigError: one is not.
    """
    for field_, name in (("causal", card.causal), ("segment", card.segment)):
        if isinstance(name, str) and name and name not in options:
            raise ConfigError(f"{path}: CARD: {field_}: '{name}' is no option; {nearest(name, options)}")
    for name, says in card.alias_cards.items():
        if name not in card.aliases:
            raise ConfigError(f"{path}: CARD: alias_cards: '{name}' is no alias; {nearest(name, card.aliases)}")
        if unknown := set(says) - {f.name for f in fields(Card)}:
            raise ConfigError(
                f"{path}: CARD: alias_cards: {name}: no such field of a card: {', '.join(sorted(unknown))}"
            )


def _options(node: ast.stmt, path: Path) -> list[Option]:
    if not isinstance(node, ast.ClassDef):
        raise ConfigError(f"{path}: Config must be a class of this file")
    options: list[Option] = []
    for item, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
            continue
        name = item.target.id
        meaning = str(after.value.value) if _is_said(after) else ""
        if item.value is None or not meaning:
            raise ConfigError(f"{path}: Config.{name}: an option has a default and a docstring beneath it")
        try:
            default = ast.literal_eval(item.value)
        except ValueError:
            raise ConfigError(f"{path}: Config.{name}: the default must be a literal") from None
        if not set(ast.unparse(item.annotation).split(" | ")) <= set(OPTION_TYPES):
            raise ConfigError(f"{path}: Config.{name}: an option's type is made of {', '.join(OPTION_TYPES)}")
        options.append(Option(name, ast.unparse(item.annotation), default, " ".join(meaning.split())))
    bases = [BY_PLATFORM[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in BY_PLATFORM]
    return options + [Option("impl", "str", "auto", _said(base.there)) for base in bases]


def _said(there: Iterable[str]) -> str:
    """What the option `impl` of a mixer means that can be computed so."""
    return f"How it is computed: auto, what the platform runs best; {'; '.join(SAID[one] for one in there)}."


def kinds(model_cards: Iterable[ModelCard], name: str) -> frozenset[type]:
    """The kinds that the value of an option may be of, over all of the mixers that have it; of any scalar if none
    has."""
    options = [option for model_card in model_cards for option in model_card.options if option.name == name]
    every = {OPTION_TYPES[part] for option in options for part in option.type.split(" | ")}
    return frozenset(every) or frozenset(OPTION_TYPES.values())


def turned(model_card: ModelCard, values: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of the mixer: at its default, or as `values` turns it. An integer turns a float's option too.

    Raises:
        ConfigError: there is no such option, or the value is of another type.
    """
    options = {option.name: option for option in model_card.options}
    result = {name: option.default for name, option in options.items()}
    for name, value in values.items():
        if name not in options:
            raise ConfigError(f"{model_card.name}.{name}: no such option; {nearest(name, options)}")
        types = [OPTION_TYPES[part] for part in options[name].type.split(" | ")]
        whole = type(value) is int and int not in types and float in types
        if not whole and type(value) not in types:
            raise ConfigError(f"{model_card.name}.{name}: must be {options[name].type}, not {value!r}")
        result[name] = float(value) if whole else value
    _hold(model_card, result)
    return result


def _hold(model_card: ModelCard, values: Mapping[str, Any]) -> None:
    """Let the mixer's own `Config` say what is out of range, as far as that can be had without importing the file.

    Raises:
        ConfigError: a value is.
    """
    if not values:
        return
    try:
        _config(model_card.path)(**values)
    except ConfigError as error:
        raise ConfigError(f"{model_card.name}.{error}") from None
    except Exception:  # it depends on what only its file has; the model's own making says what is wrong
        return


@cache
def _config(path: Path) -> Any:
    """The class `Config` of a mixer's file, with the constants that stand beside it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": __name__, "dataclass": dataclass, "field": field, "math": math}
    names |= {"ConfigError": ConfigError, **BY_PLATFORM}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _is_literal(node.value):
            names[node.targets[0].id] = ast.literal_eval(node.value)
    own = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Config")
    exec(compile(ast.Module([own], []), str(path), "exec", annotations.compiler_flag), names)
    return names["Config"]


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True
