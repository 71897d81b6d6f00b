"""Steps over length, as `speed` measured them: time, memory, work, and all against full attention in the same run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lra_bench import mixers, statistics
from lra_bench.conformance import record
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.report.summary import load
from lra_bench.report.summary.digits import three_digits
from lra_bench.report.tables import Comparison, Report

NEEDED = ("model", "options", "length", "status", "step_ms_p50", "compiled_bytes")
WIDE = 0.2  # of the median: an interval that is wider is marked
NEAR = 3  # times an empty step: what takes less is marked
ONE = {"train": "training step", "infer": "forward pass", "prefill": "prompt", "decode": "token"}  # by mode
TOLD = {
    "train": ("training step", "training steps"),
    "infer": ("forward pass", "forward passes"),
    "prefill": ("prompt of L tokens, all texts of the batch", "prompts"),
    "decode": ("token of each text, the last of L", "tokens of each text"),
}
ASKED = ("batch", "dtype", "task")  # of a step of one length
LIKE = ("length", "batch", "task", "platform", "device")  # the same for one step to be told against another
CODES = ("code_hash", "parts_hash")
MARKS = {
    record.UNVERIFIED: "?: its conformance was not checked here with this code; lra verify -m NAME does that",
    record.DENSE: "dense: its work or memory grow faster than its card says, as of all pairs under a mask",
    record.FAILED: "!: fails a conformance check (lra verify -m NAME says which): no fair number",
}
Fact = Mapping[str, Any]


def read(path: Path) -> list[dict[str, Any]]:
    """What `speed` measured, as it was kept.

    Raises:
        ConfigError: the file holds something else.
    """
    facts = store.read_json(path)
    known = isinstance(facts, list) and facts and all(isinstance(fact, dict) for fact in facts)
    lacks = next((key for fact in facts for key in NEEDED if key not in fact), None) if known else NEEDED[0]
    if lacks:
        raise ConfigError(f"{path}: not the numbers of lra speed: they lack '{lacks}'")
    return facts


def report(facts: Sequence[Fact]) -> Report:
    """A table for each thing that is known of the steps, a line a model and a column a length."""
    facts = arranged(told_apart(facts))
    modes = dict.fromkeys(map(mode_of, facts))
    tables = [table for mode in modes for table in _tables(arranged(_of(facts, mode)), mode)]
    return Report(numbers(facts), tuple(tables))


def told_apart(facts: Sequence[Fact]) -> Sequence[Fact]:
    """The facts without those that were measured again with newer code, further below in the file.

    Raises:
        ConfigError: two of one model, length, mode and code differ in nothing that they say.
    """
    last: dict[tuple[str, int, str], Fact] = {}
    for fact in facts:
        name, length, mode = key = label(fact, facts), fact["length"], mode_of(fact)
        if key in last and all(fact.get(code) == last[key].get(code) for code in CODES):
            raise ConfigError(
                f"{name} was timed twice at L = {length:,} ({mode}), with settings that the numbers do not name; keep "
                "each in a file of its own (--out)"
            )
        last[key] = fact
    return list(last.values())


def mode_of(fact: Fact) -> str:
    """What was timed: a training step, where an older file does not say."""
    return fact.get("mode") or "train"


def of_one_mode(facts: Sequence[Fact]) -> list[Fact]:
    """Those of the first mode that was timed: of training steps, if any were."""
    timed = {mode_of(fact) for fact in facts if fact["step_ms_p50"] is not None}
    return _of(facts, next((mode for mode in TOLD if mode in timed), "train"))


def _of(facts: Sequence[Fact], mode: str) -> list[Fact]:
    return [fact for fact in facts if mode_of(fact) == mode]


def numbers(facts: Sequence[Fact]) -> pd.DataFrame:
    """A line a step: the facts, without the single laps, with the median's interval and the ratio to full attention."""
    lines = []
    for fact in facts:
        whole = dict(fact) | {"model": label(fact, facts)}
        over, times = interval(fact), faster(fact, _of(facts, mode_of(fact)))
        whole |= {"step_ms_low": over.low, "step_ms_high": over.high, "faster": times, "hfu": hfu(fact)}
        whole |= {"largest_a_second": largest_rate(fact)}
        lines.append({k: v for k, v in whole.items() if k not in ("laps_ms", "largest_laps_ms", "options")})
    return pd.DataFrame(lines)


