"""What a user sees: tables, cards, JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.color import Color
from rich.console import Console, Group
from rich.style import Style
from rich.table import Table
from rich.text import Text

from lra_bench.cli.responsive_table import ResponsiveTable
from lra_bench.cli.streams import shown
from lra_bench.metrics import ACCURACY, named
from lra_bench.records.schema import SCORED
from lra_bench.report.summary import load
from lra_bench.report.summary.digits import three_digits

if TYPE_CHECKING:
    import numpy as np

    from lra_bench.records.schema import Result

SHADES = " .:-=+*#%@"
WIDE = 120  # columns, where no terminal says otherwise


class Screen(Console):
    """A console that takes what it prints as it is: brackets are no markup, and nothing in it is obeyed."""

    def __init__(self, **how: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **how)

    def render_str(self, text: str, *said: Any, **how: Any) -> Text:
        """The text, with what a terminal would obey shown."""
        return super().render_str(shown(text), *said, **how)


out = Screen(width=None if sys.stdout.isatty() else WIDE)
err = Screen(stderr=True)


OTHER_CODE = "(other code)"


def warn(lines: Iterable[str]) -> None:
    """Each line once, on stderr."""
    for line in dict.fromkeys(lines):
        err.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def few(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def print_json(value: Any) -> None:
    """As JSON on stdout, nothing else."""
    from lra_bench.records.store.files import as_json

    sys.stdout.write(f"{as_json(value)}\n")


def table(rows: Sequence[Mapping[Any, Any]]) -> ResponsiveTable:
    """Rows with the same keys as a table; numbers stand right, missing is empty."""
    return ResponsiveTable(rows)


@contextmanager
def to(path: Path | None) -> Iterator[Console]:
    """The screen, or a file that takes what would stand on it."""
    if path is None:
        yield out
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        yield Screen(file=file, width=200)


def styled(said: str, style: str) -> Text:
    """The text as it is, in a style of ours."""
    return Text(shown(said), style=style)


def percent(share: float | None) -> str | None:
    """A share as a percentage with one decimal."""
    return None if share is None else f"{100 * share:.1f}"


def score(value: float | None, metric: str) -> str | None:
    """A share as a percentage, any other score with four digits."""
    return percent(value) if value is None or named(metric).share else f"{value:.4g}"


def mebibytes(count: int | None) -> str | None:
    """Bytes as MiB."""
    return None if count is None else f"{count / 2**20:,.0f}"


def titled(title: str, rows: Sequence[Mapping[Any, Any]], notes: Sequence[str] = ()) -> Group:
    """A table between its title and its notes."""
    return Group(styled(title, "bold"), table(rows), *(styled(f"  {note}", "dim") for note in notes), "")


def results(results: Sequence[Result], other_code: Mapping[str, str]) -> Group:
    """What came out: accuracy, speed and memory; a table for each task, recipe and seed, a line a model.

    `other_code` says, by the runs' ids, which were made by code that is not what stands here, and by which.
    """
    by_title: dict[str, list[Result]] = {}
    for result in results:
        by_title.setdefault(_title(result), []).append(result)
    return Group(
        *(
            titled(title, _aligned([_summary(one, one.run in other_code) for one in group]), _notes(group, other_code))
            for title, group in by_title.items()
        )
    )


def _notes(results: Sequence[Result], other_code: Mapping[str, str]) -> list[str]:
    other = [result for result in results if result.run in other_code]
    notes = [f"{result.model} {OTHER_CODE}: made by {other_code[result.run]}" for result in other]
    return notes + ([load.NOTE] if any(load.tag(result.other_load) for result in results) else [])


def _title(result: Result) -> str:
    tag = f" [{result.tag}]" if result.tag and result.tag != result.config else ""
    changed = f" with {result.changed}" if result.changed else ""
    metric = named(result.metric)
    scored = "" if metric is ACCURACY else f", {metric.title}"
    sizes = f"L = {result.length:,}, batch {result.batch}, seed {result.seed}"
    return f"{result.task}, {result.config}{tag}, {sizes}{scored}{changed}"


def _summary(result: Result, other: bool) -> dict[str, Any]:
    from lra_bench.config import technique_words

    unit = " %" if named(result.metric).share else ""
    test, spread = score(result.test_score, result.metric), None
    if result.step_ms_p50 is not None:
        low, mid, high = (three_digits(ms) for ms in (result.step_ms_p10, result.step_ms_p50, result.step_ms_p90))
        fallback = f" {result.fallback}" if result.fallback else ""
        spread = f"{mid} ({low}-{high}){fallback}{load.tag(result.other_load)}"
    return {
        "model": " + ".join([result.model, *([technique_words(result.techniques)] if result.techniques else [])])
        + (f" {OTHER_CODE}" if other else ""),
        "steps": f"{result.stopped_step or result.steps:,}" if result.status in SCORED else result.status,
        f"val{unit}": score(result.val_score, result.metric),
        f"test{unit}": f"{test} chance" if result.status == "at-chance" else test,
        f"chance{unit}": score(result.chance, result.metric),
        **_longer(result, unit),
        **_of_texts(result),
        "ms/step (p10-p90)": spread,
        "ex/s": three_digits(result.examples_per_s),
        "compiled MiB": mebibytes(result.compiled_bytes),
        "peak MiB": mebibytes(result.peak_bytes),
    }


def _aligned(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lines with the keys of all of them."""
    keys = dict.fromkeys(key for line in sorted(lines, key=len, reverse=True) for key in line)
    return [{key: line.get(key) for key in keys} for line in lines]


