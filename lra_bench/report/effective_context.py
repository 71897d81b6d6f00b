"""Models' effective context, as tables."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lra_bench.measure.context import Probe
from lra_bench.report.summary import annotate
from lra_bench.report.tables import Comparison, Report

SOURCE = "by the vectors that the last layer leaves of each token"


def report(probes: Sequence[tuple[str, str, Probe]]) -> Report:
    """Of each run its name, metric and what was found: a line a run, then a table of distances and of blocks each."""
    numbers = pd.DataFrame([{"run": name, **_flat(found)} for name, _, found in probes])
    parts = [part for name, metric, found in probes for part in (_reach(name, found), _shuffled(name, metric, found))]
    return Report(numbers, (_summary(probes), *parts))


def _flat(found: Probe) -> dict[str, object]:
    kept = found._asdict()
    return kept | {key: [one._asdict() for one in kept[key]] for key in ("reaches", "shuffled")}


def _summary(probes: Sequence[tuple[str, str, Probe]]) -> Comparison:
    lines = [
        {
            "run": name,
            "L": f"{found.length:,}",
            "95% of the gradient within": _tokens(found.within),
            "farthest token with any effect": _tokens(found.farthest),
            "order that predictions need": _order(found),
        }
        for name, _, found in probes
    ]
    notes = (
        f"gradient: with respect to the embeddings; any effect: more than rounding; {SOURCE}",
        "order: the text is cut into blocks, which change places; predictions need the order of tokens within the "
        "shortest blocks whose shuffling alters 5% of them at most",
    )
    return Comparison("context", "effective context, tokens", pd.DataFrame(lines).set_index("run"), notes)


def _tokens(distance: int) -> str:
    return f"{distance:,} tokens away" if distance != 1 else "1 token away"


def _order(found: Probe) -> str:
    if found.context is None:
        longest = max((one.block for one in found.shuffled), default=1)
        return f"over more than {longest:,} tokens"
    return "none: any order of tokens will do" if found.context == 1 else f"within {found.context:,} tokens"


def _reach(name: str, found: Probe) -> Comparison:
    lines = [
        {
            "distance": f"{r.near:,}" if r.near == r.far else f"{r.near:,} to {r.far:,}",
            "of the gradient, %": f"{100 * r.gradient:.1f}",
            "vector moved, %": f"{100 * r.moved:.1f}",
        }
        for r in found.reaches
    ]
    note = "moved: of its length, when the tokens at that distance are resampled from all those of the examples"
    return Comparison("context", f"{name}: by distance", pd.DataFrame(lines).set_index("distance"), (note,))


def _shuffled(name: str, metric: str, found: Probe) -> Comparison:
    lines = [
        {
            "block": f"{s.block:,}",
            "predictions changed, %": f"{100 * s.changed:.1f}",
            "score": annotate.score(s.score, metric),
        }
        for s in found.shuffled
    ]
    note = f"blocks of so many tokens change places; score as they are: {annotate.score(found.score, metric)}"
    return Comparison("context", f"{name}: by shuffling", pd.DataFrame(lines).set_index("block"), (note,))