def arranged(facts: Sequence[Fact]) -> list[Fact]:
    """The facts with those of the reference before others, and of each model by rising length, in whatever order they
    were measured. Models keep the order in which they come."""
    order = list(dict.fromkeys([_setting(reference(facts)), *map(_setting, facts)]))
    return sorted(facts, key=lambda fact: (order.index(_setting(fact)), fact["length"]))


def reference(facts: Sequence[Fact]) -> Fact:
    """A fact of full attention, where others were timed that can be told against it; else of the model that they were
    timed beside, else of the first."""
    alike = Counter(map(_conditions, facts))
    full = [f for f in facts if f["model"] == mixers.reference().stem and _there(f) and alike[_conditions(f)] > 1]
    among = list(filter(_is_beside, full)) or full or list(filter(_is_beside, facts)) or facts[:1]
    counts, found = Counter(map(_setting, among)), {_setting(fact): fact for fact in among}
    return found[min(found, key=lambda setting: (-counts[setting], setting))]


def reference_name(facts: Sequence[Fact]) -> str:
    """The reference's label, without what each step is told against its like of: batch, dtype and task."""
    first = reference(facts)
    return label(first, [fact for fact in facts if all(fact.get(key) == first.get(key) for key in ASKED)])


def _is_beside(fact: Fact) -> bool:
    """Is it of the model that others of its process were timed beside?"""
    return bool(fact.get("reference_ms")) and fact["reference_ms"] == fact["step_ms_p50"]


def _conditions(fact: Fact) -> tuple[Any, ...]:
    """What has to be the same for one step to be told against another: float32, where an older file does not say."""
    return (mode_of(fact), fact.get("dtype") or "float32", *(fact.get(key) for key in LIKE))


def _setting(fact: Fact) -> tuple[str, str, int]:
    """What facts of one line have in common."""
    return fact["model"], json.dumps(fact["options"], sort_keys=True), fact.get("devices") or 1


def interval(fact: Fact) -> statistics.Interval:
    """The median of a step's times, milliseconds, with its interval; not a number where too few are kept."""
    if fact["step_ms_p50"] is None:
        return statistics.Interval(*[float("nan")] * 3)
    laps = fact.get("laps_ms") or [fact["step_ms_p50"]]
    return statistics.median(laps)


def is_wide(fact: Fact) -> bool:
    """Is the median's interval too wide for the number to be told without a mark?"""
    return _wide(interval(fact))


def _wide(over: statistics.Interval) -> bool:
    return over.high - over.low > WIDE * over.value


def is_near_dispatch(fact: Fact) -> bool:
    """Does the step take so little that a good part of it is the time to dispatch one, which is the host's?"""
    empty, step = fact.get("dispatch_ms"), fact["step_ms_p50"]
    return step < NEAR * empty if empty and step else False


def faster(fact: Fact, facts: Sequence[Fact]) -> float | None:
    """How many times faster than the reference at this length, in the same process where that is known: where nothing
    else was timed beside."""
    theirs = of_reference(fact, facts)
    if theirs is None or not fact["step_ms_p50"]:
        return None
    beside = {_setting(f) for f in facts if _is_beside(f) and _conditions(f) == _conditions(fact)}
    there = fact.get("reference_ms") if beside == {_setting(theirs)} else None
    return float((there or theirs["step_ms_p50"]) / fact["step_ms_p50"])


def of_reference(fact: Fact, facts: Sequence[Fact]) -> Fact | None:
    """The reference's step that this one can be told against, if it was timed."""
    first, alike = _setting(reference(facts)), _conditions(fact)
    return next((f for f in facts if _setting(f) == first and _conditions(f) == alike and _there(f)), None)


