"""A page a task: what is asked, its variants, three examples, and its YAML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from generate.writing import Folder, arxiv, block, code, facts, plain, table, toctree, with_code
from lra_bench import config, data
from lra_bench.config import TaskSpec, tasks
from lra_bench.data import examples, pictures
from lra_bench.metrics import named
from lra_bench.shapes import SPLITS

INDEX = """\
# Tasks

{count} tasks. [Tasks](../../tasks.md) says how their data are made, checked and read, and
[A task of your own](../../own-task.md) how to add one. L is the length in tokens that an input is padded to.
"""
SHOWN = 3
SMALL = "quick"  # the variant whose examples are shown, where a task has it: they are short
LONG = 600  # characters of an example that are shown


def write(folder: Folder) -> None:
    """Write the page of each task, and the one that lists them."""
    names = tasks.names()
    folder.put("tasks/index", _index(names))
    for name in names:
        folder.put(f"tasks/{name}", "\n".join(_page(folder, name)))


def _index(names: tuple[str, ...]) -> str:
    specs = [tasks.load(name) for name in names]
    rows = [
        (f"[`{spec.name}`]({spec.name}.myst)", plain(spec.title), _length(spec), f"{_answer(spec)}", data_of(spec))
        for spec in specs
    ]
    heads = ["task", "title", "L", "answer", "data"]
    return "\n".join([INDEX.format(count=len(names)), table(heads, rows), toctree(names)])


def _length(spec: TaskSpec) -> str:
    return f"{'2 x ' if spec.streams == 2 else ''}{spec.length:,}"


def _answer(spec: TaskSpec) -> str:
    metric = named(spec.metric)
    return f"{spec.classes} classes" if spec.metric == "accuracy" else metric.title


def generated(spec: TaskSpec) -> bool:
    """Are the examples made from a seed, by nobody else's data?"""
    return not data.of(spec).PUBLISHED


def data_of(spec: TaskSpec) -> str:
    """Where the examples come from."""
    return "generated" if generated(spec) else "fetched, or read from a folder"


def _page(folder: Folder, name: str) -> Iterator[str]:
    spec, path = tasks.load(name), tasks.found()[name]
    yield f"# {name}\n"
    yield f"{with_code(config.first_comment(path))}\n"
    yield facts(_facts(spec))
    yield "## Variants\n"
    yield _variants(name, spec)
    yield "## Examples\n"
    yield from _examples(folder, name, spec)
    yield "## Its file\n"
    yield block(path.read_text(encoding="utf-8"), "yaml")


def _facts(spec: TaskSpec) -> dict[str, str]:
    metric = named(spec.metric)
    return {
        "title": plain(spec.title),
        "paper": arxiv(spec.paper),
        "length L": _length(spec) + (f" ({spec.grid[0]} x {spec.grid[1]} pixels)" if spec.grid else ""),
        "answer": _answer(spec),
        "metric": metric.title,
        "examples": ", ".join(f"{split} {spec.splits[split]:,}" for split in SPLITS),
        "data": f"{data_of(spec)} (source {code(spec.source)})",
        "version": str(spec.version),
    }


def _variants(name: str, spec: TaskSpec) -> str:
    rows = [row for variant in tasks.variants(name) for row in _changes(name, variant, dict(_flat(spec)))]
    return table(["variant", "key", "value", "without it"], rows) if rows else "It has none.\n"


def _changes(name: str, variant: str, own: Mapping[str, Any]) -> Sequence[tuple[str, ...]]:
    """A row for each key that the variant changes; one without a key, if it names what the task is without it."""
    said, each = code(f"{name}@{variant}"), _flat(tasks.load(name, variant=variant))
    changed = [(said, code(key), code(value), code(own.get(key))) for key, value in each if own.get(key) != value]
    return changed or [(said, "none", "", "")]


def _flat(spec: TaskSpec) -> Iterator[tuple[str, Any]]:
    return config.flat(spec.model_dump(exclude={"variant"}))


def _examples(folder: Folder, name: str, spec: TaskSpec) -> Iterator[str]:
    if not generated(spec):
        yield (
            "They are not shown here: the data have to be fetched, or read from a folder of yours. "
            f"`lra data show {name}` shows them.\n"
        )
        return
    variant = SMALL if SMALL in tasks.variants(name) else None
    shown = f"{name}@{variant}" if variant else name
    yield f"Examples of `{shown}`, as `lra data show` prints them:\n"
    small = tasks.load(name, variant=variant).model_copy(update={"splits": _few()})
    for index, example in enumerate(examples.shown(small, SPLITS[0], SHOWN, data.silent)):
        yield f"**Label {code(example.label)}**, {' + '.join(f'{n:,}' for n in example.lengths)} tokens\n"
        yield from _drawn(folder, f"tasks/{name}-{index}", example) if example.pictures else _texts(example)


def _few() -> Mapping[str, int]:
    return {split: SHOWN if split == SPLITS[0] else 1 for split in SPLITS}


def _texts(example: examples.Example) -> Iterator[str]:
    for text in example.streams:
        yield block(text if len(text) <= LONG else f"{text[:LONG]} ...")


def _drawn(folder: Folder, name: str, example: examples.Example) -> Iterator[str]:
    for number, picture in enumerate(example.pictures):
        place = f"{name}-{number}.png"
        pictures.write(picture, folder.place(place))
        yield f"```{{image}} {place.split('/')[1]}\n:width: 256px\n:alt: an example\n:class: pixels\n```\n"
