"""A task and a config that a test can afford, and how it calls the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Done = subprocess.CompletedProcess[str]
Lra = Callable[..., Done]
Said = Callable[..., tuple[int, str]]
LRA = str(Path(sys.executable).parent / "lra")

TINY = """\
# A config for tests.
tag: tiny
variant: quick
backbone: {layers: 1, width: 16, heads: 2, mlp: 16}
optimizer: {lr: 1.0e-2}
schedule: {name: warmup-linear, warmup: 2}
training: {steps: 12, batch: 8, eval_every: 4, checkpoint_every: 4}
"""

SHORT = """\
version: 1
title: Very short ListOps
paper: none
source: listops
args: {min_length: 3, max_length: 20, max_depth: 3, max_args: 3}
folder: null
length: 20
grid: null
classes: 10
streams: 1
splits: {train: 64, val: 13, test: 21}
seed: 0
metric: accuracy
"""

FOUR = """\
models: linear,linformer
tasks: short
config: tiny
seeds: 0-1
jobs: 2
"""
TWO = FOUR.replace("0-1", '"0"')
LONG = (
    "settings: [training.steps=100, training.eval_every=50, training.checkpoint_every=5]\n"  # enough to be interrupted
)


def first_fast(first: Any, *others: Any) -> list[Any]:
    """Cases of which `make test` runs the first, `make test-rest` the second, and `make test-all` alone the others."""
    return [first, *_marked(pytest.mark.slow, others[:1]), *_marked(pytest.mark.sweep, others[1:])]


def first_slow(first: Any, *others: Any) -> list[Any]:
    """Cases of a slow test, of which `make test-rest` runs the first, and `make test-all` alone the others."""
    return [first, *_marked(pytest.mark.sweep, others)]


def _marked(marks: Any, cases: Iterable[Any]) -> list[Any]:
    return [pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=marks) for one in cases]


def started(here: Path, cache: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command, begun in a folder, in a group of its own that hears Ctrl-C."""
    return subprocess.Popen(
        [LRA, *arguments],
        cwd=here, env={**os.environ, "LRA_CACHE": str(cache)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=hears_ctrl_c,
    )  # fmt: skip


def hears_ctrl_c() -> None:
    """As at a terminal, also where the tests themselves run in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ran_own(here: Path, cache: Path) -> Path:
    """The folder of a finished run, started in `here`, of a mixer of the user's own, `here`/mine.py."""
    for kind, name, text in (("configs", "tiny", TINY), ("tasks", "short", SHORT)):
        (here / kind).mkdir()
        (here / kind / f"{name}.yaml").write_text(text)
    for arguments in ("new model mine --family kernel", "run -m mine.py -t short -c tiny"):
        command = [Path(sys.executable).parent / "lra", *arguments.split()]
        subprocess.run(command, cwd=here, env={**os.environ, "LRA_CACHE": str(cache)}, check=True)
    (folder,) = (here / "results/runs").iterdir()
    return folder


def by_place(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of runs as the figures of scores want them."""
    from lra_bench.report import charts, tables

    return charts.placed(tables.measured(rows), tables.summary(rows))
