"""Scaling with L, by what `speed` measured: exponents, crossover lengths, maximum lengths before out-of-memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lra_bench import statistics
from lra_bench.errors import ConfigError
from lra_bench.report import scaling
from lra_bench.report.tables import Comparison, Report

Fact = Mapping[str, Any]
NEVER = float("inf")
WHAT = {"train": "", "infer": " (forward)", "prefill": " (prompt)", "decode": " (token)"}  # of each mode of `lra speed`
FLAT = 0.25  # an exponent of memory below that is of what does not grow, and of what does: no length is told by it
FEW = 4  # lengths: an exponent of fewer is tagged


class Line(NamedTuple):
    """One quantity of one model over length; `low` and `high` are its interval, or the values again."""

    lengths: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray


def report(facts: Sequence[Fact], room: int | None = None) -> Report:
    """A line a model and mode; `room` bytes stand in place of the measured device's.

    Raises:
        ConfigError: nothing was timed, or facts cannot be told apart.
    """
    facts, lines = scaling.arranged(scaling.told_apart(facts)), []
    for mode in dict.fromkeys(scaling.mode_of(fact) for fact in facts):
        ours = [fact for fact in facts if scaling.mode_of(fact) == mode and fact["step_ms_p50"] is not None]
        names = [scaling.label(fact, facts) for fact in ours]
        for name in dict.fromkeys(names):
            its = [fact for fact, named in zip(ours, names, strict=True) if named == name]
            theirs = [(fact, scaling.of_reference(fact, facts)) for fact in its]
            first = _line([other for fact, other in theirs if other is not None and other is not fact])
            lines.append({"model": name, "mode": mode} | _grown(its, first, room))
    if not lines:
        raise ConfigError("no step was timed: there is nothing to fit")
    numbers = pd.DataFrame(lines)
    return Report(numbers, (_table(numbers, scaling.reference_name(facts), facts, room),))


def _grown(facts: Sequence[Fact], first: Line, room: int | None) -> dict[str, Any]:
    """Of one model's facts by rising length."""
    time = _line(facts)
    planned = np.array([fact["compiled_bytes"] for fact in facts], float)
    over_time, over_memory = statistics.power(time.lengths, time.values), statistics.power(time.lengths, planned)
    states = np.array([fact.get("state_bytes") or np.nan for fact in facts], float)
    over_state = statistics.power(time.lengths, states) if not np.isnan(states).any() else None
    shared = np.intersect1d(time.lengths, first.lengths)
    crossed = crossover(time, first)
    there = room if room is not None else facts[-1].get("available_bytes")
    return {
        "time_exponent": over_time.value,
        "lengths": len(facts),
        "time_low": over_time.low,
        "time_high": over_time.high,
        "memory_exponent": over_memory.value,
        "memory_low": over_memory.low,
        "memory_high": over_memory.high,
        "state_exponent": over_state and over_state.value,
        "card_time": None if facts[0].get("mode") == "decode" else facts[0].get("card_time"),
        "crossover": crossed.value,
        "crossover_low": crossed.low,
        "crossover_high": crossed.high,
        "shortest": shared.min(initial=np.inf),
        "longest": shared.max(initial=0),
        "memory_bytes": there,
        "wall": wall(time.lengths, planned, there) if there else None,
    }


def _line(facts: Sequence[Fact]) -> Line:
    """Of one model's facts by rising length."""
    over = np.array([scaling.interval(fact) for fact in facts]).reshape(-1, 3)
    low, high = (np.where(np.isnan(over[:, i]), over[:, 0], over[:, i]) for i in (1, 2))
    return Line(np.array([fact["length"] for fact in facts], float), over[:, 0], low, high)


def crossover(line: Line, first: Line) -> statistics.Interval:
    """The length from which on a model is faster than the first, at all longer lengths that were measured.

    Between two lengths times are taken to be powers of L. 0: at the shortest already; infinite: not at the longest that
    both were measured at; not a number where they share none. Its interval is where the ends of the times' intervals
    cross, the most and the least favorable ones.
    """
    shared = [length for length in line.lengths if length in first.lengths]
    ours, theirs = np.isin(line.lengths, shared), np.isin(first.lengths, shared)
    pairs = ((line.values, first.values), (line.low, first.high), (line.high, first.low))
    found = [_crossed(np.array(shared), np.log(a[ours] / b[theirs])) for a, b in pairs]
    return statistics.Interval(*found)


def _crossed(lengths: np.ndarray, slower: np.ndarray) -> float:
    """Where the logarithm of a ratio falls below 0 for good."""
    above = np.flatnonzero(slower >= 0)
    if not len(lengths):
        return float("nan")
    if not len(above):
        return 0.0
    last = int(above[-1])
    if last == len(lengths) - 1:
        return NEVER
    share = slower[last] / (slower[last] - slower[last + 1])
    return float(np.exp(np.log(lengths[last]) + share * np.log(lengths[last + 1] / lengths[last])))


