"""`lra ls` and `lra show`."""

from __future__ import annotations

import re
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lra_bench.cli import app, completion, options


class Kind(StrEnum):
    """What can be listed."""

    models = "models"
    tasks = "tasks"
    configs = "configs"
    techniques = "techniques"
    results = "results"


@app.command("ls")
def ls(
    kind: Annotated[Kind, typer.Argument(help="What to list.")] = Kind.models,
    results: options.Results = options.RESULTS,
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """List models, tasks, configs, techniques or results; --json has more about each.

    Example: lra ls tasks
    """
    from lra_bench.cli import screen

    include = tuple(include_path or ())
    listed = {
        Kind.models: lambda: [_model(name) for name in _models()],
        Kind.tasks: lambda: _tasks(include),
        Kind.configs: lambda: _configs(include),
        Kind.techniques: lambda: _techniques(include),
        Kind.results: lambda: _results(results),
    }[kind]()
    if json:
        screen.print_json(listed)
    elif kind is Kind.results:
        from lra_bench.records import store

        screen.out.print(screen.results(store.read_results(results), {}))
        for folder in store.open_runs(results):
            screen.out.print(f"begun, without a result: {folder.name}", highlight=False)
        for bundle, n in Counter(row["bundle"] for row in listed if row["bundle"]).items():
            screen.out.print(f"merged from a bundle ({bundle}): {n} results", highlight=False, markup=False)
    else:
        screen.out.print(screen.table([BRIEF[kind](row) for row in listed]))


def _models() -> tuple[str, ...]:
    from lra_bench import mixers

    return mixers.names()


def _model(name: str) -> dict[str, Any]:
    from lra_bench import mixers
    from lra_bench.cli import cards

    model_card = mixers.model_card(name)
    card = model_card.card
    return {"model": name, "family": card.family, "paper": f"arXiv:{card.paper}", "year": card.year,
            "time": cards.grown(card.time), "memory": cards.grown(card.memory),
            "causal": "yes" if card.can_be_causal else "no",
            "cross": "yes" if mixers.cross(model_card.path) else "no", "title": card.title}  # fmt: skip


def _brief_model(row: dict[str, Any]) -> dict[str, Any]:
    """Its causal form and its cross form in one column, which leaves room for the title."""
    there = [form for form in ("causal", "cross") if row[form] == "yes"]
    forms = "both" if len(there) == 2 else "".join(there)
    return {**{key: row[key] for key in ("model", "family", "time")}, "forms": forms, "title": row["title"]}


def _brief_task(row: dict[str, Any]) -> dict[str, Any]:
    """With what is asked for, in place of the number of classes and the metric."""
    from lra_bench.metrics import ACCURACY, named

    metric, classes = named(row["metric"]), row["classes"]
    of = f"{classes} classes" if classes and classes > 1 else ""
    answer = ", ".join(filter(None, (of, metric.title if metric is not ACCURACY else "")))
    told = {key: row[key] for key in ("task", "title")}
    return {**told, "L": row["length"], "answer": answer, "variants": row["variants"]}


def _brief_file(row: dict[str, Any]) -> dict[str, Any]:
    """With the first sentence of what its file says."""
    first = re.split(r"(?<=\.) (?=[A-Z])", row["says"])[0]
    return {key: first if key == "says" else value for key, value in row.items() if key != "file"}


BRIEF = {  # what of a thing stands in eighty columns; --json has all
    Kind.models: _brief_model,
    Kind.tasks: _brief_task,
    Kind.configs: _brief_file,
    Kind.techniques: _brief_file,
}


def _tasks(include: tuple[Path, ...]) -> list[dict[str, Any]]:
    from lra_bench.config import tasks

    return [_task(name, path, include) for name, path in tasks.found(include).items()]


def _task(name: str, path: Path, include: tuple[Path, ...]) -> dict[str, Any]:
    from lra_bench.config import tasks

    values = tasks.written(name, include)[0].values
    facts = {key: values.get(key) for key in ("title", "length", "classes", "metric", "source")}
    return {"task": name, **facts, "variants": ", ".join(tasks.variants(name, include)), "file": str(path)}


def _configs(include: tuple[Path, ...]) -> list[dict[str, Any]]:
    from lra_bench import config

    return _said("config", config.found("configs", include))


def _techniques(include: tuple[Path, ...]) -> list[dict[str, Any]]:
    from lra_bench import config

    return _said("technique", config.technique_files(include))


def _said(kind: str, found: dict[str, Path]) -> list[dict[str, Any]]:
    from lra_bench import config

    return [{kind: name, "says": config.first_comment(path), "file": str(path)} for name, path in found.items()]


def _results(results: Path) -> list[dict[str, Any]]:
    from lra_bench.records import store

    return [store.read_results(folder)[0].as_dict() | store.provenance(folder) for folder in store.folders(results)]


@app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(
            help="The name of a model, task (NAME or NAME@VARIANT), config or technique, or a path to its file.",
            autocompletion=completion.anything,
        ),
    ],
    include_path: options.Include = None,
    json: options.Json = False,
) -> None:
    """Show a model, task, config or technique; --json has every value.

    A task's variants and a config are shown by what they change.

    Example: lra show linformer
    """
    from lra_bench.cli import cards, screen

    include = tuple(include_path or ())
    shown = _shown(name, include)
    if json:
        screen.print_json(shown)
        return
    written = {"model": cards.model, "task": cards.task, "config": lambda _: cards.recipe(name, include)}
    for kind, values in shown.items():
        screen.out.print({**written, "technique": cards.technique}[kind](values))


