"""What the shell completes: the names of models, tasks, configs, techniques and runs, as far as they are typed.

Of a list, its last part is completed. Nothing here opens jax or pandas.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

SPLITS = "@:="  # what bash takes for words of their own
WORDS, CURRENT, ASKED = "COMP_WORDS", "COMP_CWORD", "_LRA_COMPLETE"


def models(incomplete: str) -> list[str]:
    """Models, families, and of a model with a bracket its hyperparameters."""
    from lra_bench import mixers

    head, part = _parted(incomplete, ",+")
    name, bracket, inside = part.partition("[")
    if bracket and name in mixers.names():
        head, before = f"{head}{name}[", inside[: inside.rfind(",") + 1]
        return [f"{head}{before}{option.name}=" for option in mixers.model_card(name).options]
    return _behind(head, [*mixers.names(), *(f"family:{family}" for family in families("")), "all"])


def families(incomplete: str) -> list[str]:
    """The families that a model's card may name."""
    from typing import get_args

    from lra_bench.mixers.card import Family

    return list(get_args(Family))


def tasks(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tasks, and of a task with @ its variants."""
    from lra_bench.config import tasks as room

    include = _include(ctx)
    head, part = _parted(incomplete, ",")
    name, at, _ = part.partition("@")
    if at:
        known = room.variants(name, include) if name in room.names(include) else ()
        return _behind(f"{head}{name}@", known)
    return _behind(head, [*room.names(include), "all"])


def one_task(ctx: typer.Context, incomplete: str) -> list[str]:
    """A task alone, and its variants."""
    return [name for name in tasks(ctx, incomplete.rpartition(",")[2]) if name != "all"]


def variants(ctx: typer.Context, incomplete: str) -> list[str]:
    """Those of all tasks: the one that was named before is not known while an option lacks its value."""
    from lra_bench.config import tasks as room

    include = _include(ctx)
    return sorted({variant for task in room.names(include) for variant in room.variants(task, include)})


def configs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Configs by their names."""
    from lra_bench import config

    return list(config.found("configs", _include(ctx)))


def devices(ctx: typer.Context, incomplete: str) -> list[str]:
    """Accelerators to estimate for, by their names."""
    from lra_bench import config

    return list(config.found("configs/devices", _include(ctx)))


def techniques(ctx: typer.Context, incomplete: str) -> list[str]:
    """Techniques, several at once too."""
    from lra_bench import config

    head, _ = _parted(incomplete, ",+")
    return _behind(head, [config.NO_TECHNIQUE, *config.technique_files(_include(ctx)), "all"])


def anything(ctx: typer.Context, incomplete: str) -> list[str]:
    """Whatever `lra show` shows."""
    from lra_bench import config, mixers
    from lra_bench.config import tasks as room

    include = _include(ctx)
    named = (mixers.names(), room.names(include), config.found("configs", include), config.technique_files(include))
    return [name for names in named for name in names]


def settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """The keys of a config."""
    from lra_bench import config

    base = config.recipe("base", _include(ctx)).overlays[0].values
    sections = {key: value for key, value in base.items() if isinstance(value, dict)}
    return [f"{key}=" for key, _ in config.flat(sections)]


def runs(ctx: typer.Context, incomplete: str) -> list[str]:
    """The finished runs of the results folder."""
    from lra_bench.records import store

    return [folder.name for folder in store.folders(Path(ctx.params.get("results") or "results"))]


def spaces(ctx: typer.Context, incomplete: str) -> list[str]:
    """Search spaces by their names."""
    from lra_bench import config

    return list(config.spaces(_include(ctx)))


def sweeps(incomplete: str) -> list[str]:
    """Files of models, tasks and seeds that are run together."""
    return [str(path) for path in sorted(Path("configs/sweeps").glob("*.yaml")) if path.stem != "base"]


def checks(ctx: typer.Context, incomplete: str) -> list[str]:
    """Checks of the calibration by their names."""
    from lra_bench.config import calibration

    return list(calibration.checks(_include(ctx)))


def formats(incomplete: str) -> list[str]:
    """What a task of one's own can be made from: sources and formats."""
    from lra_bench import data, templates

    return sorted({*data.names(), *templates.FORMATS})


def _include(ctx: typer.Context) -> tuple[Path, ...]:
    return tuple(ctx.params.get("include_path") or ())


def _parted(incomplete: str, between: str) -> tuple[str, str]:
    """A list up to its last part, and that; what stands in a bracket does not part it."""
    ends = [at + 1 for at, sign in enumerate(incomplete) if sign in between and _outside(incomplete[:at])]
    end = ends[-1] if ends else 0
    return incomplete[:end], incomplete[end:]


def _outside(before: str) -> bool:
    return before.count("[") <= before.count("]")


def _behind(head: str, names: Iterable[str]) -> list[str]:
    return [f"{head}{name}" for name in names]


@contextlib.contextmanager
def whole_words() -> Iterator[None]:
    """Take together the words that bash splits at `@`, `:` and `=`, and answer with what follows the last of these."""
    cut = _joined() if os.environ.get(ASKED) == "complete_bash" and WORDS in os.environ else ""
    if not cut:
        yield
        return
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        sys.stdout.write("".join(line.removeprefix(cut) for line in said.getvalue().splitlines(keepends=True)))


def _joined() -> str:
    """Join them in the environment; what the shell has of the last one already, and is not to be told again."""
    typed = os.environ[WORDS].split("\n")[: int(os.environ[CURRENT]) + 1]
    words = re.sub(rf"\n([{SPLITS}]+)(\n|$)", r"\1", "\n".join(typed)).split("\n")
    if len(words) == len(typed):
        return ""
    os.environ[WORDS], os.environ[CURRENT] = "\n".join(words), str(len(words) - 1)
    last = words[-1]
    return "" if last == typed[-1] else last[: max(map(last.rfind, SPLITS)) + 1]
