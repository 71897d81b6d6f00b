"""Steps of a request's runs timed over lengths, those of one length in turn in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from lra_bench import mixers
from lra_bench.config import Run
from lra_bench.conformance import record
from lra_bench.errors import ConfigError, RunFailed
from lra_bench.launch import local
from lra_bench.launch.watch import FREE, Terms
from lra_bench.measure.asked import DECODING, Asked
from lra_bench.records import fingerprint
from lra_bench.sweeps.request import Request, runs
from lra_bench.sweeps.run import able

Tell = Callable[[Run, dict[str, Any]], None]
Facts = list[dict[str, Any]]
PLACE = ("platform", "device")
NOT_PLANNED = {"compiled_bytes": None}  # of a step that did not compile
ROOM = ("room_bytes", "largest_batch", "largest_laps_ms", "largest_lap_tokens", "largest_other_load", "largest_error")
ALONE = ("peak_bytes", *ROOM)  # what a process of a run's own says


@dataclass(frozen=True)
class Speed:
    """What is to be measured: the request's runs at each of `lengths`."""

    request: Request
    lengths: Sequence[int]
    rounds: int
    mode: str = "train"  # of `measure.asked.MODES`
    peak: bool = False  # of each run, in a fresh process
    room: int | None = None  # bytes: the largest batch that they hold, and its times

    @cached_property
    def groups(self) -> list[list[Run]]:
        """The runs of each length that can be, those of full attention, which the others are told against, first.

        Raises:
            ConfigError: none can be, or what decodes a text is to read a source.
        """
        every = [runs(replace(self.request, length=length)) for length in self.lengths]
        if self.mode in DECODING and (task := every[0][0].task).crosses:
            raise ConfigError(f"--mode {self.mode}: of one text; task {task.name} has a source and a target")
        full = mixers.reference().stem
        return [sorted(able(group)[0], key=lambda run: run.model != full) for group in every]

    def left_out(self) -> list[str]:
        """Why models are in none of the groups, a line for each."""
        return able(runs(replace(self.request, length=self.lengths[0])))[1]


def speed(asked: Speed, known: Facts, tell: Tell) -> Iterator[Facts]:
    """All that is known, `known` first, as soon as there is more of it. What is known is not measured again.

    A length's first run is measured beside the rest, again if need be: `reference_ms` is its median in that process.

    Raises:
        ConfigError: what is known was measured elsewhere; a run refused what was asked.
        Stopped: Ctrl-C.
    """
    facts, groups = list(known), asked.groups
    for line in asked.left_out():
        tell(groups[0][0], {"event": "note", "said": line})
    if facts:
        same_place(facts, local.machine())
        yield facts
    for group in groups:
        for run in group:
            if said := _of_other_code(_fact(facts, run, asked.mode), run):
                tell(run, {"event": "note", "said": f"L = {run.task.length}: {said}; --overwrite measures it again"})
        new = [run for run in group if _fact(facts, run, asked.mode) is None]
        if new:
            facts += timed(group[0], new, Asked(asked.rounds, asked.mode, peak_rate=True), tell)
            yield facts
    if asked.peak or asked.room is not None:
        for run in (run for group in groups for run in group):
            fact = _fact(facts, run, asked.mode)
            if fact is not None and fact["status"] == "ok" and not _whole(fact, asked):
                fact |= _alone(run, asked, partial(tell, run))
                yield facts


def timed(first: Run | None, new: Sequence[Run], asked: Asked, tell: Tell, terms: Terms = FREE) -> Facts:
    """What is known of new runs of one length, timed in turn in a process of their own beside the first run of all,
    which is measured again if need be; None: beside none.

    Raises:
        Stopped: Ctrl-C.
        ConfigError: a run refused what was asked.
        RunFailed: the process died, or was ended by the terms that it is held to.
    """
    both = list(new) if first is None or first.id == new[0].id else [first, *new]
    found = _beside(local.measure(both, asked, _telling(both, tell), terms=terms), both)
    alone = {"reference_ms": None} if first is None else {}
    return [NOT_PLANNED | fact | alone for fact in found[len(both) - len(new) :]]


