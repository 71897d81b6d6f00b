"""A run: one model on one task with one seed. What it depends on are runs too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lra_bench.config.schema import Count, Recipe, Scalar, Seed, Strict, TaskSpec, Tuned, but_for_before
from lra_bench.config.techniques import Technique, Techniques
from lra_bench.metrics import HITS, METRICS, Metric
from lra_bench.source_code import PACKAGE

AND = "+"  # between the names of the mixers of a model
OPTIONAL = ("match", "techniques", "start", "teacher", "beside", "then", "tuned", "reach", "config_hash", "lr_grid")


class Match(Strict):
    """A backbone whose `mlp` was solved for, so that the model is as large, or its step as expensive,
    as full attention's."""

    what: Literal["params", "flops"]
    mlp: Count  # of the backbone that full attention has


class MixerSpec(Strict):
    """A mixer and its options."""

    model: str
    mixer: str  # the mixer's file, as `mixers.place` says it
    mixer_hash: str  # of its code, without comments, docstrings and card
    options: dict[str, Scalar]

    @property
    def file(self) -> Path:
        """The mixer's file; of one that ships, which no absolute path names, in the package as it lies here."""
        path = Path(self.mixer)
        return PACKAGE.parent / path if path.parent == Path(PACKAGE.name, "mixers") else path