def _shown(name: str, include: tuple[Path, ...]) -> dict[str, Any]:
    """What bears the name, by kind: most names belong to one."""
    from lra_bench import config, mixers
    from lra_bench.config import tasks
    from lra_bench.errors import ConfigError, nearest

    files = {"tasks": tasks.found(include), "configs": config.found("configs", include)}
    files["techniques"] = config.technique_files(include)
    task, variant = tasks.parted(name)
    path = Path(task)
    is_yaml = path.suffix in (".yaml", ".yml") and path.is_file()
    is_task = is_yaml and "source" in config.read(path).values
    shown: dict[str, Any] = {}
    if name in mixers.names() or path.suffix == ".py":
        shown["model"] = _model_card(mixers.model_card(name))
    if task in files["tasks"] or is_task:
        shown["task"] = _task_values(task, variant, include)
    if name in files["configs"] or (is_yaml and not is_task):
        shown["config"] = _recipe(name, include)
    if name in files["techniques"]:
        path = files["techniques"][name]
        shown["technique"] = {"name": name, "file": str(path), "says": config.first_comment(path)}
        shown["technique"] |= config.techniques([name], (), include).facts()
    if not shown:
        every = [*mixers.names(), *(known for kind in files.values() for known in kind)]
        raise ConfigError(f"'{name}': no model, task, config or technique; {nearest(name, every)}")
    return shown


def _task_values(name: str, variant: str | None, include: tuple[Path, ...]) -> dict[str, Any]:
    """A task with its variants, or one of them."""
    from lra_bench.config import tasks

    if variant is not None:
        return tasks.load(name, include, tasks.demanded(name, variant, include)).model_dump()
    variants = {v: tasks.load(name, include, v).model_dump() for v in tasks.variants(name, include)}
    return tasks.load(name, include).model_dump() | ({"variants": variants} if variants else {})


def _model_card(model_card: Any) -> dict[str, Any]:
    from dataclasses import asdict

    from lra_bench import mixers

    cross = mixers.cross(model_card.path)
    chosen = {k.name: {"type": k.type, "default": k.default, "meaning": k.meaning} for k in model_card.options}
    return {"name": model_card.name, "file": str(model_card.path), **asdict(model_card.card), "options": chosen,
            "cross": asdict(cross) if cross else None}  # fmt: skip


def _recipe(name: str, include: tuple[Path, ...]) -> dict[str, Any]:
    from lra_bench import config
    from lra_bench.config import tasks

    recipe = config.recipe(name, include)
    own = {task: recipe.resolve(task)[0].model_dump() for task in tasks.names(include)}
    return {"name": recipe.name, "file": str(recipe.path), "says": config.first_comment(recipe.path), "by task": own}
