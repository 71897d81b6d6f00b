"""YAML -> frozen, typed, strict. The only file that reads YAML.

A recipe (`configs/*.yaml`) says how we train, a task (`tasks/*.yaml`) what is asked. `configs/base.yaml` lists every
knob with its default; a recipe overrides it, `--set a.b=c` overrides that. A `Cell` is one model on one task, fully
resolved; its id is a hash of everything in it, so a changed default cannot hide behind an old row.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field

from lra_bench.errors import ConfigError, LraError, TaskError, nearest

Count = Annotated[int, Field(ge=1)]
Scalar = bool | int | float | str | None


class Strict(BaseModel):
    """Frozen, no unknown key, no default: every value stands in a YAML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Trunk(Strict):
    """The encoder that every mixer is put into."""

    layers: Count
    width: Count  # D
    heads: Count  # H
    qkv: Count | None  # heads' joint width; null: D
    mlp: Count  # hidden width of the MLP block and of the head
    dropout: Annotated[float, Field(ge=0, lt=1)]
    positions: Literal["sinusoidal", "learned"]
    pool: Literal["cls", "mean"]
    dtype: Literal["float32", "bfloat16"]
    remat: bool  # recompute each layer in the backward pass

    @pydantic.model_validator(mode="after")
    def _whole_heads(self) -> Trunk:
        joint = self.qkv or self.width
        if joint % self.heads:
            raise ValueError(f"{joint} wide cannot be cut into {self.heads} heads")
        return self


class Optimizer(Strict):
    """AdamW."""

    lr: Annotated[float, Field(gt=0)]
    b1: Annotated[float, Field(ge=0, lt=1)]
    b2: Annotated[float, Field(ge=0, lt=1)]
    eps: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    clip: Annotated[float, Field(gt=0)] | None  # global norm; null: none


class Schedule(Strict):
    """The learning rate's factor over steps."""

    name: Literal["constant", "rsqrt", "cosine", "linear"]
    warmup: Annotated[int, Field(ge=0)]


class Training(Strict):
    """How long, how much at once, how often we look, and which step is kept."""

    steps: Count
    batch: Count
    accumulate: Count
    eval_every: Count
    checkpoint_every: Count
    select: Literal["best", "last"]

    @pydantic.model_validator(mode="after")
    def _whole_slices(self) -> Training:
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} cannot be cut into {self.accumulate} slices")
        return self


class Recipe(Strict):
    """How a cell is trained."""

    variant: str | None  # the task's named variant to use where it has one
    trunk: Trunk
    optimizer: Optimizer
    schedule: Schedule
    training: Training


class TaskSpec(Strict):
    """What is asked: one YAML a task, its variant resolved."""

    name: str
    version: Count
    title: str
    paper: str
    source: str  # a file of lra_bench/data/
    args: dict[str, Scalar]  # the source's own
    length: Count  # L
    classes: Count
    streams: Literal[1, 2]
    splits: dict[Literal["train", "val", "test"], Count]
    seed: int  # of the data, not of the run
    metric: Literal["accuracy"]
    variant: str | None  # resolved: the variant that was used


class Cell(Strict):
    """One model on one task with one seed, fully resolved: written as cell.json before anything runs."""

    model: str
    mixer: str  # the mixer's file
    mixer_hash: str  # of its content
    knobs: dict[str, Scalar]
    task: TaskSpec
    recipe_name: str
    recipe: Recipe
    seed: int
    limit: Count | None
