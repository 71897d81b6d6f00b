"""What changed between two results folders: of each model on each column, how sure that is, and whether it is worse.

A score is compared over examples and seeds; a time by its runs, or by the spread of their steps; a size, which a
compiler planned, as it stands. What finished and does not now, or is not there, is a change too. Scores are compared on
the same data alone, times and sizes on the same machine alone; the code is what is compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lra_bench import statistics
from lra_bench.metrics import named
from lra_bench.records.schema import SCORED
from lra_bench.report.summary import places, ranks, summing
from lra_bench.report.summary.places import BUILD, HARDWARE, PLACE
from lra_bench.report.summary.summing import COLUMN, newest_of_seeds
from lra_bench.report.tables import VALUE

MACHINE = (*HARDWARE, "processes", "jobs", "matmul", "deterministic", "environment")
STATUS, MISSING, OTHER_DATA = "status", "missing", "other data"
SINGLE = f"not told: no model of the column has the {statistics.LEAST_RUNS} seeds from which a variance is taken"
ELSEWHERE = "not compared: measured on other machines"
UNMEASURED = "not measured in both"
BARE = "the bare ratio"
FOUND = ["first", "second", "change", "low", "high", "p", "worse_by", "was", "now", "why"]
FOUND += ["first_fallback", "second_fallback", "first_load", "second_load"]
DECILES = 2.5631  # standard deviations between the 10th and the 90th percentile of a normal distribution
SURE = 10**6  # degrees of freedom of a variance that is known

KEYS = [key for key in COLUMN if key not in ("data_hash", "config_hash")]  # a config may have changed since

Line = dict[str, Any]


def changes(
    frame: pd.DataFrame, what: Sequence[str], by: str = "model", elsewhere: pd.DataFrame | None = None
) -> pd.DataFrame:
    """A row a model (or family), column and thing measured that both origins of `frame` have, and one for each run that
    finished in the first and did not in the second, or is not there.

    `p` is of no change, `p_holm` after Holm (1979) over all of them; `sure` says that a change is no chance: p_holm is
    below `stats.ALPHA`, or there is no chance in it. In one of twenty comparisons of equals at most is any sure.
    Rows of `elsewhere` tell how scores vary over seeds too.
    """
    origins = list(dict.fromkeys(frame["origin"]))
    rows = places.settled(frame.assign(model=_labels(frame)), COLUMN)
    if elsewhere is not None:
        more = elsewhere[~elsewhere["run"].isin(frame["run"])]
        more = more.assign(model=summing.labels(more), origin="", step_ms_p50=None)
        rows = pd.concat([rows, places.settled(more, COLUMN)], ignore_index=True)
    rows["newest"] = rows.index.isin(newest_of_seeds(rows, ["origin", "model", *COLUMN]).index)
    by_column: dict[str, list[Line]] = {}
    for run in _runs(rows):
        by_column.setdefault(json.dumps([run[key] for key in KEYS], default=float), []).append(run)
    found = [line for column in by_column.values() for line in _of_column(column, origins, what, by)]
    return _told(pd.DataFrame(found, columns=list(dict.fromkeys([*COLUMN, by, "what", *FOUND]))))


def _runs(rows: pd.DataFrame) -> list[Line]:
    """The rows as mappings, missing as None."""
    plain = rows.astype(object).where(rows.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in plain.to_dict("records")]


def _of_column(runs: Sequence[Line], origins: Sequence[str], what: Sequence[str], by: str) -> Iterator[dict[str, Any]]:
    """What changed on one column."""
    spreads = _Spreads(runs) if by == "model" else None
    for name in dict.fromkeys(run[by] for run in runs):
        its = [[run for run in runs if run[by] == name and run["origin"] == origin] for origin in origins]
        for config, alike in _of_same_config(its):
            for data, sides in _of_same_data(alike):
                at = {key: runs[0][key] for key in KEYS} | {"data_hash": data, "config_hash": config, by: name}
                newest = [[run for run in side if run["newest"]] for side in sides]
                yield from (at | {"what": STATUS} | one for one in _statuses(newest))
                scored = [_scored(side) for side in sides]
                if all(scored) and _data(sides[0])[:1] == [data]:
                    yield from (at | {"what": one} | _compared(one, scored, data, spreads) for one in what)


def _of_same_config(sides: Sequence[Sequence[Line]]) -> Iterator[tuple[Any, list[list[Line]]]]:
    """Both sides' runs under each of several configs of one name, where both sides have one of them. A config that was
    changed between the folders is compared as it stands in each; of several in one of them, the last that ran."""
    here, there = ([run["config_hash"] for run in side] for side in sides)
    if common := [one for one in dict.fromkeys(here) if one in there]:
        for one in common:
            told = one if len({*here, *there}) > 1 else None
            yield told, [[run for run in side if run["config_hash"] == one] for side in sides]
        return
    newest = [max(side, key=lambda run: str(run["started"] or ""), default=None) for side in sides]
    last = [one and one["config_hash"] for one in newest]
    yield None, [[run for run in side if run["config_hash"] == one] for side, one in zip(sides, last, strict=True)]


def _scored(side: Sequence[Line]) -> list[Line]:
    return [run for run in side if run["status"] in SCORED]


def _data(side: Sequence[Line]) -> list[Any]:
    """The hashes of the data of the runs that are scored."""
    return list(dict.fromkeys(run["data_hash"] for run in _scored(side)))


def _told(found: pd.DataFrame) -> pd.DataFrame:
    p = found["p"].astype(float)
    raised = pd.Series(np.nan, p.index)
    raised[p.notna()] = statistics.holm(list(p.dropna()))
    certain = (found["what"] == STATUS) | (found["why"] == BARE) | ((found["what"] == "memory") & found["why"].isna())
    return found.assign(p_holm=raised, sure=(raised < statistics.ALPHA) | (certain & (found["change"] != 1)))


def _labels(frame: pd.DataFrame) -> pd.Series:
    """As `summing.labels`; a model that has one setting in each folder is one line, though the code gave it another."""
    settings = frame.groupby(["origin", "model", *COLUMN], dropna=False)["options"].transform("nunique")
    one = (settings <= 1).groupby(frame["model"]).transform("all")
    return summing.labels(frame.assign(options=frame["options"].where(~one)))


def other_settings(frame: pd.DataFrame) -> Iterator[str]:
    """A note for each model whose hyperparameters are not the same in both folders."""
    origins = list(dict.fromkeys(frame["origin"]))
    for model, rows in frame.dropna(subset="options").groupby("model", sort=False):
        first, second = (set(rows.loc[rows["origin"] == origin, "options"]) for origin in origins)
        if len(first) == len(second) == 1 and first != second:
            old, new = (json.loads(next(iter(one))) for one in (first, second))
            unlike = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            said = ", ".join(f"{key} {old.get(key, 'not there')} -> {new.get(key, 'not there')}" for key in unlike)
            yield f"{model}: other hyperparameters: {said}"


def _of_same_data(sides: Sequence[Sequence[Line]]) -> Iterator[tuple[Any, list[list[Line]]]]:
    """Both sides' runs on each data that both have, with those that failed; if there is none, all of them, on what the
    second has."""
    here, there = map(_data, sides)
    common = [data for data in here if data in there]
    for data in common:
        yield data, [[run for run in side if run["data_hash"] == data or run["status"] not in SCORED] for side in sides]
    if not common:
        yield (there or here or [None])[0], [list(side) for side in sides]


def _statuses(sides: Sequence[Sequence[Line]]) -> Iterator[dict[str, Any]]:
    """What finished in the first and did not in the second, a run a line; what is not there at all; other data."""
    old, new = sides
    if not _scored(old):
        return
    if not new:
        yield {"was": _status_of(old), "now": MISSING}
    elif _scored(new) and not set(_data(old)) & set(_data(new)):
        before, after = ((_data(side)[0] or "unknown")[:10] for side in sides)
        yield {"was": f"data {before}", "now": f"{OTHER_DATA} {after}"}
    for run in new:
        like = [one for one in old if one["seed"] == run["seed"]] or old
        if run["status"] not in SCORED and _scored(like):
            yield {"was": _status_of(like), "now": f"{run['status']}{_seed(run)}"}
        elif run["status"] == "at-chance" and all(one["status"] == "ok" for one in like) and _is_below(run, like):
            yield {"was": "ok", "now": f"{run['status']}{_seed(run)}"}


def _status_of(side: Sequence[Line]) -> str:
    return "ok" if any(run["status"] == "ok" for run in side) else str(_scored(side)[0]["status"])


def _seed(run: Line) -> str:
    return "" if run["seed"] is None else f" (seed {run['seed']:.0f})"


def _is_below(run: Line, old: Sequence[Line]) -> bool:
    """Do the intervals over examples of a run and of those before it not meet? Else it is perhaps as it was, at the
    edge of what counts as learned."""
    metric = named(run["metric"])
    ours, *theirs = (
        statistics.over_examples(metric, one["test_score"], int(one["test_n"]), one["test_spread"])
        for one in (run, *old)
    )
    return all(ours.high < one.low if metric.higher else ours.low > one.high for one in theirs)


class _Spreads:
    """How scores and times vary from run to run of one model, as all models of a column say on one data; kept."""

    def __init__(self, column: Sequence[Line]) -> None:
        self.runs = _scored(column)
        self.known: dict[tuple[str, Any], statistics.Spread | None] = {}

    def of(self, what: str, data: Any) -> statistics.Spread | None:
        """Of a thing measured; None if too few runs say it. Those of one folder, place and build vary by chance."""
        if (what, data) not in self.known:
            each: dict[Any, list[float]] = {}
            for run in self.runs:
                value = run[VALUE[what]]
                if value is None or run["data_hash"] != data:
                    continue
                if what != "accuracy":
                    each.setdefault((run["origin"], run["model"], _place(run)), []).append(math.log(value))
                elif run["newest"] and not run.get("start"):  # what began with another run's parameters varies with it
                    each.setdefault((run["origin"], run["model"], run["config_hash"]), []).append(value)
            self.known[what, data] = statistics.pooled([np.array(values, float)[:, None] for values in each.values()])
        return self.known[what, data]


def _place(run: Line) -> tuple[Any, ...]:
    return tuple(run[key] for key in (*PLACE, *BUILD))


def _compared(what: str, sides: Sequence[Sequence[Line]], data: Any, spreads: _Spreads | None) -> dict[str, Any]:
    """One thing that is measured: both values, and the change with what chance says of it."""
    there = [[run for run in side if run[VALUE[what]] is not None] for side in sides]
    if what == "accuracy":
        there = [[run for run in side if run["newest"]] for side in there]
    if not all(there):
        return _values(what, there) | {"why": UNMEASURED}
    spread = spreads.of(what, data) if spreads else None
    if what == "accuracy":
        return _values(what, there) | _score(there, spread)
    pair = _in_one_place(there)
    if pair is None:
        return _values(what, [_groups(side)[0] for side in there]) | {"why": ELSEWHERE}
    if what == "memory":
        first, second = (float(np.mean([run[VALUE[what]] for run in side])) for side in pair)
        ratio = second / first
        return _values(what, pair) | {"change": ratio, "low": ratio, "high": ratio, "worse_by": ratio - 1}
    return _values(what, pair) | _ratio(pair, spread)


def _values(what: str, sides: Sequence[Sequence[Line]]) -> dict[str, Any]:
    means = [float(np.mean([run[VALUE[what]] for run in side])) if side else None for side in sides]
    fitted = [side[0]["fallback"] if side and what != "accuracy" else None for side in sides]
    known = [[run.get("other_load") or 0.0 for run in side] if what == "speed" else [] for side in sides]
    loads = [max(side, default=None) for side in known]
    return {
        **{"first": means[0], "second": means[1], "first_fallback": fitted[0], "second_fallback": fitted[1]},
        **{"first_load": loads[0], "second_load": loads[1]},
    }


def _groups(side: Sequence[Line]) -> list[list[Line]]:
    """The runs of each place and build, those first that ran last."""
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for run in side:
        groups.setdefault(_place(run), []).append(run)
    return sorted(groups.values(), key=lambda runs: max(str(run["started"] or "") for run in runs), reverse=True)


def _in_one_place(sides: Sequence[Sequence[Line]]) -> list[list[Line]] | None:
    """Of each side the newest runs on a machine that the other has too; a fact that one lacks is the same."""
    for new in _groups(sides[1]):
        for old in _groups(sides[0]):
            facts = [(old[0][key], new[0][key]) for key in MACHINE]
            if all(one is None or other is None or one == other for one, other in facts):
                return [old, new]
    return None


def _score(sides: Sequence[Sequence[Line]], spread: statistics.Spread | None) -> dict[str, Any]:
    """The second's mean score less the first's: on the same examples where both keep them, with the variance over seeds
    of the column. Without that nothing is told."""
    metric = named(sides[0][0]["metric"])
    before = float(np.mean([run["test_score"] for run in sides[0]]))
    old, new = _scores(sides)
    over = statistics.every_two([new, old], spread)[0]
    worse = -over.difference if metric.higher else over.difference
    share = worse / before if before else math.inf * np.sign(worse)
    found = {"change": over.difference, "low": over.low, "high": over.high, "worse_by": share}
    return found | ({"why": SINGLE} if spread is None else {"p": over.p})


def _scores(sides: Sequence[Sequence[Line]]) -> list[np.ndarray]:
    """Of each side [runs, examples]; where they are not kept, each run's score, as of two examples alike."""
    kept = [_kept(side) for side in sides]
    whole = [one for one in kept if one is not None]
    if len(whole) == len(sides) and len({one.shape[1] for one in whole}) == 1:
        return whole
    return [np.array([[run["test_score"]] * 2 for run in side], float) for side in sides]


