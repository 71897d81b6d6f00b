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
        "-m", "--model",
        help="Names, name[option=value], a+b (one mixer per layer), globs, family:NAME, all, causal, file.py.",
        metavar="NAME|file.py", autocompletion=completion.models,
    ),
]  # fmt: skip
Task = Annotated[
    str,
    typer.Option(
        "-t", "--task", help="The tasks: names, globs, file.yaml or all, comma-separated.", metavar="NAME|file.yaml",
        autocompletion=completion.tasks,
    ),
]  # fmt: skip
Config = Annotated[
    str,
    typer.Option(
        "-c", "--config", help="The training config.", metavar="NAME|file.yaml", autocompletion=completion.configs
    ),
]  # fmt: skip
Technique = Annotated[
    str,
    typer.Option(
        "-l", "--technique", help="Techniques to apply: names, files or all, comma-separated; a+b applies both.",
        metavar="NAME|file.yaml", autocompletion=completion.techniques,
    ),
]  # fmt: skip
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=LAST_SEED, help="Random seed for initialization, data order and dropout.")
]
Seeds = Annotated[
    str | None, typer.Option("--seeds", help="Several seeds, in place of --seed: 0-4 or 0,3,7.", metavar="0-4")
]
Length = Annotated[int | None, typer.Option("--length", min=1, help="Sequence length, in place of the task's own.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override a value, such as training.steps=500 or linformer.rank=64.", metavar="a.b=c",
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
StopAt = Annotated[
    float | None,
    typer.Option(
        "--stop-at", metavar="SCORE", help="End training once the score on validation is this good, such as 0.99."
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, help="Use at most this many examples of each split; the number is tagged in tables."
    ),
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
    typer.Option("--match", help="Choose the MLP's width so that parameters, or FLOPs a step, match full attention's."),
]
Fresh = Annotated[bool, typer.Option("--overwrite", help="Run finished runs again, and discard checkpoints.")]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", help="Minutes that a run may take; then it is saved and stopped.", metavar="MIN"),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="Number of runs at a time; each result records it."),
]
Launcher = Annotated[
    str | None,
    typer.Option("--launcher", help="What starts the runs: local, ray, slurm, or a file.", metavar="NAME|file.yaml"),
]
Processes = Annotated[
    int,
    typer.Option(
        "--processes",
        min=1,
        help="Number of processes that train one run together, each on a share of the cores or GPUs.",
    ),
]
FailFast = Annotated[
    bool,
    typer.Option(
        "--fail-fast/--keep-going", help="Start no further run once one has failed, and save those that are running."
    ),
]
JobList = Annotated[
    Path | None,
    typer.Option("--out", help="Write one shell command for each unfinished run, for a scheduler.", metavar="FILE"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run and what is finished, and start nothing.")]
Track = Annotated[
    str | None,
    typer.Option("--track", help="Also log to tensorboard, mlflow or wandb, comma-separated.", metavar="NAME"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Estimate for this accelerator, which need not be here: a100, h100, h200, rtx4090, v5e, v6e or file.yaml.",
        metavar="NAME|file.yaml", autocompletion=completion.devices,
    ),
]  # fmt: skip
RESULTS = Path("results")
SPEED = RESULTS / "speed/speed.json"  # what `make bench` keeps
RECIPE = "small"
TECHNIQUE = "none"
BATCH = 32  # inputs that are predicted at once


def counts(text: str, flag: str) -> list[int]:
    """The integers from 1 up in a comma list.

    Raises:
        ConfigError: a part is none.
    """
    parts = [part.strip() for part in text.split(",")]
    wrong = next((part for part in parts if not part.isdecimal() or int(part) < 1), None)
    if wrong is not None:
        raise ConfigError(f"{flag} {text}: '{wrong}' must be an integer from 1 up")
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


def stopping(score: float | None) -> tuple[str, ...]:
    """The setting that --stop-at stands for."""
    return () if score is None else (f"training.stop_at={score}",)