def lost(run: Run, mode: str, why: str) -> dict[str, Any]:
    """What is known of a run with which a process died."""
    names = {"run": run.id, "model": run.model, "options": run.turned, "mode": mode}
    sizes = {"length": run.task.length, "batch": run.recipe.training.batch}
    nothing = {"step_ms_p50": None, "laps_ms": list[float]()} | NOT_PLANNED
    return names | sizes | nothing | {"status": "error", "error": why} | _code(run)


def same_place(facts: Facts, here: Mapping[str, Any]) -> None:
    """Refuse to add to what was measured elsewhere.

    Raises:
        ConfigError: it was.
    """
    for fact in facts:
        there = {key: fact[key] for key in PLACE if fact.get(key)}
        if any(here[key] != value for key, value in there.items()):
            ours, theirs = (", ".join(map(str, place.values())) for place in ({k: here[k] for k in PLACE}, there))
            raise ConfigError(
                f"what is kept was measured on {theirs}, and this is {ours}: another --out, or --overwrite of all of it"
            )


def _fact(facts: Facts, run: Run, mode: str) -> dict[str, Any] | None:
    return next((fact for fact in facts if fact["run"] == run.id and fact.get("mode", "train") == mode), None)


def _of_other_code(fact: dict[str, Any] | None, run: Run) -> str | None:
    """What is to be said of a fact that is kept, if it was measured by code that is not what stands here."""
    if fact is None:
        return None
    if fact.get("code_hash") is None:
        return "kept, and measured by code that is not known"
    why = fingerprint.apart(fingerprint.of(run), fact)
    return f"kept, and measured by other code: {why}" if why else None


def _code(run: Run) -> dict[str, Any]:
    """Of which code and in which numbers the run's step is."""
    return {"dtype": run.recipe.backbone.dtype, **fingerprint.of(run)}


def _beside(found: Facts, both: Sequence[Run]) -> Facts:
    """With the first one's median, and with what the conformance records and the model cards say of the mixers."""
    for fact, run in zip(found, both, strict=True):
        fact |= _code(run)
        fact["reference_ms"] = found[0]["step_ms_p50"]
        causal = run.recipe.backbone.causal
        claims = [mixers.read(one.file).card.growth(causal)[0] for one in run.mixer_specs]
        fact["card_time"] = None if None in claims else max(claim for claim in claims if claim is not None)
        fact |= stood(run, fact)
    return found


def stood(run: Run, fact: Mapping[str, Any]) -> dict[str, str]:
    """What the conformance records say of the run's mixers on the platform of a fact, as far as that is known."""
    if not fact.get("platform"):
        return {}
    each = (record.standing(one.file, one.options, fact["platform"]) for one in run.mixer_specs)
    return {"standing": record.worst(each)}


def _whole(fact: dict[str, Any], asked: Speed) -> bool:
    return fact.get("peak_bytes") is not None and (
        asked.room is None or (fact.get("room_bytes") == asked.room and set(ROOM) <= fact.keys())
    )


def _alone(run: Run, asked: Speed, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    known = dict[str, Any]()

    def told(event: dict[str, Any]) -> None:
        if event["event"] == "found_largest":
            known.update(event["facts"])
        tell(event)

    try:
        (found,) = local.measure([run], Asked(1, asked.mode, room=asked.room, room_rounds=asked.rounds), told)
    except RunFailed as error:
        return known | {"largest_error": f"not timed: {error}"} if known else {"peak_error": str(error)}
    return {key: found[key] for key in ALONE if key in found}


def _telling(every: Sequence[Run], tell: Tell) -> Callable[[dict[str, Any]], None]:
    """Pass on an event of the run that it names; of the last one, if it names none."""
    by_id = {run.id: run for run in every}
    return lambda event: tell(by_id.get(event.get("run", ""), every[-1]), event)