def wall(lengths: np.ndarray, planned: np.ndarray, room: int) -> float:
    """The length at which what is planned reaches `room` bytes, by the power of L between the two longest lengths."""
    if len(lengths) < 2:
        return float("nan")
    power = np.log(planned[-1] / planned[-2]) / np.log(lengths[-1] / lengths[-2])
    return float(lengths[-1] * (room / planned[-1]) ** (1 / power)) if power > FLAT else NEVER


def _table(numbers: pd.DataFrame, first: str, facts: Sequence[Fact], room: int | None) -> Comparison:
    lines = [
        {
            "model": f"{line['model']}{WHAT[line['mode']]}",
            "time": _power(line, "time"),
            "its card": "" if pd.isna(line["card_time"]) else f"{line['card_time']:g}",
            "memory": _power(line, "memory"),
            **({"state": _state(line)} if numbers["state_exponent"].notna().any() else {}),
            f"faster than {first} from": _from(line),
            "out of memory from": "" if pd.isna(line["wall"]) else _tokens(line["wall"]),
        }
        for line in numbers.to_dict("records")
    ]
    there = sorted({line["memory_bytes"] for line in numbers.to_dict("records") if not pd.isna(line["memory_bytes"])})
    batch = sorted({fact["batch"] for fact in facts if fact.get("batch")})
    notes = [
        "time, memory: the exponent of L, by least squares on logarithms, with Student's interval",
        *(["state: likewise, of what decoding keeps"] if numbers["state_exponent"].notna().any() else []),
        "faster from: interpolated between lengths; its interval by the ends of the medians' intervals",
    ]
    if len(few := numbers[numbers["lengths"] < FEW]):
        who = ", ".join(few["model"][:3]) + (f" and {len(few) - 3} more" if len(few) > 3 else "")
        notes.append(
            f"of 2, of 3: an exponent of so few lengths may be far off, whatever its interval: {who}; {FEW} and more "
            "tell it, lra speed -n 1024,2048,4096,8192"
        )
    if there:
        said = " to ".join(f"{bytes_ / 2**30:.1f}" for bytes_ in dict.fromkeys((there[0], there[-1])))
        of = f", batch {batch[0]}" if len(batch) == 1 else ""
        notes.append(
            f"out of memory: tokens whose step is planned to need {said} GiB{of}, by the growth of the two longest"
        )
    notes += [*_parameters(facts), *scaling.busy(facts)]
    return Comparison("scaling", "scaling with L", pd.DataFrame(lines).set_index("model"), tuple(notes))


def _parameters(facts: Sequence[Fact]) -> Iterator[str]:
    """A note on steps of decoding whose parameters grow with L, of every model."""
    ends: dict[str, list[Fact]] = {}
    for fact in facts:
        if scaling.mode_of(fact) == "decode" and fact.get("params"):
            ends.setdefault(scaling.label(fact, facts), []).append(fact)
    if ends and all(its[-1]["params"] > its[0]["params"] for its in ends.values()):
        yield (
            "memory, out of memory: of a token with all parameters, which grow with L here, as a table of learned "
            "positions does; without it, lra speed --mode decode --set backbone.positions=none"
        )


def _power(line: Mapping[Any, Any], what: str) -> str:
    value, low, high = (line[f"{what}_{key}"] for key in ("exponent", "low", "high"))
    if pd.isna(value):
        return ""
    said = f"{value:.2f}" if pd.isna(low) else f"{value:.2f} ({low:.2f}-{high:.2f})"
    return f"{said} of {line['lengths']}" if line["lengths"] < FEW else said


def _state(line: Mapping[Any, Any]) -> str:
    """Exact, as it is counted: a power, or none."""
    return "" if pd.isna(line["state_exponent"]) else f"{line['state_exponent']:.2f}"


def _from(line: Mapping[Any, Any]) -> str:
    value, low, high = (line[key] for key in ("crossover", "crossover_low", "crossover_high"))
    if pd.isna(value):
        return ""
    if value == 0:
        said = f"{line['shortest']:,.0f} or less"
    elif value == NEVER:
        said = f"not up to {line['longest']:,.0f}"
    else:
        said = _tokens(value)
    return said if low == high else f"{said} ({_end(low, line)}-{_end(high, line)})"


def _end(value: float, line: Mapping[Any, Any]) -> str:
    return (
        f"<{line['shortest']:,.0f}" if value == 0 else f">{line['longest']:,.0f}" if value == NEVER else _tokens(value)
    )


def _tokens(value: float) -> str:
    """Two digits: it is an estimate."""
    return "" if not np.isfinite(value) else f"{float(f'{value:.2g}'):,.0f}"
