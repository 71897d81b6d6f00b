"""What a recipe, a task and a sweep must say: frozen, typed, strict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lra_bench.metrics import ACCURACY, METRICS
from lra_bench.shapes import LAST_SEED, SPLITS

Count = Annotated[int, Field(ge=1)]
NoneOrMore = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=LAST_SEED)]
Share = Annotated[float, Field(ge=0, lt=1)]
Above = Annotated[float, Field(gt=0)]
CROSS = "cross"  # of `TaskSpec.interaction`


def _on_one_line(listed: Any) -> Any:
    """A YAML list of names or numbers, or one number, with commas; anything else as it is."""
    parts = listed if isinstance(listed, list) else [listed]
    if isinstance(listed, str) or not parts or not all(type(part) in (int, str) for part in parts):
        return listed
    return ",".join(map(str, parts))


Listed = Annotated[str, BeforeValidator(_on_one_line)]  # as on the command line, or a YAML list
Scalar = bool | int | float | str | None


def but_for_before(part: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """What a part says, without what is as it was before it could be said."""
    before = BEFORE_IT_WAS_SAID[part]
    return {key: value for key, value in said.items() if key not in before or value != before[key]}


class Strict(BaseModel):
    """Frozen, no unknown key, no conversion, no default: every value stands in a YAML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


# Of results that were kept before these were options. What has this value is not in a run's id.
BEFORE_IT_WAS_SAID: dict[str, dict[str, Any]] = {
    "backbone": {
        "embedding_std": 1.0,
        "position_std": 0.02,
        "matmul": "default",
        "causal": False,
        "self_mixer": "own",
    },
    "training": {"deterministic": False, "length_buckets": 1, "stop_at": None},
    "task": {"bottleneck": False, "test_lengths": [], "target": "whole"},
    "args": {"quoted": False},  # of a task
}


class Backbone(Strict):
    """The encoder that every mixer is put into."""

    embedding_std: Above  # standard deviation of the symbols' embeddings when they are drawn
    position_std: Above  # and of learned positions
    layers: Count
    width: Count  # D
    heads: Count  # H
    qkv: Count | None  # the heads' joint width; null: D
    mlp: Count  # hidden width of the MLP block and of the head
    dropout: Share
    positions: Literal["sinusoidal", "learned", "rotary", "none"]
    causal: bool  # a token sees none after it
    self_mixer: Literal["own", "full-attention"]  # of an encoder-decoder's layers, beside what reads the source
    patch: Count  # symbols a vector stands for, along each axis of an image
    input: Literal["symbols", "values"]  # an embedding a symbol, or the numbers that symbols stand for, projected
    pool: Literal["cls", "mean", "last"]
    dtype: Literal["float32", "bfloat16"]
    matmul: Literal["default", "float32", "tf32", "bf16"]  # of float32 products; default: the platform's
    remat: bool  # recompute each layer in the backward pass

    @pydantic.model_validator(mode="before")
    @classmethod
    def _kept_before(cls, said: Any) -> Any:
        return {**BEFORE_IT_WAS_SAID["backbone"], **said} if isinstance(said, Mapping) else said

    @pydantic.model_validator(mode="after")
    def _whole_heads(self) -> Backbone:
        joint = self.qkv or self.width
        if joint % self.heads:
            raise ValueError(f"{joint} wide cannot be cut into {self.heads} heads")
        if self.positions == "rotary" and joint // self.heads % 2:
            raise ValueError(f"rotary positions turn pairs, and a head is {joint // self.heads} wide")
        return self


class Optimizer(Strict):
    """AdamW."""

    lr: Above
    b1: Share
    b2: Share
    eps: Above
    weight_decay: Annotated[float, Field(ge=0)]
    clip: Above | None  # global norm; null: none


class Schedule(Strict):
    """The learning rate's factor over steps."""

    name: Literal["constant", "rsqrt", "warmup-cosine", "warmup-linear"]
    warmup: NoneOrMore  # steps


class Training(Strict):
    """How long, how much at once, how often it is evaluated, and which step is kept."""

    steps: NoneOrMore  # 0: as the parameters are before the first
    batch: Count
    accumulate: Count
    eval_every: Count
    checkpoint_every: Count
    select: Literal["best", "last"]
    length_buckets: Count  # lengths to which micro-batches are padded, sorted by length; 1: all to the task's
    stop_at: float | None  # a score on validation at which training ends; null: it takes all steps
    deterministic: bool  # on a GPU, only operations that give the same bits each time

    @pydantic.model_validator(mode="before")
    @classmethod
    def _kept_before(cls, said: Any) -> Any:
        return {**BEFORE_IT_WAS_SAID["training"], **said} if isinstance(said, Mapping) else said

    @pydantic.model_validator(mode="after")
    def _whole_micro_batches(self) -> Training:
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} cannot be cut into {self.accumulate} micro-batches")
        if self.length_buckets > 1 and self.accumulate == 1:
            raise ValueError("length_buckets sorts a batch's micro-batches by length: accumulate must be 2 or more")
        return self


