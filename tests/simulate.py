"""Tables of models that are all equally good, and replicas of published numbers: how often the product errs.

`python tests/simulate.py ranks` and `python tests/simulate.py against` print the tables that the docstrings of
`lra_bench.statistics.every_two` and `lra_bench.report.summary.equivalence` have.
Two numbers a run: of ranks all errors, and those of tables in which
models that fail at times do not show it; of against equivalent and differs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np

from lra_bench import statistics
from lra_bench.report.summary import ranks
from lra_bench.report.summary.equivalence import DIFFERS, EQUIVALENT, Score, held
from lra_bench.report.summary.seeds import Seeds
from lra_bench.report.tables import COLUMN

MEAN, DEVIATION = 0.38, 0.013  # of results/quick's runs on short ListOps: about what its models score, and over seeds
EXAMPLES = (
    50  # of a score that is a number, each as uncertain as 40 bits: a table of 2,000 bits takes forty times as long
)
NOISE = 0.076  # of such an example: 0.48 of a bit over the square root of 40
SHARED = 0.7  # of the noise: which examples are hard for all, and for all runs of one model
FAILED = 0.26  # what a run of a model scores that does not learn each time
KINDS = ("equal", "unequal", "mixed", "two fail", "five fail")


def table(draw: np.random.Generator, kind: str, models: int, runs: int) -> dict[str, np.ndarray]:
    """The scores [runs, EXAMPLES] of models that are equally good, each of the same mean over all seeds.

    equal: all vary over seeds by DEVIATION; unequal: by one of their own, log-normal about it; mixed: half by 0.5
    points, half by 6; two, five fail: so many models are at FAILED in every second run, and else as far above MEAN.
    """
    deviations = np.full(models, DEVIATION)
    if kind == "unequal":
        deviations *= np.exp(0.7 * draw.normal(size=models))
    elif kind == "mixed":
        deviations = np.where(np.arange(models) % 2, 0.005, 0.06)
    levels = MEAN + draw.normal(size=(models, runs)) * deviations[:, None]
    fail = {"two fail": 2, "five fail": 5}.get(kind, 0)
    levels[:fail] += np.where(draw.random((fail, runs)) < 0.5, 1, -1) * (MEAN - FAILED)
    hard = draw.normal(size=EXAMPLES) * NOISE * SHARED
    own = draw.normal(size=(models, runs, EXAMPLES)) * NOISE * (1 - SHARED**2) ** 0.5
    return {f"model {i}": scores for i, scores in enumerate(levels[:, :, None] + hard + own)}


def told_apart(scores: Mapping[str, np.ndarray]) -> bool:
    """Has any model of a table another rank than the first?"""
    spread = statistics.pooled(list(scores.values()))
    pairs = [dict.fromkeys(COLUMN) | pair for pair in ranks.every_two(dict(scores), True, spread)]
    ranking = ranks.Ranking(ranks.corrected(pairs), frozenset(), Seeds({}))
    return any(rank > 1 for rank in ranking.ranks().values())


def look_steady(scores: Mapping[str, np.ndarray], fail: int) -> bool:
    """Do the first `fail` models seem to learn, or to fail, in all their runs?"""
    means = [runs.mean(axis=1) for runs in list(scores.values())[:fail]]
    return all(float(np.ptp(one)) < MEAN - FAILED for one in means)


def errors(kind: str, models: int, runs: int, tables: int, seed: int = 0) -> tuple[float, float]:
    """The share of tables in which any two are told apart; and in which, besides, models that fail do not show it."""
    draw = np.random.default_rng(seed)
    fail = {"two fail": 2, "five fail": 5}.get(kind, 0)
    wrong = unseen = 0
    for _ in range(tables):
        scores = table(draw, kind, models, runs)
        told, hidden = told_apart(scores), fail > 0 and look_steady(scores, fail)
        wrong, unseen = wrong + told, unseen + (told and hidden)
    return wrong / tables, unseen / tables


def replica(draw: np.random.Generator, gap: float, runs: int, theirs: tuple[int, int, float]) -> str:
    """What is said of a replica `gap` better than a published number, which is of so many runs, examples, deviation."""
    their_runs, examples, deviation = theirs
    levels = MEAN + draw.normal(size=(10, 3)) * deviation
    spread = statistics.spread(list(levels))
    published = draw.binomial(examples, (MEAN + draw.normal(size=their_runs) * deviation).mean()) / examples
    easier = draw.normal() * (MEAN * (1 - MEAN) / examples) ** 0.5  # of our test set: the same for all our runs
    ours = MEAN + gap + easier + draw.normal(size=runs) * deviation
    variance = float(ours.var(ddof=1)) if runs > 1 else 0.0
    return held(
        Score(float(ours.mean()), examples, runs, variance), Score(published, examples, their_runs), spread
    ).verdict


def rates(gap: float, runs: int, theirs: tuple[int, int, float], replicas: int, seed: int = 0) -> dict[str, float]:
    """How often each verdict is given, a share of replicas."""
    draw = np.random.default_rng(seed)
    said = [replica(draw, gap, runs, theirs) for _ in range(replicas)]
    return {verdict: said.count(verdict) / replicas for verdict in (EQUIVALENT, DIFFERS)}


SETS = {"one run, 2,000 examples, 1.2 points": (1, 2000, 0.012), "five, 20,000, 0.6": (5, 20000, 0.006)}


def main(what: str, number: int = 2000) -> None:
    """Print the table of rates."""
    if what == "ranks":
        print(f"{'models':>6} {'kind':<10} " + " ".join(f"{runs:>5} runs" for runs in (2, 3, 5)))
        for models in (10, 41):
            for kind in KINDS:
                found = [errors(kind, models, runs, number if models == 10 else number // 2) for runs in (2, 3, 5)]
                said = " ".join(f"{100 * wrong:5.1f}/{100 * unseen:4.1f}" for wrong, unseen in found)
                print(f"{models:>6} {kind:<10} {said}", flush=True)
        return
    for name, theirs in SETS.items():
        print(name)
        for gap in (0, 2, 4, 8):
            found = [rates(gap / 100, runs, theirs, number) for runs in (1, 2, 3, 5)]
            print(gap, " ".join(f"{100 * f[EQUIVALENT]:5.0f}/{100 * f[DIFFERS]:3.0f}" for f in found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))