def hfu(fact: Fact) -> float | None:
    """Work a second as a share of what the devices were measured to do at best: hardware FLOPs utilization.

    Not of the model's FLOPs (MFU, PaLM, arXiv 2204.02311, appendix B): what is computed again in the backward pass, and
    elementwise operations, are work too.
    """
    if not fact.get("ceiling_flops_per_s") or not fact["step_ms_p50"]:
        return None
    best = fact["ceiling_flops_per_s"] * fact.get("devices", 1)
    return float(fact["flops_per_step"] / (fact["step_ms_p50"] / 1e3) / best)


def label(fact: Fact, facts: Sequence[Fact]) -> str:
    """The model's name; with the options, or devices, that differ, where it was measured with several settings, and
    with the batch, dtype or task, where at some length it was with several."""
    its = [f for f in facts if f["model"] == fact["model"]]
    settings = {json.dumps(f["options"], sort_keys=True): f["options"] for f in its}
    differing = [k for k in fact["options"] if len({str(s.get(k)) for s in settings.values()}) > 1]
    said = [f"{k}={fact['options'][k]}" for k in differing]
    said += [f"devices={fact.get('devices')}"] if len({f.get("devices") for f in its}) > 1 else []
    said += [f"{key}={fact.get(key)}" for key in ASKED if _has_several(key, fact, its)]
    turned = ",".join(said)
    return f"{fact['model']}[{turned}]" if turned else str(fact["model"])


def _has_several(key: str, fact: Fact, its: Sequence[Fact]) -> bool:
    """Was the model timed with several values of a key at some length, its other settings as a fact has them?"""
    at: dict[int, set[Any]] = {}
    for one in its:
        if _setting(one) == _setting(fact) and mode_of(one) == mode_of(fact):
            at.setdefault(one["length"], set()).add(one.get(key))
    return any(len(values) > 1 for values in at.values())


def _tables(facts: Sequence[Fact], mode: str) -> Iterator[Comparison]:
    yield from _times(facts, *TOLD[mode])
    yield from _memory(facts, TOLD[mode][0])
    yield from _work(facts, TOLD[mode][0])


def _times(facts: Sequence[Fact], step: str, steps: str) -> Iterator[Comparison]:
    marks = [note for standing, note in MARKS.items() if any(f.get("standing") == standing for f in facts)]
    wide = [f"~: the interval is wider than {WIDE:.0%} of the median"] if any(map(is_wide, facts)) else []
    yield _table(
        f"{step}, ms, median (interval)",
        facts,
        _ms,
        (*_protocol(facts), *marks, *wide, *busy(facts), *_dispatch(facts)),
    )
    yield from _rates(facts, steps)
    yield _table(f"times faster than {reference_name(facts)}", facts, lambda f: _number(faster(f, facts), "{:.2f}"))


def _rates(facts: Sequence[Fact], steps: str) -> Iterator[Comparison]:
    """A step is one of training, or of a token of each text; a prompt's is as many prompts as the batch has."""
    mode, several = mode_of(facts[0]), any((fact.get("batch") or 1) > 1 for fact in facts)
    yield _table(f"{steps} a second", facts, _whole_rate if mode == "prefill" else _rate)
    if mode == "decode" and several:
        yield _table("tokens of all texts of the batch a second", facts, _whole_rate)


def _rate(fact: Fact) -> str:
    return _digits(1e3 / fact["step_ms_p50"])


def _whole_rate(fact: Fact) -> str:
    return _digits(1e3 * (fact.get("batch") or 1) / fact["step_ms_p50"])


def busy(facts: Sequence[Fact]) -> Iterator[str]:
    """A note on lengths that were timed while other programs ran: all models of a length were, in turn."""
    loads: dict[int, float] = {}
    for fact in facts:
        if load.tag(fact.get("other_load")):
            loads[fact["length"]] = max(fact["other_load"], loads.get(fact["length"], 0.0))
    if loads:
        said = ", ".join(f"{100 * share:.0f} % at L = {length:,}" for length, share in sorted(loads.items()))
        yield f"busy: other programs, or the host, had so much of the cores while these were timed: {said}"


