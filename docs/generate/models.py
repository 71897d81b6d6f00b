"""A page a model: its card, its options, what it has scored, and how its step grows with length."""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from generate.results import Kept
from generate.writing import Folder, arxiv, code, docstring, facts, plain, table, toctree, unbroken, with_code
from lra_bench import mixers
from lra_bench.cli import cards
from lra_bench.mixers.card import Family
from lra_bench.mixers.cross import card as cross_card
from lra_bench.report import charts, scaling, scaling_fits

INDEX = """\
# Models by family

{count} models, in the families of [Tay et al.'s survey](https://arxiv.org/abs/2009.06732). A model is the shared
backbone with one token mixer; [Models](../../models.md) says how to select, combine and extend them. Time and memory
are as powers of the length L, with the options held fixed; L log L counts as L. Four columns are the patterns of
[CAB](https://arxiv.org/abs/2210.07661): *self* sees tokens before and after, [causal](../../causal.md) self none after;
[cross](../../cross.md) reads a source from each place of a target, causal cross from one that sees none after it.
Models that decode write a text token by token from a state.
"""
SURVEY = Path(__file__).parent / "survey.csv"
TABLE_1 = """\
# Models of the survey

Table 1 of [Tay et al.'s survey](https://arxiv.org/abs/2009.06732), with what is here of it. *Decode* is the survey's
column: can the model write a text token by token? The last column says so of ours: {decoding} of the {decode} that the
survey says decode have a model here that does. The page of each other model here says why it has no causal form.
"""
OF_SURVEY = ("model", "published", "complexity", "class", "decode", "here", "decodes here")
PATTERNS = ("self", "causal self", "cross", "causal cross")
HEADS = ("model", "title", "paper", "year", "time", "memory", *PATTERNS, "decodes")
WHAT = ("Score, %", "Training step, ms", "Memory, MiB")


def write(folder: Folder, kept: Kept) -> None:
    """Write the page of each model, and the one that lists them."""
    model_cards = [mixers.model_card(name) for name in mixers.names()]
    folder.put("models/index", _index(model_cards))
    folder.put("models/survey", _of_survey({model_card.name: model_card for model_card in model_cards}))
    for model_card in model_cards:
        folder.put(f"models/{model_card.name}", "\n".join(_page(folder, model_card, kept)))


def _index(model_cards: Sequence[mixers.ModelCard]) -> str:
    parts = [INDEX.format(count=len(model_cards))]
    for family in get_args(Family):
        own = [model_card for model_card in model_cards if model_card.card.family == family]
        if own:
            parts += [f"## {family}", "", table(HEADS, map(_line, own))]
    return "\n".join([*parts, toctree(["survey", *(model_card.name for model_card in model_cards)])])


def _of_survey(ours: Mapping[str, mixers.ModelCard]) -> str:
    """The survey's models, a line each, and what is here of them."""
    with SURVEY.open(encoding="utf-8") as lines:
        rows = [(row, [ours[name] for name in filter(None, row["ours"].split(";"))]) for row in csv.DictReader(lines)]
    decode = [here for row, here in rows if row["decode"] == "yes"]
    said = TABLE_1.format(decode=len(decode), decoding=sum(any(map(decodes, here)) for here in decode))
    cells = [
        [
            plain(row["model"]), plain(row["citation"]), code(row["complexity"]), row["class"], row["decode"],
            ", ".join(f"[`{one.name}`]({one.name}.myst)" for one in here),
            ", ".join(dict.fromkeys("yes" if decodes(one) else "no" for one in here)),
        ]
        for row, here in rows
    ]  # fmt: skip
    return "\n".join([said, table(OF_SURVEY, cells)])


def decodes(model_card: mixers.ModelCard) -> bool:
    """Does the model write a text token by token?"""
    return model_card.card.can_be_causal and mixers.load(model_card.path).Mixer.decodes()


def _line(model_card: mixers.ModelCard) -> list[str]:
    name, card = model_card.name, model_card.card
    growths = [power(exponent) for exponent in (card.time, card.memory)]
    forms = ["yes" if form else "no" for form in (*patterns(model_card), decodes(model_card))]
    return [f"[`{name}`]({name}.myst)", plain(card.title), arxiv(card.paper), str(card.year), *growths, *forms]


