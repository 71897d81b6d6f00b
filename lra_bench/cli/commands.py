"""What a user sees of the commands themselves: their order, their help, the nearest one to a wrong word."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from lra_bench.cli import completion
from lra_bench.errors import nearest

UsageError: type[Exception] = typer.BadParameter.__mro__[
    1
]  # what says that the command line is wrong, in every version of Typer

PANELS = {
    "Run": ("run", "sweep", "plan", "reproduce", "calibrate"),
    "Results": ("compare", "report", "plot", "bundle", "merge"),
    "Explore": ("ls", "show", "data", "doctor"),
    "Extend": ("new", "verify", "check"),
    "Benchmark speed": ("speed", "scale"),
    "After training": ("quantize", "prune", "distill", "adapt", "export", "predict", "generate", "probe"),
    "Search": ("tune", "search"),
}
BEGIN_WITH = (
    ("lra run -m linformer -t listops -c quick", "Train a model; two to five minutes on a CPU."),
    ("lra compare results", "Put the results side by side."),
    ("lra new task mine --from csv", "Start a task of your own: one YAML file."),
)
MEANT = {  # what people type, and what does it
    "train": "run",
    "evaluate": "compare",
    "eval": "compare",
    "table": "compare",
    "results": "compare",
    "leaderboard": "report",
    "matrix": "sweep",
    "grid": "sweep",
    "list": "ls",
    "info": "show",
    "describe": "show",
    "bench": "speed",
    "benchmark": "speed",
    "profile": "speed",
    "scaling": "scale",
    "finetune": "adapt",
    "fine-tune": "adapt",
    "infer": "predict",
    "sample": "generate",
    "complete": "generate",
    "test": "verify",
    "init": "new",
    "create": "new",
    "prepare": "data prepare",
    "download": "data prepare",
    "figure": "plot",
    "hpo": "tune",
    "nas": "search",
    "resume": "run",
}
RENAMED = {  # what had another name once, and still does what it did, with a line
    "quantise": "quantize",
    "distil": "distill",
    "--lever": "--technique",
    "--levers": "--techniques",
    "--fresh": "--overwrite",
}
FAMILIES = "{families}"  # in an option's help: those that a mixer's card may name


class Group(TyperGroup):
    """Commands, of the root in panels, each with its whole summary; the nearest one to a word that is none."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments begin with; the nearest one stands in the error."""
        if ctx.parent is None:
            args = _renamed(args[:1], self.commands) + args[1:]
        try:
            return super().resolve_command(ctx, args)
        except UsageError as error:
            self._say_nearest(error, ctx, args[0])
            raise

    def _say_nearest(self, error: Any, ctx: Any, word: str) -> None:
        if not error.message.startswith("No such command"):
            return
        meant = MEANT.get(word.lower()) if ctx.parent is None else None
        said = f"did you mean '{meant}'?" if meant else nearest(word, self.commands)
        error.message = f"No such command '{word}'; {said}"

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the panels; those that are in none come last."""
        order = [name for names in PANELS.values() for name in names]
        known = [name for name in order if name in self.commands] if ctx.parent is None else []
        return [*known, *(name for name in self.commands if name not in known)]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """A line or two a command: its summary is never cut off. Before them, what to begin with."""
        if ctx.parent is None:
            with formatter.section("Begin with"):
                formatter.write_dl(BEGIN_WITH, col_max=max(len(command) for command, _ in BEGIN_WITH))
        names = [name for name in self.list_commands(ctx) if not self.commands[name].hidden]
        for title, own in _panels(names) if ctx.parent is None else [("Commands", names)]:
            with formatter.section(title):
                formatter.write_dl([(name, summary(self.commands[name])) for name in own])


def _panels(names: list[str]) -> Iterator[tuple[str, list[str]]]:
    for title, own in PANELS.items():
        if there := [name for name in own if name in names]:
            yield title, there
    known = {name for own in PANELS.values() for name in own}
    if rest := [name for name in names if name not in known]:
        yield "Other", rest


def summary(command: Any) -> str:
    """The first sentence of a command's help."""
    first = " ".join((command.help or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.?!]) (?=[A-Z])", first)[0]


class Command(TyperCommand):
    """A command whose errors name the option, the nearest value, and how an argument that is out of place is said."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """With what is found only when somebody asks for it."""
        params: list[Any] = list(self.params)
        for param in params:
            if FAMILIES in (getattr(param, "help", None) or ""):
                param.help = param.help.replace(FAMILIES, ", ".join(completion.families("")))
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; of what is wrong, say how it is right."""
        args = _renamed(args, {flag for param in self.params for flag in param.opts})
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            if ctx.resilient_parsing:
                raise
            options, stray = self._parted(ctx, given)
            if stray:
                ctx.fail(self._as_options(ctx, stray, options))
            if hasattr(error, "message"):
                error.message = _plain(str(error.message))
            raise

    def _parted(self, ctx: Any, given: list[str]) -> tuple[Collection[str], list[str]]:
        """The names of the options that were given, and the arguments that nothing takes."""
        try:
            options, left, _ = self.make_parser(ctx).parse_args(args=given)
        except UsageError:
            return (), []
        return options, [str(word) for word in left]

    def _as_options(self, ctx: Any, stray: list[str], given: Collection[str]) -> str:
        """What is wrong with them, with an example that has them behind the options that the command still requires."""
        takes = sum(param.param_type_name == "argument" for param in self.params)
        if takes:
            return f"unexpected argument '{stray[0]}': {ctx.command_path} takes {takes} at most"
        lacking = [param.opts[0] for param in self.params if param.required and param.name not in given]
        example = " ".join(f"{flag} {word}" for flag, word in zip(lacking, stray, strict=False))
        said = f"its values follow options: {ctx.command_path} {example}" if example else "it takes options alone"
        return f"unexpected argument '{stray[0]}': {said}"


def _renamed(words: list[str], known: Collection[str]) -> list[str]:
    """The words, with those that had another name once under their own; a line on stderr tells which."""
    now = {word: new for word in words if (new := RENAMED.get(word)) and word not in known and new in known}
    for word, new in now.items():
        print(f"lra: {word} is now {new}", file=sys.stderr)
    return [now.get(word, word) for word in words]


def _plain(message: str) -> str:
    """What Typer says of a wrong value, with the nearest right one, or with the kind that it must be of."""
    if number := re.match(r"'?(.*?)'? is not a valid (int|float)", message):
        return f"'{number[1]}' must be {'an integer' if number[2] == 'int' else 'a number'}"
    if choice := re.match(r"'?(.*?)'? is not one of (.*)", message, re.DOTALL):
        values = re.findall("'([^']*)'", choice[2])
        return f"'{choice[1]}': {nearest(choice[1], values)}"
    return message


class App(typer.Typer):
    """Commands that are all `Command`s, in `Group`s."""

    def __init__(self, **settings: Any) -> None:
        # rich's help alone takes 0.15 s to import
        super().__init__(cls=Group, rich_markup_mode=None, no_args_is_help=True, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """As Typer's, of our own kind."""
        return super().command(name, cls=Command, **settings)
