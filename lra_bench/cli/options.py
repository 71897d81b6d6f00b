"""The flags that several commands share, each said once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lra_bench.cli import completion
from lra_bench.errors import ConfigError
from lra_bench.shapes import LAST_SEED

Model = Annotated[
    str,
    typer.Option(
        "-m", "--model", help="Names, name[option=value], layers a+b, globs, family:NAME, file.py, all; by comma.",
        metavar="NAME|file.py", autocompletion=completion.models,
    ),
]  # fmt: skip
Task = Annotated[
    str,
    typer.Option(
        "-t", "--task", help="Names, globs, file.yaml or all; comma-separated.", metavar="NAME|file.yaml",
        autocompletion=completion.tasks,
    ),
]  # fmt: skip
Config = Annotated[
    str,
    typer.Option(
        "-c", "--config", help="The recipe: how we train.", metavar="NAME|file.yaml", autocompletion=completion.configs
    ),
]  # fmt: skip
Technique = Annotated[
    str,
    typer.Option(
        "-l", "--technique", help="What is done to a model besides: names, files or all, comma-separated; a+b at once.",
        metavar="NAME|file.yaml", autocompletion=completion.techniques,
    ),
]  # fmt: skip
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=LAST_SEED, help="Of the parameters, the order of examples and the dropout.")
]
Seeds = Annotated[str | None, typer.Option("--seeds", help="Several, in place of --seed: 0-4 or 0,3,7.", metavar="0-4")]
Length = Annotated[int | None, typer.Option("--length", min=1, help="L, in place of the task's own.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="One value: training.steps=500, task.args.max_depth=5, linformer.rank=64.", metavar="a.b=c",
        autocompletion=completion.settings,
    ),
]  # fmt: skip
Results = Annotated[Path, typer.Option("-o", "--results", help="The results folder.", metavar="DIR")]
Run = Annotated[
    str,
    typer.Argument(
        help="A finished run: its folder, or its id or name in the results folder.", metavar="RUN",
        autocompletion=completion.runs,
    ),
]  # fmt: skip
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="At most so many examples a split; marked in tables.")
]
Include = Annotated[
    list[Path] | None,
    typer.Option("--include-path", help="A folder with more tasks/ and configs/.", metavar="DIR", exists=True),
]


class What(StrEnum):
    params = "params"
    flops = "flops"


Match = Annotated[
    What | None,
    typer.Option("--match", help="Solve for the MLP's width: parameters, or FLOPs a step, as full attention has them."),
]
Fresh = Annotated[bool, typer.Option("--overwrite", help="Do again what is done, and forget checkpoints.")]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", help="Minutes a run may take; it is saved, or killed later.", metavar="MIN"),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="Runs at once, in place of the launcher's own; the result says how many."),
]
Launcher = Annotated[
    str | None,
    typer.Option("--launcher", help="Who starts the runs: local, ray, slurm, or a file.", metavar="NAME|file.yaml"),
]
Processes = Annotated[
    int,
    typer.Option("--processes", min=1, help="That train a run together, on a share of the cores or GPUs each."),
]
FailFast = Annotated[
    bool,
    typer.Option("--fail-fast/--keep-going", help="Start no further run once one failed; save those that run."),
]
JobList = Annotated[
    Path | None,
    typer.Option("--out", help="Write a line of a shell for each run that is left, for a scheduler.", metavar="FILE"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run and what is done; start nothing.")]
Track = Annotated[
    str | None,
    typer.Option("--track", help="Tell them too: tensorboard, mlflow, wandb; comma-separated.", metavar="NAME"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

RESULTS = Path("results")
SPEED = RESULTS / "speed/speed.json"  # what `make bench` keeps
RECIPE = "small"
TECHNIQUE = "none"


def counts(text: str, flag: str) -> list[int]:
    """The whole numbers from 1 up in a comma list.

    Raises:
        ConfigError: a part is none.
    """
    parts = [part.strip() for part in text.split(",")]
    wrong = next((part for part in parts if not part.isdecimal() or int(part) < 1), None)
    if wrong is not None:
        raise ConfigError(f"{flag} {text}: '{wrong}' must be a whole number from 1 up")
    return [int(part) for part in parts]


def choices(text: str, flag: str, known: Sequence[int]) -> list[int]:
    """The numbers in a comma list, each one of those that are known.

    Raises:
        ConfigError: a part is none of them.
    """
    parts = [part.strip() for part in text.split(",")]
    wrong = next((part for part in parts if part not in map(str, known)), None)
    if wrong is not None:
        raise ConfigError(f"{flag} {text}: '{wrong}' must be {' or '.join(map(str, known))}")
    return [int(part) for part in parts]


def shares(text: str, flag: str) -> list[float]:
    """The numbers from 0 up to, not including, 1 in a comma list.

    Raises:
        ConfigError: a part is none.
    """
    parts = [part.strip() for part in text.split(",")]
    wrong = next((part for part in parts if not re.fullmatch(r"0|0?\.\d+", part)), None)
    if wrong is not None:
        raise ConfigError(f"{flag} {text}: '{wrong}' must be a share, from 0 up to less than 1")
    return [float(part) for part in parts]