def patterns(model_card: mixers.ModelCard) -> tuple[bool, bool, bool, bool]:
    """Which of `PATTERNS` the model has."""
    card, cross = model_card.card, mixers.cross(model_card.path)
    grows = cross is not None and cross.growing == cross_card.YES
    return not card.is_causal(mixers.turned(model_card, {})), card.can_be_causal, cross is not None, grows


def power(exponent: float | None) -> str:
    """A power of L, as HTML has it."""
    if exponent is None:
        return "no claim"
    return "L" if exponent == 1 else f"L<sup>{exponent:g}</sup>"


def _page(folder: Folder, model_card: mixers.ModelCard, kept: Kept) -> Iterator[str]:
    yield f"# {model_card.name}\n"
    yield f"{plain(model_card.card.title)}. Select it with `-m {model_card.name}`.\n"
    yield facts(_card(model_card, kept))
    yield "## Equation\n"
    yield docstring(_docstring(model_card))
    yield "## Options\n"
    yield from _options(model_card)
    yield "## Kept results\n"
    yield from _results(model_card.name, kept)
    yield "## Training step over length\n"
    for file, measured in kept.speed.items():
        yield from _growth(folder, model_card.name, file, measured)


def _docstring(model_card: mixers.ModelCard) -> str:
    return ast.get_docstring(ast.parse(model_card.path.read_text(encoding="utf-8"))) or ""


def _card(model_card: mixers.ModelCard, kept: Kept) -> dict[str, str]:
    card, cross = model_card.card, mixers.cross(model_card.path)
    return {
        "family": card.family,
        "paper": f"{arxiv(card.paper)} ({card.year}), {plain(card.equation)}",
        "time": f"{power(card.time)}, with its options held fixed",
        "memory": f"{power(card.memory)}, likewise",
        "equals full attention": with_code(_exact(card)),
        "differs from the paper": with_code(card.differs) or "nothing is named",
        "fastest public form": with_code(card.public),
        "causal": cards.LABELS["causal"](card.causal) if card.causal else "no: a token sees those after it too",
        "causal form": with_code(card.causal_form) or "nothing is said",
        "which grows as": cards.LABELS["causal_growth"](card.causal_growth),
        "cross": with_code(cards.crossing(None if cross is None else asdict(cross))),
        "segments": cards.LABELS["segment"](code(card.segment)) if card.segment else "",
        "changes with how far a text is padded": card.padded_length or "nothing",
        "control": with_code(card.control),
        "another name of": _alias(model_card),
        "has run on": "; ".join(kept.devices.get(model_card.name, [])) or "nothing that is kept here",
        "file": code(f"lra_bench/mixers/{model_card.path.name}"),
    }


def _exact(card: Any) -> str:
    without = f"; the condition is without {card.exact_without}" if card.exact_without else ""
    padded = "" if card.exact_padded else "; not for texts with padding"
    return f"when {card.exact_when}{without}{padded}" if card.exact_when else "under no setting"


def _alias(model_card: mixers.ModelCard) -> str:
    own = mixers.read(model_card.path).name
    if own == model_card.name:
        return ""
    options = mixers.model_card(own).card.aliases[model_card.name]
    turned = ", ".join(code(f"{name}={value}") for name, value in options.items())
    return f"[`{own}`]({own}.myst) with {turned}"


def _options(model_card: mixers.ModelCard) -> Iterator[str]:
    if not model_card.options:
        yield "It has no options.\n"
        return
    name, first = model_card.name, model_card.options[0]
    yield f"Set one as `{name}[{first.name}={first.default}]` or as `--set {name}.{first.name}=VALUE`.\n"
    rows = [(code(o.name), code(o.type), code(o.default), with_code(o.meaning)) for o in model_card.options]
    yield table(["option", "type", "default", "meaning"], rows)


