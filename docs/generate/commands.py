"""The command line: a page a command, with every option."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from generate.writing import Folder, block, code, plain, table, toctree
from lra_bench import cli
from lra_bench.cli import commands, completion


def root() -> tuple[Any, Any]:
    """The command `lra` and its context."""
    group: Any = typer.main.get_command(cli.registered())
    return group, group.make_context("lra", [], resilient_parsing=True)


def write(folder: Folder) -> None:
    """Write the page of each command, and the one that lists them."""
    group, context = root()
    names = group.list_commands(context)
    folder.put("commands/index", _index(group, context, names))
    for name in names:
        folder.put(f"commands/{name}", "\n".join(_command(group.commands[name], name, context, 1)))


def _index(group: Any, context: Any, names: list[str]) -> str:
    parts = ["# Command line", "", with_sentence(group.help), ""]
    for title, own in commands._panels(names):
        rows = [(f"[`lra {name}`]({name}.myst)", said(commands.summary(group.commands[name]))) for name in own]
        parts += [f"## {title}", "", table(["command", "what it does"], rows)]
    parts += ["## Options of lra itself", "", *_parameters(group, context), said(group.epilog or ""), ""]
    return "\n".join([*parts, toctree(names)])


def with_sentence(text: str | None) -> str:
    """A help text as one paragraph."""
    return said(" ".join((text or "").split()))


def said(text: str) -> str:
    """Help, which is no Markdown: what looks like an option, or is between backticks, is code."""
    parts = re.split(r"(`[^`]+`|(?<![\w-])--[a-z][\w-]*)", text)
    return "".join(code(part.strip("`")) if index % 2 else plain(part) for index, part in enumerate(parts))


def _command(command: Any, name: str, above: Any, level: int) -> Iterator[str]:
    context = command.make_context(name, [], parent=above, resilient_parsing=True)
    yield f"{'#' * level} {context.command_path}"
    yield ""
    yield block(" ".join([context.command_path, *command.collect_usage_pieces(context)]))
    yield from _help(command.help or "")
    yield from _parameters(command, context)
    for word, inner in getattr(command, "commands", {}).items():
        yield from _command(inner, word, context, level + 1)


def _help(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        lines = paragraph.strip().split("Example: ", 1)
        if lines[0]:
            yield with_sentence(lines[0]) + "\n"
        if len(lines) == 2:
            yield "**Example**\n\n" + block(lines[1], "console")


def _parameters(command: Any, context: Any) -> Iterator[str]:
    """The arguments and the options, each with its help, kind and default."""
    for kind in ("argument", "option"):
        own = [one for one in command.params if one.param_type_name == kind and not getattr(one, "hidden", False)]
        if own:
            yield f"**{kind.capitalize()}s**\n"
        for one in own:
            yield f"{_names(one, context)}\n: {_meaning(one, context)}\n"


def _names(parameter: Any, context: Any) -> str:
    kind = plain(_kind(parameter.make_metavar(context)))
    if parameter.param_type_name == "argument":
        return f"*{kind}*"
    names = [code(name) for name in sorted(parameter.opts, key=len)]
    flag = "" if parameter.is_flag else f" *{kind}*"
    off = [f" / {code(name)}" for name in parameter.secondary_opts]
    return ", ".join(names) + "".join(off) + flag


def _kind(metavar: str) -> str:
    """What stands for a value: a number, a choice, or the word that the option names."""
    return "N" if re.match(r"<(int|float)", metavar) else metavar.strip("<>[]")


def _meaning(parameter: Any, context: Any) -> str:
    text = (parameter.help or "").replace(commands.FAMILIES, ", ".join(completion.families("")))
    extra = [said(text), _range(parameter.type), "It is required." if parameter.required else ""]
    extra.append("It can be given several times." if getattr(parameter, "multiple", False) else "")
    default = parameter.get_default(context, call=False)
    absent = default is None or default is False or default == ()
    if not absent and not parameter.required:
        extra.append(f"Default: {code(_default(parameter, default))}.")
    return " ".join(filter(None, extra))


def _default(parameter: Any, default: Any) -> str:
    return parameter.opts[0] if default is True else str(getattr(default, "value", default))


def _range(kind: Any) -> str:
    low, high = getattr(kind, "min", None), getattr(kind, "max", None)
    if low is None and high is None:
        return ""
    ends = [f"{word} {code(f'{end:,}')}" for word, end in (("at least", low), ("at most", high)) if end is not None]
    return f"{' and '.join(ends).capitalize()}."