def _dispatch(facts: Sequence[Fact]) -> Iterator[str]:
    near = [fact["dispatch_ms"] for fact in facts if is_near_dispatch(fact)]
    if near:
        between = " to ".join(dict.fromkeys((_digits(min(near)), _digits(max(near)))))
        yield f"d: less than {NEAR} times an empty step ({between} ms to dispatch one), so partly the host's time"


def _memory(facts: Sequence[Fact], step: str) -> Iterator[Comparison]:
    if any(f.get("state_bytes") for f in facts):
        notes = (f"counted from the arrays that decoding keeps for {facts[0]['batch']} texts of L tokens, all layers",)
        yield _table("state, KiB", facts, lambda f: _number(f.get("state_bytes"), "{:,.1f}", 2.0**-10), notes)
    planned = ("compiled memory: arguments + temporaries + outputs - shared, as the compiler has it",)
    yield _table(f"memory planned for a {step}, MiB", facts, lambda f: _mib(f.get("compiled_bytes")), planned)
    if any(f.get("peak_bytes") for f in facts):
        yield _table("peak memory, MiB", facts, lambda f: _mib(f.get("peak_bytes")), (_peak(facts),))
    rooms = sorted({f["room_bytes"] for f in facts if f.get("room_bytes")})
    if rooms:
        within = " and ".join(f"{room / 2**20:,.0f} MiB" for room in rooms)
        notes = (f"as planned, to 1.6 %, in {within}",)
        yield _table("largest batch, examples", facts, lambda f: _number(f.get("largest_batch"), "{:,}"), notes)
        yield from _largest(facts)


def _largest(facts: Sequence[Fact]) -> Iterator[Comparison]:
    """Tokens, prompts or examples a second of the largest batch, where it was timed, and why it was not elsewhere."""
    each = {"decode": "tokens of all texts", "prefill": "prompts"}.get(mode_of(facts[0]), "examples")
    if any(f.get("largest_laps_ms") or f.get("largest_error") for f in facts):
        title = f"{each} a second at the largest batch"
        yield _table(title, facts, _largest_rate, tuple(_not_timed(facts)))


def largest_rate(fact: Fact) -> float | None:
    """Examples a second of the largest batch, or tokens of all texts where they are decoded: by the median round."""
    laps = fact.get("largest_laps_ms")
    return 1e3 * float(fact["largest_batch"]) / statistics.median(laps).value if laps else None


def _largest_rate(fact: Fact) -> str:
    rate = largest_rate(fact)
    if rate is None:
        return "-" if fact.get("largest_error") else ""
    wide = " ~" if _wide(statistics.median(fact["largest_laps_ms"])) else ""
    return f"{_digits(rate)}{wide}{' busy' if load.tag(fact.get('largest_other_load')) else ''}"


def _not_timed(facts: Sequence[Fact]) -> Iterator[str]:
    yield f"by the median round, of each model in a process of its own; ~: its interval is wider than {WIDE:.0%} of it"
    for fact in facts:
        if tokens := fact.get("largest_lap_tokens"):
            yield f"{label(fact, facts)}, L = {fact['length']:,}: of the last {tokens} tokens, which took long enough"
        if said := fact.get("largest_error"):
            yield f"-: {label(fact, facts)}, L = {fact['length']:,}: {said}"