class Recipe(Strict):
    """How a run is trained."""

    tag: str | None  # a word that stands beside every number of this recipe
    variant: str | None  # the task's named variant to use, where it has one
    backbone: Backbone
    optimizer: Optimizer
    schedule: Schedule
    training: Training

    def facts(self) -> dict[str, Any]:
        """All that it says and that decides numbers, without what is as it was before it could be said."""
        said = self.model_dump(exclude={"tag": True, "training": {"checkpoint_every"}})
        return said | {part: but_for_before(part, said[part]) for part in BEFORE_IT_WAS_SAID if part in said}

    def over(self, steps: int) -> Recipe:
        """The recipe with its schedule compressed, or stretched, to so many steps: the same rates at the same shares.

        The warmup is in proportion. The peak of `rsqrt` is lr / sqrt(warmup), so its lr goes with the warmup's root.
        """
        training = self.training.model_copy(update={"steps": steps})
        before, whole = self.schedule.warmup, self.training.steps
        if not (before and steps and whole):  # where no step is taken, there is no proportion
            return self.model_copy(update={"training": training})
        warmup = max(1, round(before * steps / whole))
        warmup = min(warmup, steps - 1) if before < whole else warmup  # the peak is reached, as it was
        gain = math.sqrt(max(warmup, 1) / before) if self.schedule.name == "rsqrt" else 1.0
        return self.model_copy(
            update={
                "training": training,
                "schedule": self.schedule.model_copy(update={"warmup": warmup}),
                "optimizer": self.optimizer.model_copy(update={"lr": self.optimizer.lr * gain}),
            }
        )

    @property
    def warning(self) -> str | None:
        """A line on a learning rate that never reaches its peak; None where it does."""
        warmup, steps = self.schedule.warmup, self.training.steps
        if steps == 0 or warmup < steps:
            return None
        return f"schedule.warmup: {warmup:,} of training.steps: {steps:,}: the learning rate never reaches its peak"


class TaskSpec(Strict):
    """What is asked: one YAML a task, its variant resolved."""

    name: str
    version: Count
    title: str
    paper: str
    source: str  # a file of lra_bench/data/sources/, or a user's own: its path, `#` and a hash of its code
    args: dict[str, Scalar]  # the source's own
    folder: str | None  # a user's folder with the released files; null: the source makes or fetches them
    length: Count  # L
    grid: list[Count] | None  # results and columns, where the sequence is an image; null: it is a text
    classes: Count  # C: classes, labels or numbers that are asked for
    streams: Literal[1, 2]
    # Of two streams' vectors a, b: [a, b, a*b, a-b], or as published [a, b]; or the first is a source that is read
    # from each place of the second, the target.
    interaction: Literal["nli", "concat", "cross"]
    target: Literal["whole", "growing"]  # that reads a source: each place sees all others, or only those before it
    splits: dict[str, Count]  # examples of train, val and test
    seed: Seed  # of the data, not of the run
    metric: Literal["accuracy", "exact-match", "mean-squared-error", "bits", "token-accuracy", "chrf"]
    bottleneck: bool  # all answers at places are read from one vector, the text's
    test_lengths: list[Count]  # other lengths at which a trained model is tested
    variant: str | None  # the variant that was used
    content: str | None = None  # a hash of the files in `folder` that it reads; None: none, or not asked
    of: TaskSpec | None = None  # the task whose training inputs these are, symbols of which are asked for

    @pydantic.model_validator(mode="before")
    @classmethod
    def _kept_before(cls, said: Any) -> Any:
        return {**BEFORE_IT_WAS_SAID["task"], **said} if isinstance(said, Mapping) else said

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
        if self.bottleneck and not METRICS[self.metric].everywhere:
            raise ValueError(f"bottleneck: true, and by the metric {self.metric} no place is answered")
        if self.crosses and not (self.streams == 2 and self.grid is None and self.everywhere):
            raise ValueError("interaction: cross: of two streams of text, with answers at places of the second")
        if self.target == "growing" and not self.crosses:
            raise ValueError("target: growing; only a task with interaction: cross has a target")
        if METRICS[self.metric].written and not self.growing:
            raise ValueError(f"metric: {self.metric}: of written texts: interaction: cross and target: growing")
        if self.grid is not None and (len(self.grid) != 2 or self.grid[0] * self.grid[1] != self.length):
            raise ValueError(f"grid: must be [rows, columns] of {self.length} pixels")
        return self

    @property
    def crosses(self) -> bool:
        """Is its first stream a source, which is read from each place of its second?"""
        return self.interaction == CROSS

    @property
    def growing(self) -> bool:
        """Does a place of the target see none after it?"""
        return self.target == "growing"

    @property
    def everywhere(self) -> bool:
        """Is an answer read from each place's own vector?"""
        return METRICS[self.metric].everywhere and not self.bottleneck


class Sweep(Strict):
    """Which runs: models x tasks x seeds under one recipe, and how they are run."""

    models: Listed
    tasks: Listed
    config: str
    techniques: Listed
    seeds: Listed
    lr: list[Above] | None  # a grid of learning rates, each tried for every model; the best on validation counts
    lr_by: Literal["every-seed", "first-seed"]  # who tries the whole grid; the others have the rate that is then best
    length: Count | None
    settings: list[str]
    limit: Count | None
    results: str
    launcher: str
    jobs: Count | None  # null: as the launcher's file says
    processes: Count  # of a machine that train a run together
    timeout: Annotated[float, Field(gt=0)] | None  # minutes
    fail_fast: bool
    match: Literal["params", "flops"] | None  # what the MLP's width is solved for
    track: str | None


class Tuned(Strict):
    """What the settings of a recipe cost to find."""

    trials: NoneOrMore
    pruned: NoneOrMore  # of them, those that were pruned
    steps: NoneOrMore  # of training, over all trials
    hours: float