def _longer(row: Result, unit: str) -> dict[str, Any]:
    """The scores at other lengths, where the task asks for some."""
    if row.test_at is None:
        return {}
    from lra_bench.report.summary import further

    scores = further.LONGER.heads(row.as_dict(), "test")
    return {f"{head}{unit}": further.text(value, row.metric) for head, value in scores.items()}


def _of_texts(result: Result) -> dict[str, Any]:
    """The scores of all texts together, where the task's are written."""
    if result.exact_match is None:
        return {}
    from lra_bench.report.summary import of_texts

    return dict(of_texts.heads(result.as_dict()))


def states_table(states: Sequence[Mapping[str, Any]]) -> Group:
    """A line a run, and how many are done."""
    grid = ("lr",) if any(state["lr"] for state in states) else ()
    keys = ("config", "length", *grid, "seed")
    lines = [
        what_runs(state, states) | {key: state[key] for key in keys} | {"state": _state(state)} for state in states
    ]
    left = sum(state["state"] != "done" for state in states)
    said = f"{len(states)} run{'s' if len(states) > 1 else ''}, {left} of them to be run"
    return titled("what would run", lines, [said])


def what_runs(state: Mapping[str, Any], states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A run's model and task, with the variant of the task, if any; and its techniques, where a run has some."""
    task = f"{state['task']}@{state['variant']}" if state["variant"] else state["task"]
    applied = {"techniques": state["techniques"]} if any(one["techniques"] for one in states) else {}
    return {"model": state["model"], "task": task, **applied}


def _state(state: Mapping[str, Any]) -> str:
    return f"{state['state']}, by {state['other_code']}" if state["other_code"] else state["state"]


def picture(levels: np.ndarray) -> Text:
    """A picture, uint8 [rows, columns] or [rows, columns, 3], two rows a line: in colors, or in shades without."""
    import numpy as np

    rgb = levels if levels.ndim == 3 else np.repeat(levels[..., None], 3, axis=2)
    pairs = np.pad(rgb, ((0, len(rgb) % 2), (0, 0), (0, 0))).reshape(-1, 2, *rgb.shape[1:])
    if not out.color_system:
        shades = pairs.mean((1, 3)).astype(int) * len(SHADES) // 256
        return Text("\n".join("".join(SHADES[shade] for shade in line) for line in shades))
    lines = Text()
    for above, below in pairs.tolist():
        for upper, lower in zip(above, below, strict=True):
            lines.append("▀", Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))
        lines.append("\n")
    return lines


def supply(facts: Sequence[Mapping[str, Any]]) -> Group:
    """Examples a second that are made, cut into batches and consumed, a line a task and model."""
    lines = [
        {
            "task": f["task"] + (f"@{f['variant']}" if f["variant"] else ""),
            "L": f["length"],
            "batch": f["batch"],
            "made ex/s": three_digits(f.get("made_per_s")),
            "input ex/s": three_digits(_per_second(f, "input_ms_p50")),
            "model": f["model"],
            "step ex/s": three_digits(_per_second(f, "step_ms_p50")),
            "input to step": "failed" if f["error"] else f"{f['step_ms_p50'] / f['input_ms_p50']:.0f}x",
        }
        for f in facts
    ]
    notes = ["made: by all cores, once, then kept; input: batches from the cache on the devices, by one thread"]
    return titled("does the input keep up?", lines, notes)


def _per_second(fact: Mapping[str, Any], column: str) -> float | None:
    return fact["batch"] / fact[column] * 1e3 if fact.get(column) else None


def card(title: str, values: Mapping[str, Any]) -> Table:
    """One thing's values, a line a key; nested ones below their key."""
    from lra_bench.config import flat

    built = Table(title, "", box=box.SIMPLE_HEAD, pad_edge=False)
    built.columns[0].no_wrap, built.columns[1].overflow = True, "fold"
    for key, value in flat(values):
        built.add_row(key, "" if value is None else str(value))
    return built
