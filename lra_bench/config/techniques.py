"""What one does to a model beside choosing its mixer: techniques, each a YAML over `configs/techniques/base.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from lra_bench.config.files import file_of, found, shipped
from lra_bench.config.kinds import held
from lra_bench.config.overlays import Overlay, fold, read, validated
from lra_bench.config.schema import Count, NoneOrMore, Share, Strict

KIND = "configs/techniques"
BASE = "base"
NO_TECHNIQUE = "none"  # what stands for no technique on the command line

Numbers = Literal["fp32", "bf16", "fp16"]
FLOATS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
Some = Annotated[float, Field(gt=0)]
Part = Annotated[float, Field(ge=0, le=1)]


class Technique(Strict):
    """A section of options. At zero strength it changes nothing, and stands in no run's id."""

    @property
    def on(self) -> bool:
        """Does it change anything?"""
        raise NotImplementedError

    @property
    def words(self) -> str:
        """In the field's words, for tables."""
        raise NotImplementedError


class Precision(Technique):
    """In which numbers a model is kept, computed and added up."""

    compute: Numbers | None
    params: Numbers
    accumulate: Numbers
    loss_scale: Some

    @property
    def on(self) -> bool:
        return self.compute is not None or {self.params, self.accumulate} != {"fp32"}

    @property
    def words(self) -> str:
        apart = [f"{k} {v}" for k, v in (("params", self.params), ("accumulate", self.accumulate)) if v != "fp32"]
        return ", ".join([self.compute or "", *apart]).strip(", ")


class Sharing(Technique):
    """Layers with the same parameters."""

    groups: Count | None

    @property
    def on(self) -> bool:
        return self.groups is not None

    @property
    def words(self) -> str:
        return "one layer, shared" if self.groups == 1 else f"{self.groups} layers, shared"


class Quantize(Technique):
    """Weights and activations as integers."""

    weights: Literal[32, 8, 4]
    activations: Literal[32, 8]
    examples: Count
    steps: NoneOrMore

    @pydantic.model_validator(mode="after")
    def _of_whole_weights(self) -> Quantize:
        if self.activations < self.weights:
            raise ValueError(
                f"activations of {self.activations} bits meet weights of at most as many, not {self.weights}"
            )
        return self

    @property
    def on(self) -> bool:
        return self.weights < 32

    @property
    def words(self) -> str:
        return f"W{self.weights}A{self.activations}" + (" QAT" if self.steps else "")


class Continued(Technique):
    """Training that continues as it was: a control."""

    steps: NoneOrMore

    @property
    def on(self) -> bool:
        return self.steps > 0

    @property
    def words(self) -> str:
        return f"{self.steps} steps of continued training"


class Prune(Technique):
    """Weights, heads and neurons taken out of a trained model."""

    sparsity: Share
    by: Literal["magnitude", "movement"]
    ramp: Part
    every: Count
    heads: Share
    neurons: Share
    examples: Count
    steps: NoneOrMore

    @pydantic.model_validator(mode="after")
    def _movement_takes_steps(self) -> Prune:
        if self.by == "movement" and self.sparsity and not self.steps:
            raise ValueError("steps: 0, and movement is seen in training alone")
        return self

    @property
    def on(self) -> bool:
        return max(self.sparsity, self.heads, self.neurons) > 0

    @staticmethod
    def left(count: int, share: float) -> int:
        """How many of so many stay when a share of them is taken out: at least one."""
        return max(1, count - int(share * count + 1e-9))

    @property
    def words(self) -> str:
        parts = {f"{self.by} ": self.sparsity, "heads ": self.heads, "neurons ": self.neurons}
        said = ", ".join(f"{what}-{100 * share:g}%" for what, share in parts.items() if share)
        return said + (f", {self.steps} steps" if self.steps else "")


class Distill(Technique):
    """A model that learns from another one's predictions."""

    teacher: str | None
    temperature: Some
    soft: Part
    hidden: Annotated[float, Field(ge=0)]
    attention: Annotated[float, Field(ge=0)]
    layers: Literal["uniform", "last"]

    @property
    def on(self) -> bool:
        return self.teacher is not None

    @property
    def words(self) -> str:
        also = [name for name in ("hidden", "attention") if getattr(self, name)]
        return " and ".join([f"distilled from {self.teacher}", *also])


