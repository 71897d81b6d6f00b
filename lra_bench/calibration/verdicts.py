"""What the scores of a check's runs mean: reproduced, differs, or cannot be told, by the statistics of the tables.

That a score is chance level, a published number or another arm's is told by two one-sided tests with a margin
(`report.summary.equivalence`); that it is higher than another's, by the 95% interval of their difference over examples
and seeds; that it is at least or at most a value, by its own interval. Seeds vary as those of the check's models of
three runs or more do, at the lengths concerned; those of a model that guesses vary as a guess does, and say nothing of
others. Where no model says how seeds vary, which of two scores is higher is told of these runs alone, and said so. Test
sets are taken as drawn independently, which is cautious where they are one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lra_bench import statistics
from lra_bench.calibration import made
from lra_bench.calibration.made import Made
from lra_bench.config.calibration import AtChance, AtLeast, AtMost, Better, Check, Expectation, Published, Same, parted
from lra_bench.metrics import ACCURACY
from lra_bench.records import store
from lra_bench.records.schema import SCORED, Result
from lra_bench.report.summary import equivalence
from lra_bench.report.summary.equivalence import Equivalence, Score
from lra_bench.sweeps import Entrant

REPRODUCED, DIFFERS, UNTOLD = "reproduced", "differs", "cannot be told"
INSIDE = "the interval holds both"
OF_NO_SEEDS = statistics.Spread(0.0, math.inf, 0)  # of these runs, and no others
OF_EQUIVALENCE = {equivalence.EQUIVALENT: REPRODUCED, equivalence.DIFFERS: DIFFERS, equivalence.UNTOLD: UNTOLD}


@dataclass(frozen=True)
class Outcome:
    """What the runs of a entrant came to, at one length of test."""

    entrant: Entrant
    length: int | None  # None: the task's own
    rate: float | None  # the learning rate that was chosen
    scores: tuple[float, ...]  # of test, a run each
    examples: int  # of test
    chance: float | None  # chance level on test; None where nothing ran
    lacking: str | None  # why there is no verdict, in words
    made: tuple[Made, ...]  # a run each

    @classmethod
    def of(cls, entrant: Entrant, length: int | None, results: Path) -> Outcome:
        """What lies in the results folder."""
        every = entrant.expected(results)
        left = sum(store.done(results, run) is None for run in every)
        found = [store.done(results, run) for run in entrant.seeds(results)]
        scored = [one for one in found if one is not None and one.status in SCORED]
        scores = [score for one in scored if (score := _at(one, length)) is not None]
        lacking = (
            f"{left} of {len(every)} runs are left" if left else _unscored(entrant, found, scores, length, results)
        )
        examples, chance = (scored[0].test_n or 0, scored[0].chance) if scored else (0, None)
        runs = made.of(entrant, results)
        return cls(entrant, length, entrant.chosen(results), tuple(scores), examples, chance, lacking, runs)

    @property
    def name(self) -> str:
        """The model, and the arm as an expectation names it."""
        return f"{self.entrant.model} of {self.entrant.arm}{f'@{self.length}' if self.length else ''}"

    @property
    def interval(self) -> statistics.Interval | None:
        """The mean score with its 95% interval, over examples or seeds, whichever reaches farther; None without one."""
        return statistics.over_runs(ACCURACY, self.scores, self.examples, None) if self.scores else None

    @property
    def guesses(self) -> bool:
        """Is the mean score no better than chance level, as far as examples can tell?"""
        if not self.scores or self.chance is None:
            return False
        over = statistics.over_examples(ACCURACY, float(np.mean(self.scores)), self.examples, None)
        return not statistics.learned(ACCURACY, over, self.chance)

    @property
    def score(self) -> Score:
        """As the test of equivalence takes it."""
        variance = float(np.var(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0
        return Score(float(np.mean(self.scores)), self.examples, len(self.scores), variance)


def _at(result: Result, length: int | None) -> float | None:
    if length is None:
        return result.test_score
    score: float | None = json.loads(result.test_at or "{}").get(str(length))
    return score


def _unscored(
    entrant: Entrant, found: Sequence[Result | None], scores: Sequence[float], length: int | None, results: Path
) -> str | None:
    """Why runs that are done have no score; None where each has one."""
    if len(scores) == len(found) and scores:
        return None
    ended = [store.done(results, run) for run in entrant.expected(results)]
    failed = dict.fromkeys(one.status for one in ended if one is not None and one.status not in SCORED)
    return f"failed: {', '.join(failed)}" if failed else f"not tested at length {length}"


class Verdict(NamedTuple):
    """A claim on one model, and what its runs say of it."""

    check: str
    claim: str
    ours: Outcome
    theirs: Outcome | None  # that it is held against, if that is of another arm
    published: float | None  # that it is held against, if that is a published score
    expected: str  # in words
    verdict: str
    difference: float | None  # ours less what is expected
    low: float | None  # its 95% interval
    high: float | None
    why: str | None  # of what is not reproduced, or is told of these runs alone


def verdicts(name: str, check: Check, entrants: Sequence[Entrant], results: Path) -> list[Verdict]:
    """The verdict of each expectation on each model of its arm, by what lies in the results folder."""
    every = {(entrant, length): Outcome.of(entrant, length, results) for entrant, length in _tested(check, entrants)}
    lenders = _lenders(check, list(every.values()))
    return [
        _verdict(name, expected, every[ours], every[theirs] if theirs else None, lenders)
        for expected in check.expectations
        for ours, theirs in _pairs(expected, entrants)
    ]


Tested = tuple[Entrant, int | None]


def _tested(check: Check, entrants: Sequence[Entrant]) -> Iterator[Tested]:
    for expected in check.expectations:
        for ours, theirs in _pairs(expected, entrants):
            yield from (ours, theirs) if theirs else (ours,)


def _pairs(expected: Expectation, entrants: Sequence[Entrant]) -> list[tuple[Tested, Tested | None]]:
    """Each model of the arm; where another arm is named, beside the same model there, or each where it is not there."""
    ours = _of_arm(expected.arm, entrants)
    if not isinstance(expected, Better | Same):
        return [(one, None) for one in ours]
    theirs = _of_arm(expected.than, entrants)
    models = {entrant.model for entrant, _ in theirs}
    return [(a, b) for a, b in product(ours, theirs) if a[0].model == b[0].model or a[0].model not in models]


def _of_arm(named: str, entrants: Sequence[Entrant]) -> list[Tested]:
    arm, length = parted(named)
    return [(entrant, length) for entrant in entrants if entrant.arm == arm]


def _lenders(check: Check, every: Sequence[Outcome]) -> dict[Outcome, bool]:
    """Of each outcome: do its seeds say how those of others vary? Not where it guesses, or its check holds it low."""
    low = {parted(one.arm) for one in check.expectations if isinstance(one, AtChance | AtMost)}
    return {one: not one.guesses and (one.entrant.arm, one.length) not in low for one in every}


def _verdict(
    name: str, expected: Expectation, ours: Outcome, theirs: Outcome | None, lenders: Mapping[Outcome, bool]
) -> Verdict:
    known = expected.value if isinstance(expected, Published) else None
    said = _words(expected, ours, theirs)
    lacking = "; ".join(one.lacking for one in (ours, theirs) if one and one.lacking)
    if lacking:
        return Verdict(name, expected.claim, ours, theirs, known, said, UNTOLD, None, None, None, lacking)
    sides = [one for one in (ours, theirs) if one]
    verdict, held, why = _judged(expected, ours, theirs, _spread(sides, lenders))
    return Verdict(name, expected.claim, ours, theirs, known, said, verdict, held.difference, held.low, held.high, why)


def _spread(sides: Sequence[Outcome], lenders: Mapping[Outcome, bool]) -> statistics.Spread | None:
    """How seeds vary at the lengths of what is judged: as lenders say, and the arms judged where none of them has too
    few runs to say it itself."""
    lengths = {one.length for one in sides}
    borrow = any(len(one.scores) < statistics.LEAST_RUNS for one in sides)
    own = set() if borrow else {one.entrant.arm for one in sides}
    asked = [one for one, lends in lenders.items() if one.length in lengths and (lends or one.entrant.arm in own)]
    return statistics.spread([one.scores for one in asked])


def _words(expected: Expectation, ours: Outcome, theirs: Outcome | None) -> str:
    """What is expected of the score, in percent."""
    match expected:
        case AtChance():
            known = "" if ours.chance is None else f", {100 * ours.chance:.1f}"
            return f"chance{known}, within {100 * expected.margin:g}"
        case AtLeast():
            return f"at least {100 * expected.value:g}"
        case AtMost():
            return f"at most {100 * expected.value:g}"
        case Published():
            return f"{100 * expected.value:g}, within {100 * expected.margin:g}"
        case Better() | Same():
            other = theirs.name if theirs else expected.than
            if isinstance(expected, Same):
                return f"{other}, within {100 * expected.margin:g}"
            return f"above {other}" + (f" by {100 * expected.by:g}" if expected.by else "")


def _judged(
    expected: Expectation, ours: Outcome, theirs: Outcome | None, spread: statistics.Spread | None
) -> tuple[str, Equivalence, str | None]:
    """The verdict, the difference that it is of, and why it is not reproduced."""
    if isinstance(expected, AtLeast | AtMost):
        return _bounded(expected, ours)
    target = _target(expected, ours, theirs)
    if isinstance(expected, Better):
        held = equivalence.held(ours.score, target, spread or OF_NO_SEEDS, expected.by)
        verdict, why = _better(expected.by, held)
        if spread:
            return verdict, held, why
        # these runs show that it can be so, not that it cannot
        return (
            REPRODUCED if verdict == REPRODUCED else UNTOLD,
            held,
            "; ".join(filter(None, (why, _alone(ours, theirs)))),
        )
    held = equivalence.held(ours.score, target, spread, expected.margin)
    verdict = OF_EQUIVALENCE[held.verdict]
    return verdict, held, None if verdict == REPRODUCED else held.said.removeprefix(f"{UNTOLD}, ")


def _target(expected: Expectation, ours: Outcome, theirs: Outcome | None) -> Score:
    """What the score is held against."""
    if theirs is not None:
        return theirs.score
    if isinstance(expected, Published):
        return Score(expected.value, expected.examples or ours.examples, expected.runs or 1)
    return Score(ours.chance or 0.0, math.inf, math.inf)


def _bounded(expected: AtLeast | AtMost, ours: Outcome) -> tuple[str, Equivalence, str | None]:
    """By the interval of these runs. One that gets to the value shows that it can be got to; that it cannot, takes
    three that do not."""
    score, low, high = statistics.over_runs(ACCURACY, ours.scores, ours.examples, None)
    held = Equivalence(UNTOLD, score - expected.value, low - expected.value, high - expected.value, None)
    seeds = statistics.LEAST_RUNS - len(ours.scores)
    if held.low >= 0:
        return (REPRODUCED, held, None) if isinstance(expected, AtLeast) else (DIFFERS, held, "surely more")
    if held.high <= 0 and seeds <= 0:
        return (REPRODUCED, held, None) if isinstance(expected, AtMost) else (DIFFERS, held, "surely less")
    return UNTOLD, held, _more(seeds) if seeds > 0 else INSIDE


def _better(by: float, held: Equivalence) -> tuple[str, str | None]:
    """By the interval of the difference."""
    if held.low > by:
        return REPRODUCED, None
    if held.high < by:
        return DIFFERS, "surely not"
    return UNTOLD, INSIDE


def _alone(*sides: Outcome | None) -> str:
    """That a verdict is of these runs and no others."""
    each = {len(one.scores) for one in sides if one}
    return f"{'one run each' if each == {1} else 'of these runs alone'}; nothing is known of other seeds"


def _more(seeds: int) -> str:
    return f"needs {seeds} more seed{'s' if seeds > 1 else ''}"
