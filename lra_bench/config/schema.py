"""What a recipe, a task and a cell must say: frozen, typed, strict."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from lra_bench.metrics import ACCURACY
from lra_bench.shapes import SPLITS

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Scalar = bool | int | float | str | None


class Strict(BaseModel):
    """Frozen, no unknown key, no conversion, no default: every value stands in a YAML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Trunk(Strict):
    """The encoder that every mixer is put into."""

    layers: Count
    width: Count  # D
    heads: Count  # H
    qkv: Count | None  # the heads' joint width; null: D
    mlp: Count  # hidden width of the MLP block and of the head
    dropout: Share
    positions: Literal["sinusoidal", "learned", "rotary", "none"]
    patch: Count  # symbols a vector stands for, along each axis of an image
    input: Literal["symbols", "values"]  # an embedding a symbol, or the numbers that symbols stand for, projected
    pool: Literal["cls", "mean"]
    dtype: Literal["float32", "bfloat16"]
    remat: bool  # recompute each layer in the backward pass

    @pydantic.model_validator(mode="after")
    def _whole_heads(self) -> Trunk:
        joint = self.qkv or self.width
        if joint % self.heads:
            raise ValueError(f"{joint} wide cannot be cut into {self.heads} heads")
        if self.positions == "rotary" and joint // self.heads % 2:
            raise ValueError(f"rotary positions turn pairs, and a head is {joint // self.heads} wide")
        return self


class Optimizer(Strict):
    """AdamW."""

    lr: Annotated[float, Field(gt=0)]
    b1: Share
    b2: Share
    eps: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    clip: Annotated[float, Field(gt=0)] | None  # global norm; null: none


class Schedule(Strict):
    """The learning rate's factor over steps."""

    name: Literal["constant", "rsqrt", "warmup-cosine", "warmup-linear"]
    warmup: Annotated[int, Field(ge=0)]  # steps


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

    mark: str | None  # a word that stands beside every number of this recipe
    variant: str | None  # the task's named variant to use, where it has one
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
    source: str  # a file of lra_bench/data/, or a user's own: its path, `#` and a hash of its code
    args: dict[str, Scalar]  # the source's own
    folder: str | None  # a user's folder with the released files; null: the source makes or fetches them
    length: Count  # L
    grid: list[Count] | None  # rows and columns, where the sequence is an image; null: it is a text
    classes: Count  # C: classes, labels or numbers that are asked for
    streams: Literal[1, 2]
    interaction: Literal["nli", "concat"]  # of two streams' vectors a, b: [a, b, a*b, a-b], or as published [a, b]
    splits: dict[str, Count]  # examples of train, val and test
    seed: Annotated[int, Field(ge=0)]  # of the data, not of the run
    metric: Literal["accuracy", "exact-match", "mean-squared-error", "bits"]
    variant: str | None  # the variant that was used

    @pydantic.field_validator("splits")
    @classmethod
    def _all_splits(cls, splits: dict[str, int]) -> dict[str, int]:
        if set(splits) != set(SPLITS):
            raise ValueError(f"must name {', '.join(SPLITS)}")
        return splits

    @pydantic.model_validator(mode="after")
    def _whole(self) -> TaskSpec:
        if self.metric == ACCURACY.name and self.classes < 2:
            raise ValueError("classes: 1, and accuracy is of at least 2")
        if self.grid is not None and (len(self.grid) != 2 or self.grid[0] * self.grid[1] != self.length):
            raise ValueError(f"grid: must be [rows, columns] of {self.length} cells")
        return self


class Matrix(Strict):
    """Which cells: models x tasks x seeds under one recipe, and how they are run; lists as on the command line."""

    models: str
    tasks: str
    recipe: str
    seeds: str
    length: Count | None
    settings: list[str]
    limit: Count | None
    results: str
    launcher: str
    jobs: Count | None  # null: as the launcher's file says
    processes: Count  # of a machine that train a cell together
    timeout: Annotated[float, Field(gt=0)] | None  # minutes
    fail_fast: bool
    match: Literal["params", "flops"] | None  # what the MLP's width is solved for
    track: str | None


class Match(Strict):
    """A trunk whose `mlp` was solved for, so that the model is as large, or its step as dear, as full attention's."""

    what: Literal["params", "flops"]
    mlp: Count  # of the trunk that full attention has


class Cell(Strict):
    """One model on one task with one seed, fully resolved: written as cell.json before anything runs."""

    model: str
    family: str
    mixer: str  # the mixer's file
    mixer_hash: str  # of its code, without comments, docstrings and card
    knobs: dict[str, Scalar]
    task: TaskSpec
    recipe_name: str
    recipe: Recipe
    seed: Annotated[int, Field(ge=0)]
    limit: Count | None  # at most so many examples of each split
    changed: str | None  # the --set and --length that were given
    match: Match | None = None  # cells of before have none, nor is it in their ids

    @property
    def id(self) -> str:
        """Ten hexadecimal digits over all that decides the numbers, however it was said."""
        facts = self.model_dump(exclude={"mixer", "family", "changed"})
        if self.match is None:
            del facts["match"]
        facts["task"]["source"] = Path(self.task.source).name  # a user's own is named with its hash, wherever it lies
        return digest(facts)[:10]

    @property
    def folder(self) -> str:
        """The name of the cell's folder in the results."""
        return f"{self.model}-{self.task.name}-{self.recipe_name}-s{self.seed}-{self.id}"

    @property
    def mark(self) -> str | None:
        """What must stand beside the cell's numbers in every table, so that nobody takes them for full ones."""
        matched = f"match {self.match.what}" if self.match else None
        words = [self.recipe.mark, f"limit {self.limit}" if self.limit else None, matched]
        return ", ".join(w for w in words if w) or None


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