class Pretrain(Technique):
    """The task's own training inputs, symbols of which are to be guessed, before its labels are seen."""

    steps: NoneOrMore
    objective: Literal["masked", "causal"]
    rate: Annotated[float, Field(gt=0, lt=1)]

    @property
    def on(self) -> bool:
        return self.steps > 0

    @property
    def words(self) -> str:
        return f"{self.objective} pretraining, {self.steps} steps"


class Adapt(Technique):
    """A model that was trained on another task."""

    start: list[str]
    frozen: bool
    rank: NoneOrMore
    alpha: Some
    bottleneck: NoneOrMore

    @property
    def on(self) -> bool:
        return bool(self.start)

    @pydantic.model_validator(mode="after")
    def _beside_what_is_frozen(self) -> Adapt:
        if not self.frozen and (self.rank or self.bottleneck):
            raise ValueError("frozen: false: LoRA and adapters are trained beside a backbone that is frozen")
        return self

    @property
    def words(self) -> str:
        how = [f"LoRA {self.rank}"] if self.rank else []
        how += [f"adapters {self.bottleneck}"] if self.bottleneck else []
        plain = "head alone" if self.frozen else "fine-tuned"
        return f"{' and '.join(how) or plain} from {', '.join(self.start)}"


class Multitask(Technique):
    """One backbone that is trained on several tasks at once, with a head for each."""

    tasks: list[str]
    temperature: Some

    @property
    def on(self) -> bool:
        return bool(self.tasks)

    def shares(self, examples: Sequence[int]) -> list[float]:
        """Of each task in the loss and in a batch, n^(1 / T) over their sum (arXiv 1907.05019)."""
        largest = max(examples)
        each = [(n / largest) ** (1 / self.temperature) for n in examples]
        return [one / sum(each) for one in each]

    @property
    def words(self) -> str:
        return f"multi-task with {', '.join(self.tasks)}, T {self.temperature:g}"


class Techniques(Strict):
    """Those that are applied, in the order in which they are; None where one is not."""

    precision: Precision | None = None
    sharing: Sharing | None = None
    multitask: Multitask | None = None
    pretrain: Pretrain | None = None
    adapt: Adapt | None = None
    distill: Distill | None = None
    continued: Continued | None = None
    prune: Prune | None = None
    quantize: Quantize | None = None

    @pydantic.model_validator(mode="after")
    def _one_beginning(self) -> Techniques:
        if self.pretrain and self.adapt and self.pretrain.on and self.adapt.on:
            raise ValueError("pretrain and adapt: each says what a model begins with; one of the two")
        for name in ("pretrain", "adapt", "distill"):
            other = getattr(self, name)
            if self.multitask and other and self.multitask.on and other.on:
                raise ValueError(
                    f"multitask and {name}: one of the two; tasks that are trained together have nothing else"
                )
        return self

    def applied(self) -> dict[str, Technique]:
        """By name."""
        return {name: technique for name in type(self).model_fields if (technique := getattr(self, name)) is not None}

    @property
    def words(self) -> str | None:
        """In the field's words, for tables."""
        return " + ".join(technique.words for technique in self.applied().values()) or None

    def facts(self) -> dict[str, Any]:
        """Their options."""
        return {name: technique.model_dump() for name, technique in self.applied().items()}


def techniques(names: Sequence[str], settings: Sequence[Overlay] = (), include: Sequence[Path] = ()) -> Techniques:
    """The techniques called `names`, or in files so named, laid one over another, then `settings`.

    Raises:
        ConfigError: one is not found, names an unknown key, or a value is wrong.
    """
    files = [held(read(file_of(KIND, name, include)), "technique") for name in names if name != NO_TECHNIQUE]
    overlays = [read(shipped(KIND) / f"{BASE}.yaml"), *files, *settings]
    every = validated(Techniques, fold(overlays), overlays)
    return Techniques.model_validate({name: technique for name, technique in every.applied().items() if technique.on})


def words(facts: str) -> str:
    """What `Techniques.facts`, as JSON, says in words."""
    return Techniques.model_validate_json(facts).words or ""


def technique_files(include: Sequence[Path] = ()) -> dict[str, Path]:
    """Every technique's file by its name."""
    return {name: path for name, path in found(KIND, include).items() if name != BASE}