def _work(facts: Sequence[Fact], step: str) -> Iterator[Comparison]:
    unit, scale = ("MFLOP", 1e-6) if facts[0].get("mode") == "decode" else ("GFLOP", 1e-9)
    yield _table(f"{unit} a {step}", facts, lambda f: _number(f.get("flops_per_step"), "{:,.1f}", scale))
    rates = {f["length"]: f["ceiling_flops_per_s"] for f in facts if f.get("ceiling_flops_per_s")}
    if rates:
        said = ", ".join(f"{rate / 1e9:,.0f} at L = {length:,}" for length, rate in sorted(rates.items()))
        notes = (
            f"of the best rate of a product of two matrices, measured in the same process, GFLOP/s a device: {said}",
            "all that is computed counts, recomputation in the backward pass and elementwise operations too: not MFU, "
            "which is lower (PaLM, arXiv 2204.02311, appendix B)",
        )
        title = "hardware FLOPs utilization (HFU), % of the device's measured best rate"
        yield _table(title, facts, lambda f: _number(hfu(f), "{:.1f}", 100), notes)


def _protocol(facts: Sequence[Fact]) -> Iterator[str]:
    """How the numbers were made."""
    first = facts[0]
    laps = sorted({len(fact["laps_ms"]) for fact in facts if fact.get("laps_ms")})
    batch = f"batch {first['batch']}, " if first.get("batch") else ""
    place = ", ".join(str(first[key]) for key in ("platform", "device") if first.get(key))
    yield f"{batch}random tokens, full length; {place}, devices: {first.get('devices')}"
    rounds = " to ".join(str(count) for count in dict.fromkeys((laps[0], laps[-1]))) if laps else "several"
    yield f"rounds: {rounds}, all models of a length in turn in one process, after one that is not counted"
    yield "each step is waited for; compilation and input apart"
    if laps:
        yield "interval: of the median, 95%, by order statistics (none of fewer than 6 rounds)"


def setup(facts: Sequence[Fact]) -> list[str]:
    """On what, and how, the steps were timed: what a figure's title has to say."""
    batches = sorted({fact["batch"] for fact in facts if fact.get("batch")})
    batch = [f"batch {' or '.join(map(str, batches))}"] if batches else []
    machines = list(dict.fromkeys(str(fact["device"]) for fact in facts if fact.get("device")))
    laps = min((len(fact["laps_ms"]) for fact in facts if fact.get("laps_ms")), default=0)
    return [", ".join([*batch, f"median of {laps} rounds or more" if laps else "median"]), *machines]


def _peak(facts: Sequence[Fact]) -> str:
    if any(f.get("platform") == "cpu" for f in facts):
        return "measured in a fresh process; on CPU its resident set, which holds the interpreter and the compiler too"
    return "measured in a fresh process, of the device"


def _table(title: str, facts: Sequence[Fact], said: Callable[[Fact], str], notes: Sequence[str] = ()) -> Comparison:
    lines = [
        {"model": label(f, facts), "length": f["length"], "said": said(f) if _there(f) else str(f["status"])}
        for f in facts
    ]
    frame = pd.DataFrame(lines)
    cells = frame.pivot(index="model", columns="length", values="said").fillna("")
    cells = cells.reindex(list(dict.fromkeys(frame["model"]))).rename(columns="L = {:,}".format)
    cells.columns.name = None
    return Comparison("speed", title, cells, tuple(notes))


def _there(fact: Fact) -> bool:
    return fact["step_ms_p50"] is not None


def _ms(fact: Fact) -> str:
    over = interval(fact)
    between = f" ({_digits(over.low)}-{_digits(over.high)})" if over.low == over.low else ""
    marked = {record.UNVERIFIED: " ?", record.DENSE: " dense", record.FAILED: " !"}
    signs = f"{' ~' if is_wide(fact) else ''}{' d' if is_near_dispatch(fact) else ''}"
    signs += " busy" if load.tag(fact.get("other_load")) else ""
    return f"{_digits(over.value)}{between}{signs}{marked.get(fact.get('standing', ''), '')}"


def _digits(value: float) -> str:
    return three_digits(value) or ""


def _mib(size: float | None) -> str:
    return _number(size, "{:,.0f}", 2.0**-20)


def _number(value: float | None, shown: str, scale: float = 1) -> str:
    return "" if value is None else shown.format(value * scale if scale != 1 else value)