def _kept(side: Sequence[Line]) -> np.ndarray | None:
    """The scores of each run's examples; None if one's are not kept."""
    if any(run["folder"] is None for run in side):
        return None
    found = ranks.scores(pd.DataFrame(side).assign(model="it")).get("it")
    return found if found is not None and len(found) == len(side) else None


def _ratio(sides: Sequence[Sequence[Line]], spread: statistics.Spread | None) -> dict[str, Any]:
    """The second's median time over the first's, of logarithms: with the variance over runs of the column, else that of
    the steps themselves.

    The median of another run is taken to lie as far off as another step: what else the machine does lasts longer than a
    step. (results/quick, mqar, 41 models, three runs each, one machine: medians vary by 12.1%, steps by 12.3%. That of
    independent steps, over the root of their number, would be ten times too sure.) Where not even that is known, the
    bare ratio stands for itself.
    """
    logs = [np.array([[math.log(run["step_ms_p50"])] * 2 for run in side]) for side in sides]
    ratio = math.exp(logs[1].mean() - logs[0].mean())
    spread = spread or _of_steps([run for side in sides for run in side])
    if spread is None:
        return {"change": ratio, "worse_by": ratio - 1, "why": BARE}
    over = statistics.every_two([logs[1], logs[0]], spread)[0]
    low, high = math.exp(over.low), math.exp(over.high)
    return {"change": ratio, "low": low, "high": high, "p": over.p, "worse_by": ratio - 1}


def _of_steps(runs: Sequence[Line]) -> statistics.Spread | None:
    """Of the logarithms of a run's steps, by their deciles."""
    deciles = [(run["step_ms_p10"], run["step_ms_p90"]) for run in runs]
    if any(one is None for pair in deciles for one in pair):
        return None
    variance = float(np.mean([(math.log(high / low) / DECILES) ** 2 for low, high in deciles]))
    return statistics.Spread(variance, SURE, len(runs)) if variance > 0 else None


def regressions(changed: pd.DataFrame, limit: float) -> pd.DataFrame:
    """What became worse by more than `limit`, a share of what it was, and not by chance; and what does not finish."""
    return changed[(changed["what"] == STATUS) | ((changed["worse_by"] > limit) & changed["sure"])]


def untold(changed: pd.DataFrame) -> pd.DataFrame:
    """What nothing can be said of, and why."""
    return changed[changed["why"].notna() & (changed["why"] != BARE)]