def _results(name: str, kept: Kept) -> Iterator[str]:
    """Its lines of the tables that `lra compare` prints, a table a folder."""
    for folder, comparisons in kept.folders.items():
        rows = [
            (what, plain(column), unbroken(plain(shown)))
            for what, comparison in zip(WHAT, comparisons, strict=True)
            if name in comparison.cells.index
            for column, shown in comparison.cells.loc[name].items()
            if shown
        ]
        if rows:
            yield f"`lra compare results/{folder}` has these for it:\n"
            yield table(["measured", "task and config", "value"], rows)
    yield _legend(name, kept)
    yield from _techniques(name, kept)


def _legend(name: str, kept: Kept) -> str:
    if not any(name in each[0].cells.index for each in kept.folders.values()):
        return "No result of it is kept in the repository.\n"
    return (
        "Scores are on test, in %, with a 95 % interval, the number of runs and the rank; steps in ms (examples per "
        "second); memory in MiB, compiled (measured peak). [Numbers](../../numbers.md) explains each.\n"
    )


def _techniques(name: str, kept: Kept) -> Iterator[str]:
    columns = [column for column in kept.techniques.columns if str(column).startswith(f"{name}, ")]
    if not columns:
        return
    yield "With techniques, one seed each: the test score in %, and its difference from none"
    yield "(`lra compare results/techniques --techniques`).\n"
    tasks = [str(column).removeprefix(f"{name}, ") for column in columns]
    rows = [
        [plain(label), *(unbroken(plain(shown)) for shown in own)]
        for label, *own in kept.techniques[columns].itertuples()
    ]
    yield table(["technique", *map(plain, tasks)], [row for row in rows if any(row[1:])])


def _growth(folder: Folder, name: str, file: str, measured: Sequence[dict[str, Any]]) -> Iterator[str]:
    full = mixers.reference().stem
    own = [fact for fact in measured if fact["model"] in (name, full) and fact["step_ms_p50"] is not None]
    if not any(fact["model"] == name for fact in own):
        return
    devices = ", ".join(dict.fromkeys(str(fact["device"]) for fact in own))
    yield f"`lra speed --read results/speed/{file}` shows all of what was measured on {devices}.\n"
    picture = f"models/{name}-{file.removesuffix('.json')}.png"
    families = {each: mixers.model_card(each).card.family for each in (name, full)}
    _draw(folder, picture, charts.growth(own, families))
    yield f"![Milliseconds of a training step over the length, both on logarithmic scales]({picture.split('/')[1]})\n"
    yield from _grown(name, own)


def _draw(folder: Folder, name: str, figure: Any) -> None:
    """Draw a figure, unless it is there as it would be drawn; its text fits in the font that it is drawn with."""
    path, spec = folder.place(name), folder.place(f"{name}.json")
    text = json.dumps(figure.to_dict())
    if not (path.exists() and spec.exists() and spec.read_text(encoding="utf-8") == text):
        charts.save(figure, path)
        spec.write_text(text, encoding="utf-8")


def _grown(name: str, own: Sequence[dict[str, Any]]) -> Iterator[str]:
    steps = scaling.numbers(scaling.arranged(own))
    mine = [row for row in steps.to_dict("records") if str(row["model"]).split("[")[0] == name]
    rows = [(_label(row), f"{row['length']:,}", f"{row['step_ms_p50']:,.0f}", _times(row), _mib(row)) for row in mine]
    yield table(["model", "L", "step, ms", "times faster than softmax", "compiled memory, MiB"], rows)
    cells = scaling_fits.report(own).tables[0].cells
    grown = cells[[str(label).split("[")[0] == name for label in cells.index]]
    grown = grown.loc[:, (grown != "").any()]
    heads = [str(column) for column in grown.columns]
    yield "Exponents of L, with intervals, and lengths, as `lra scale` estimates them:\n"
    yield table(["model", *map(plain, heads)], [[code(row[0]), *map(plain, row[1:])] for row in grown.itertuples()])


def _label(row: dict[Any, Any]) -> str:
    return code(row["model"])


def _times(row: dict[Any, Any]) -> str:
    return f"{row['faster']:.2f}" if row["faster"] == row["faster"] and row["faster"] is not None else ""


def _mib(row: dict[Any, Any]) -> str:
    return f"{row['compiled_bytes'] / 2**20:,.0f}"
