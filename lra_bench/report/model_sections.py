"""The page's sections on models: what each one's card says, its hyperparameters, and its runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lra_bench import mixers
from lra_bench.mixers.card import ModelCard
from lra_bench.report import tables
from lra_bench.report.labels import bare
from lra_bench.report.summary import annotate
from lra_bench.report.summary.digits import three_digits

ARXIV = "https://arxiv.org/abs/"
IDENTIFIER = r"\d{4}\.\d{4,5}"  # arXiv's, since 2007


@dataclass(frozen=True)
class Run:
    """One run of a model."""

    id: str  # its fragment of the page's address
    said: str
    command: str  # that repeats it, with its folder's path as text: the page is mailed without it


@dataclass(frozen=True)
class Section:
    """All that the page tells of one model."""

    label: str
    anchor: str
    lead: str
    paper: str  # its address; "" if there is none
    facts: list[tuple[str, str]]
    options: list[tuple[str, str, str]]  # name, default, meaning
    runs: list[Run]


def sections(frame: pd.DataFrame, anchors: Mapping[str, str]) -> list[Section]:
    """A section for each label of the frame's rows, in alphabetical order."""
    labeled = frame.assign(label=tables.labels(frame))
    grouped = {str(label): rows for label, rows in labeled.groupby("label", sort=True)}
    return [_section(label, anchors[label], rows.to_dict("records")) for label, rows in grouped.items()]


def _section(label: str, anchor: str, rows: Sequence[Mapping[Any, Any]]) -> Section:
    runs = [_run(row) for row in rows if pd.notna(row["folder"])]
    if bare(label) not in mixers.names():
        return Section(label, anchor, str(rows[0]["family"]), "", [], [], runs)
    model_card = mixers.model_card(bare(label))
    card = model_card.card
    paper = ARXIV + card.paper if re.fullmatch(IDENTIFIER, card.paper) else ""
    options = [(option.name, str(option.default), option.meaning) for option in model_card.options]
    lead = ", ".join(str(said) for said in (card.title, card.family, card.year) if said)
    return Section(label, anchor, lead, paper, list(_facts(model_card)), options, runs)


def _facts(model_card: ModelCard) -> Iterator[tuple[str, str]]:
    """What the card says, in words."""
    card = model_card.card
    claims = [
        f"{what} L^{power:g}" for what, power in (("time", card.time), ("memory", card.memory)) if power is not None
    ]
    said = (
        ("scaling with length", ", ".join(claims)),
        ("equation of the paper", card.equation),
        ("equals softmax attention when", card.exact_when),
        ("differs from the paper", card.differs),
        ("fastest public form", card.public),
        ("control", card.control),
    )
    yield from ((name, value) for name, value in said if value)


def _run(row: Mapping[Any, Any]) -> Run:
    score = "" if pd.isna(row["test_score"]) else f", test {annotate.score(row['test_score'], row['metric'])}"
    time = "" if pd.isna(row["step_ms_p50"]) else f", {three_digits(row['step_ms_p50'])} ms/step"
    seed = "" if pd.isna(row["seed"]) else f", seed {row['seed']:.0f}"
    said = f"{row['task']} {row['config']}{seed}: {row['status']}{score}{time}"
    return Run(f"run-{row['run']}", said, f"lra reproduce {shlex.quote(str(row['folder']))}")
