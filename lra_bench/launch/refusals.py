"""Why a run cannot be: its task or its recipe asks for a form that its mixers, or its techniques, do not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lra_bench import data, mixers
from lra_bench.config import CROSS, Run
from lra_bench.errors import ConfigError
from lra_bench.metrics import METRICS


class Refusal(NamedTuple):
    """Why a run cannot be, and what to ask for instead."""

    reason: str
    advice: str = ""

    def __str__(self) -> str:
        return "; ".join(filter(None, self))


def refuse(run: Run) -> None:
    """Raises ConfigError: the run cannot be."""
    if why := refusal(run):
        raise ConfigError(str(why))


def refusal(run: Run) -> Refusal | None:
    """Why the run cannot be; None: the cards of its mixers say that it can."""
    return next(_reasons(run), None)


def _reasons(run: Run) -> Iterator[Refusal]:
    yield from _of_a_source(run) if run.task.crosses else _of_one_text(run)
    if run.recipe.training.length_buckets > 1 and (why := next(_of_padding(run), None)):
        yield Refusal(f"training.length_buckets: {why}", "1 pads every text to the task's length")


def _of_a_source(run: Run) -> Iterator[Refusal]:
    """The run's target is to read a source, and its mixers, its backbone or its techniques have no way to."""
    backbone, task = run.recipe.backbone, run.task
    if backbone.causal:
        yield Refusal(
            "backbone.causal: true, of an encoder-decoder", "it is causal where the task says target: growing"
        )
    if data.looks_ahead(task) and not task.growing:
        yield Refusal(f"task {task.name}: asks for the symbol that follows in its target", "target: growing")
    quantize = run.techniques.quantize
    if quantize and quantize.activations < 32 and run.metric.written:
        said = f"quantize.activations: {quantize.activations}; the ranges are those of a pass over a whole target"
        yield Refusal(f"{said}, and task {task.name} is scored by what is written", "32")
    yield from _of_crossing(run)
    for technique in _of_one_row_of_layers(run):
        yield Refusal(f"{technique}: not of an encoder-decoder, which task {task.name} asks for")


def _of_crossing(run: Run) -> Iterator[Refusal]:
    """A mixer has no form that reads a source for the task's target, or none of its own in the other layers."""
    task = run.task
    for path in run.files:
        if why := mixers.not_crossing(path, growing=task.growing):
            able = ", ".join(sorted(mixer.stem.replace("_", "-") for mixer in mixers.files_that_cross()))
            yield Refusal(f"task {task.name}: {why}", "" if mixers.cross(path) else f"these have: {able}")
    if task.growing and run.recipe.backbone.self_mixer == "own" and (why := mixers.not_causal(run.files)):
        advice = "--set backbone.self_mixer=full-attention takes its cross form alone"
        yield Refusal(f"task {task.name}: {why}", advice)


def _of_one_row_of_layers(run: Run) -> Iterator[str]:
    """The techniques that know no encoder-decoder."""
    applied = run.techniques
    yield from (name for name in ("multitask", "adapt", "pretrain") if getattr(applied, name))
    if (prune := applied.prune) and (prune.heads or prune.neurons):
        yield "prune.heads" if prune.heads else "prune.neurons"
    if (distill := applied.distill) and (distill.hidden or distill.attention):
        yield "distill.hidden" if distill.hidden else "distill.attention"


def _of_one_text(run: Run) -> Iterator[Refusal]:
    """The run's backbone is causal, and a mixer has no such form, or what is read out sees nothing; or it is not, and
    the task's answers stand in the text that it sees; or what it asks for is of tasks with a source."""
    backbone, task = run.recipe.backbone, run.task
    if backbone.self_mixer != "own":
        yield Refusal(f"backbone.self_mixer: {backbone.self_mixer} is of tasks with interaction: {CROSS} alone")
    if backbone.causal:
        if why := mixers.not_causal(run.files):
            yield Refusal(f"backbone.causal: {why}")
        if backbone.pool == "cls":
            yield Refusal("backbone.pool: cls stands before the text, of which it sees nothing here", "last or mean")
    elif data.looks_ahead(task):
        for one in run.mixer_specs:
            mixer = mixers.read(one.file)
            if not mixer.card.is_causal(one.options):
                said = f"task {task.name}: asks for the symbol that follows, which {mixer.name} sees"
                yield Refusal(said, "--set backbone.causal=true")


def _of_padding(run: Run) -> Iterator[str]:
    """Its texts cannot be padded to other lengths: its function of a text would change, or nothing is padded."""
    if len(run.tasks) > 1:
        yield "several tasks share a batch"
    if run.task.grid:
        yield "pictures have no padding"
    if METRICS[run.task.metric].everywhere:
        yield "an answer is asked for at each symbol"
    for one in (*run.mixer_specs, *(run.teacher.mixer_specs if run.teacher else ())):
        mixer = mixers.read(one.file)
        if mixer.card.padded_length != "":
            yield f"{mixer.name} changes with how far a text is padded: {mixer.card.padded_length or 'no claim'}"