class Run(Strict):
    """One model on one task with one seed, fully resolved: written as run.json before anything runs."""

    model: str  # of layers of several mixers, their names with + between
    family: str
    mixer: str  # the file of the mixer, that of the first layer
    mixer_hash: str
    options: dict[str, Scalar]
    task: TaskSpec
    config_name: str
    recipe: Recipe
    seed: Seed
    limit: Count | None  # at most so many examples of each split
    changed: str | None  # the --set and --length that were given
    # what a run has none of is not in its id
    match: Match | None = None
    techniques: Techniques = Techniques()
    start: Run | None = None  # the run whose chosen parameters it begins with; None: they are drawn
    teacher: Run | None = None  # the run whose model it learns from
    beside: list[TaskSpec] | None = None  # the tasks that its backbone is trained on, or was, beside its own
    then: list[MixerSpec] | None = None  # the mixers of the layers after the first, in turn; None: one for all
    tuned: Tuned | None = None  # what its recipe's settings cost to find; decides no number, and is in no id
    config_hash: str | None = None  # of what the config says for the task, whatever the model and technique; in no id
    lr_grid: list[float] | None = None  # the learning rates that its sweep tries, its own among them; in no id
    reach: Count | None = None  # places that the first can learn of through all layers; None: all of them; in no id

    @property
    def id(self) -> str:
        """Ten hexadecimal digits over all that decides the numbers and is asked for, however it was said.

        Not over the package's code, which stands in the result beside it.
        """
        facts = self.model_dump(exclude={"mixer", "family", "changed", "config_name", "recipe", "task", *OPTIONAL})
        facts |= {"task": _facts_of(self.task), "recipe": self.recipe.facts()}
        facts |= {key: said for key, said in self._optional() if said is not None}
        return digest(facts)[:10]

    def _optional(self) -> Iterator[tuple[str, Any]]:
        yield "match", self.match and self.match.model_dump()
        yield "techniques", self.techniques.facts() or None
        yield "start", self.start and self.start.id
        yield "teacher", self.teacher and self.teacher.id
        yield "beside", self.beside and [_facts_of(task) for task in self.beside]
        yield "then", self.then and [mixer_spec.model_dump(exclude={"mixer"}) for mixer_spec in self.then]

    @property
    def mixer_specs(self) -> tuple[MixerSpec, ...]:
        """The mixers of the layers, in turn: layer i has number i mod n."""
        name = self.model.partition(AND)[0] if self.then else self.model
        first = MixerSpec(model=name, mixer=self.mixer, mixer_hash=self.mixer_hash, options=self.options)
        return (first, *(self.then or ()))

    @property
    def files(self) -> list[Path]:
        """Of the mixers of the layers, in turn."""
        return [one.file for one in self.mixer_specs]

    def with_mixers(self, each: Sequence[MixerSpec]) -> Run:
        """The run with other mixers in its layers."""
        return self.model_copy(update=of_mixers(each))

    @property
    def code(self) -> str:
        """The code of its mixers, in short."""
        return AND.join(one.mixer_hash[:10] for one in self.mixer_specs)

    @property
    def turned(self) -> dict[str, Scalar]:
        """Every option; where the layers have several mixers, with the mixer's place in turn before its name, from
        1."""
        if not self.then:
            return self.options
        each = enumerate(self.mixer_specs, 1)
        return {f"{place}.{option}": value for place, one in each for option, value in one.options.items()}

    @property
    def without_content(self) -> Run:
        """The run, and those that it depends on, whatever the files hold that they are trained on."""
        return self.throughout(_without_contents)

    def throughout(self, change: Callable[[Run], Mapping[str, Any]]) -> Run:
        """The run, and those that it depends on, each with the fields that `change` says of it."""
        needed = {"start": self.start, "teacher": self.teacher}
        changed = {name: run and run.throughout(change) for name, run in needed.items()}
        return self.model_copy(update={**changed, **change(self)})

    @property
    def needs(self) -> tuple[Run, ...]:
        """The runs that are to be trained before it, those that they need first."""
        direct = [run for run in (self.start, self.teacher) if run is not None]
        every = [needed for run in direct for needed in (*run.needs, run)]
        return tuple({run.id: run for run in every}.values())

    @property
    def trained_first(self) -> Run:
        """Where its model was trained on its task, before a technique was applied to what was trained."""
        return self.start.trained_first if self.start is not None and self.task in self.start.tasks else self

    def with_technique(self, name: str, technique: Technique) -> Run:
        """The run with one technique more."""
        return self.model_copy(update={"techniques": self.techniques.model_copy(update={name: technique})})

    def applies(self, name: str) -> bool:
        """Is the technique applied in this run, not in one that it depends on?"""
        technique = getattr(self.techniques, name)
        return technique is not None and (self.start is None or getattr(self.start.techniques, name) != technique)

    @property
    def tasks(self) -> tuple[TaskSpec, ...]:
        """Those that its backbone is for, its own first."""
        return (self.task, *(self.beside or ()))

    @property
    def every_task(self) -> tuple[TaskSpec, ...]:
        """`tasks`, those whose inputs they are made of, and those of the runs that it depends on."""
        ours = [task.of or task for task in self.tasks]
        return (*ours, *(task for needed in self.needs for task in needed.every_task))

    @property
    def trains_on(self) -> tuple[Run, ...]:
        """The run on each task that it is trained on: itself, or, of several at once, one for each."""
        if not self.applies("multitask"):
            return (self,)
        return tuple(self.model_copy(update={"task": task}) for task in self.tasks)

    @property
    def task_name(self) -> str:
        """Of all that it is trained on."""
        return "+".join(one.task.name for one in self.trains_on)

    @property
    def metric(self) -> Metric:
        """Of val and test."""
        return METRICS[self.task.metric] if len(self.trains_on) == 1 else HITS

    @property
    def folder(self) -> str:
        """The name of the run's folder in the results."""
        return f"{self.model}-{self.task_name}-{self.config_name}-s{self.seed}-{self.id}"

    @property
    def narrow(self) -> str | None:
        """How much of a text its cls token sees, where that is a part of it; None where it reads nothing out, or all.

        A text as long as a segment counts as seen: the cls token pushes its last place out.
        """
        backbone, task = self.recipe.backbone, self.task
        places = task.length // backbone.patch**2 if task.grid else -(-task.length // backbone.patch)
        reads = backbone.pool == "cls" and not task.everywhere
        return f"cls sees {self.reach - 1} of {places}" if reads and self.reach and self.reach < places else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line on each thing that is strange about it."""
        said = self.narrow and f"backbone.pool: {self.narrow} tokens: nothing flows back to it; mean reads all of them"
        return tuple(line for line in (self.recipe.warning, said) if line)

    @property
    def tag(self) -> str | None:
        """What must stand beside the run's numbers in every table, so that nobody takes them for full ones."""
        matched = f"match {self.match.what}" if self.match else None
        words = [self.recipe.tag, f"limit {self.limit}" if self.limit else None, matched, self.narrow]
        return ", ".join(w for w in words if w) or None


def of_mixers(each: Sequence[MixerSpec]) -> dict[str, Any]:
    """What a run says of the mixers of its layers, in turn."""
    first, *then = each
    return {
        **first.model_dump(),
        "model": AND.join(one.model for one in each),
        "then": then or None,
    }


def _without_contents(run: Run) -> dict[str, Any]:
    """Of a run's fields, those of tasks."""
    beside = run.beside and [_without_content(task) for task in run.beside]
    return {"task": _without_content(run.task), "beside": beside}


def _without_content(task: TaskSpec) -> TaskSpec:
    return task.model_copy(update={"content": None, "of": task.of and _without_content(task.of)})


def _facts_of(task: TaskSpec) -> dict[str, Any]:
    """What decides its examples: files are in it by their content, and a source of a user's own by its code."""
    facts = task.model_dump(exclude={"of", "title", "paper", "folder", "content"})
    facts |= {"source": Path(task.source).name, "args": but_for_before("args", task.args)}
    facts |= {"content": task.content} if task.content else {}
    facts = but_for_before("task", facts)
    return facts if task.of is None else facts | {"of": _facts_of(task.of)}


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
