"""What a run under techniques depends on: what comes before its training, or after another's, is a run of its own."""

from __future__ import annotations

from collections.abc import Callable

from lra_bench import data, mixers
from lra_bench.config import Multitask, Run, Technique, Techniques
from lra_bench.errors import ConfigError
from lra_bench.metrics import BITS, METRICS

AFTERWARDS = ("continued", "prune", "quantize")  # techniques that are applied to what is trained
HELD_OUT = 20  # of so many texts to pretrain on, one is kept to choose by, and one to test

Elsewhere = Callable[[str], Run]  # by the name of a model, or of a task


def staged(run: Run, techniques: Techniques, teacher: Elsewhere, on_task: Elsewhere) -> Run:
    """The run with the techniques applied, the last of a chain: pretrained, trained, pruned, quantized.

    `run` is as it is without. `teacher` gives the run of another model, `on_task` that of another task.

    Raises:
        ConfigError: a technique names what there is not, or what is no other.
    """
    trained = run.model_copy(update={"techniques": techniques.model_copy(update=dict.fromkeys(AFTERWARDS))})
    if techniques.distill:
        trained = taught(trained, teacher(str(techniques.distill.teacher)))
    if techniques.pretrain:
        trained = trained.model_copy(update={"start": pretrained(run, techniques)})
    if techniques.adapt:
        start = on_task(_other(run, techniques.adapt.start))
        technique = techniques.adapt.model_copy(update={"start": [start.task.name]})
        trained = trained.with_technique("adapt", technique).model_copy(update={"start": start})
    if techniques.multitask:
        trained = jointly(trained, techniques.multitask, on_task)
    for name in AFTERWARDS:
        if technique := getattr(techniques, name):
            trained = after(trained, name, technique, technique.steps)
    return trained


def after(run: Run, name: str, technique: Technique, steps: int) -> Run:
    """The run that begins with what `run` has learned, applies one technique more, and trains so many steps.

    Their schedule is that of its first training, in proportion: as high a peak, after as large a share of the steps.
    One whose sparsity rises as it trains is tested as it is at the end: on the way it is another model.

    Raises:
        ConfigError: heads or neurons are to be taken out of layers of several mixers, whose arrays are not one.
    """
    cut = next((part for part in ("heads", "neurons") if name == "prune" and getattr(technique, part)), None)
    if cut and run.then:
        raise ConfigError(
            f"prune.{cut}: none is taken out where layers have several mixers; prune.sparsity is for them"
        )
    select = "last" if name == "prune" else run.recipe.training.select
    recipe = run.trained_first.recipe.over(steps)
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"select": select})})
    return run.with_technique(name, technique).model_copy(update={"start": run, "recipe": recipe})


def taught(run: Run, teacher: Run) -> Run:
    """The run that learns from the teacher's model.

    Raises:
        ConfigError: the teacher answers another task.
    """
    if teacher.task != run.task:
        raise ConfigError(
            f"distill.teacher: {teacher.folder} is of another task than {run.task.name} as it is asked here"
        )
    return run.model_copy(update={"teacher": teacher})


def jointly(run: Run, technique: Multitask, on_task: Elsewhere) -> Run:
    """The run that has, of a backbone trained on its task and on those of the technique, its task's part.

    The backbone, the mixer's options and the training are as they are on the first task, for all of them.

    Raises:
        ConfigError: a task's examples are no hits or misses, whose shares alone have a mean over tasks.
    """
    named = {one.task.name: one for one in map(on_task, technique.tasks)} | {run.task.name: run}
    for name, one in named.items():
        if not METRICS[one.task.metric].binary:
            raise ConfigError(
                f"multitask.tasks: {name}: {one.task.metric} is no share, and has no mean with other tasks'"
            )
    first = next(iter(named.values()))
    applied = run.techniques.model_copy(update={"multitask": technique.model_copy(update={"tasks": list(named)})})
    _, *beside = (one.task for one in named.values())
    joint = first.model_copy(update={"techniques": applied, "beside": beside})
    others = [one.task for name, one in named.items() if name != run.task.name]
    training = joint.recipe.training.model_copy(update={"steps": 0})
    recipe = joint.recipe.model_copy(update={"training": training})
    part = {"task": run.task, "beside": others, "start": joint, "recipe": recipe, "config_hash": run.config_hash}
    return joint.model_copy(update=part)


def pretrained(run: Run, techniques: Techniques) -> Run:
    """The run that guesses symbols of the task's own training inputs, of the same backbone.

    Raises:
        ConfigError: the next symbol is to be guessed by a mixer that sees it.
    """
    how = techniques.pretrain
    assert how is not None
    if how.objective == "causal" and not all(
        mixers.read(m.file).card.is_causal(m.options, run.recipe.backbone.causal) for m in run.mixer_specs
    ):
        raise ConfigError(f"pretrain.objective: causal: {run.model} sees the symbols that follow; masked is for it")
    texts = run.task.splits["train"] * run.task.streams
    held = max(1, min(run.task.splits["val"], texts // HELD_OUT))
    task = run.task.model_copy(
        update={
            "name": f"{run.task.name}~{how.objective}",
            "splits": {"train": texts - 2 * held, "val": held, "test": held},
            "folder": None,
            "source": "denoising",
            "args": {"objective": how.objective, "rate": how.rate},
            "metric": BITS.name,
            "classes": len(data.vocabulary(run.task)) - 1,
            "streams": 1,
            "bottleneck": False,
            "test_lengths": [],
            "of": run.task,
        }
    )
    recipe = run.recipe.over(how.steps)
    kept = Techniques(precision=techniques.precision, sharing=techniques.sharing)
    return run.model_copy(update={"task": task, "recipe": recipe, "techniques": kept})


def _other(run: Run, tasks: list[str]) -> str:
    """The first task that is not the run's own."""
    found = next((task for task in tasks if task.partition("@")[0] != run.task.name), None)
    if found is None:
        raise ConfigError(f"adapt.start: {', '.join(tasks)}: names no task but {run.task.name} itself")
    return found
