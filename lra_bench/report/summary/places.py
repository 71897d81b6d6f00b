"""Where a time or a size was measured: the machine, and the code. What differs in one of them is never averaged.

A place is the same for all models of a column: PLACE. What differs between models by nature, or by what a step of one
of them needed, is its BUILD: the code of its parts, and the memory fallback.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lra_bench.records.schema import SCORED

HARDWARE = ("platform", "device", "devices")
CODE = ("code_hash", "commit")  # the commit where the code's hash is not known
PLACE = (*HARDWARE, "processes", "jobs", "matmul", "deterministic", "environment", "versions", *CODE)
BUILD = ("parts_hash", "fallback", "accumulate")
NUMBERS = ("devices", "processes", "jobs", "accumulate")
LIBRARIES = ("lra-bench", "numpy", "orbax-checkpoint")  # of `versions`, those that move no time and no size of a step
JOINED = "; "  # between the values of several runs
DIGITS = 7  # of a hash, in a header
DETERMINISTIC = {True: "deterministic", False: "not deterministic", None: "determinism unknown"}

Place = tuple[Any, ...]


def settled(frame: pd.DataFrame, column: Sequence[str], data: str = "data_hash") -> pd.DataFrame:
    """The rows with PLACE and BUILD as keys: missing is None, libraries that move no time left out, no commit where the
    code's hash is known. A failed row does not say all of these: it takes those of the only place, or data, that its
    column has, if there is only one; `column` are the keys of a column.
    """
    rows = frame.reindex(columns=list(dict.fromkeys([*frame.columns, *PLACE, *BUILD, data])))
    rows = rows.assign(versions=rows["versions"].map(_libraries, na_action="ignore"))
    for key in NUMBERS:
        rows[key] = rows[key].astype(float)
    rows = rows.astype(dict.fromkeys((*PLACE, *BUILD), object))
    keys = [*PLACE, *BUILD]
    rows[keys] = rows[keys].where(rows[keys].notna(), None)
    rows = _filled(with_data(rows, column, data), column, PLACE)
    rows = _filled(rows, [*column, "model", *PLACE], BUILD)
    return rows.assign(commit=_commits(rows))


def with_data(rows: pd.DataFrame, column: Sequence[str], data: str = "data_hash") -> pd.DataFrame:
    """The rows, failed ones with the data of the only ones that their column has, if there is only one."""
    known = rows[data].astype(object)
    rows = rows.assign(**{data: known.where(known.notna(), None)})
    return _filled(rows, [key for key in column if key != data], [data])


def _commits(rows: pd.DataFrame) -> pd.Series:
    """Each row's commit where its code's hash is not known, with + where the code was not quite the commit's."""
    changed = rows["dirty"].eq(True) if "dirty" in rows else pd.Series(False, rows.index)
    said = rows["commit"].where(~changed | rows["commit"].isna(), rows["commit"].astype(str) + "+")
    return said.where(rows["code_hash"].isna(), None)


def _libraries(versions: Any) -> str | None:
    """Without LIBRARIES; of a row of scores that was summed before, of each of its runs' versions."""
    every = [json.loads(one) for one in str(versions).split(JOINED) if one]
    kept = [{name: said for name, said in one.items() if name not in LIBRARIES} for one in every]
    return JOINED.join(sorted({json.dumps(one, sort_keys=True) for one in kept})) or None


def _filled(rows: pd.DataFrame, within: Sequence[str], keys: Sequence[str]) -> pd.DataFrame:
    """Failed rows with the `keys` of the only ones that are finished and like them, `within` the same and as far as
    they say it."""
    failed = ~rows["status"].isin(SCORED) & ~(rows.get("finished", pd.Series(0, rows.index)).fillna(0) > 0)
    if not failed.any() or failed.all():
        return rows
    rows = rows.copy()
    known: dict[str, list[Place]] = {}
    for row in rows.loc[~failed, [*within, *keys]].to_dict("records"):
        known.setdefault(_key(row, within), []).append(tuple(row[key] for key in keys))
    for index, row in zip(rows.index[failed], rows.loc[failed].to_dict("records"), strict=True):
        there = set(known.get(_key(row, within), ()))
        said = [(i, row[key]) for i, key in enumerate(keys) if not _missing(row[key])]
        like = {one for one in there if all(one[i] == value for i, value in said)} or there
        if len(like) == 1:
            for key, value in zip(keys, next(iter(like)), strict=True):
                rows.at[index, key] = value
    return rows


def _key(row: Mapping[Any, Any], keys: Sequence[str]) -> str:
    return json.dumps([None if _missing(row[key]) else row[key] for key in keys], default=float)


def _missing(value: Any) -> bool:
    return bool(pd.isna(value))


def of(row: Mapping[Any, Any]) -> Place:
    """What says where a row was measured; missing is None."""
    return tuple(None if _missing(row[key]) else row[key] for key in PLACE)


def newest(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of the place and build that ran last."""
    groups = [group for _, group in rows.groupby([*PLACE, *BUILD], dropna=False, sort=False)]
    return max(groups, key=lambda group: max(str(at) for at in group["started"]))


def headers(measured: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Each row's header: the name of its column, and what of its place tells it from the column's other places."""
    rows = [(name, of(row)) for name, row in zip(names, measured.to_dict("records"), strict=True)]
    told: dict[tuple[str, Place], str] = {}
    for name in dict.fromkeys(names):
        every = list(dict.fromkeys(place for named, place in rows if named == name))
        for place, words in zip(every, apart(every), strict=True):
            told[name, place] = f"{name}, {words}" if words else name
    return [told[row] for row in rows]


def apart(every: Sequence[Place]) -> list[str]:
    """Words for each of several places, as few as tell one from another; none for a single one."""
    said: list[list[str]] = [[] for _ in every]
    for words in _facets(every):
        before = {tuple(one) for one in said}
        after = {(*one, word) for one, word in zip(said, words, strict=True)}
        if len(after) > len(before):
            for one, word in zip(said, words, strict=True):
                one.append(word)
    joined = [", ".join(one) for one in said]
    return [f"{one} #{joined[: i + 1].count(one)}" if joined[:i].count(one) else one for i, one in enumerate(joined)]


def _facets(every: Sequence[Place]) -> Iterator[list[str]]:
    """A word a place for each thing that may differ between them, what moves a time most first."""
    facts = [dict(zip(PLACE, place, strict=True)) for place in every]
    models = {one["device"] for one in facts if one["platform"] == "cpu"}
    yield [_hardware(one, several=len(models) > 1) for one in facts]
    yield [_code(one) for one in facts]
    yield [_unlike(one["versions"], [other["versions"] for other in facts]) for one in facts]
    yield [f"{one['matmul']} products" if one["matmul"] else "products' precision unknown" for one in facts]
    yield [DETERMINISTIC[one["deterministic"]] for one in facts]
    yield [_count(one["jobs"], "job", "jobs at once") for one in facts]
    yield [_count(one["processes"], "process", "processes") for one in facts]
    yield [_unlike(one["environment"], [other["environment"] for other in facts]) for one in facts]


def _hardware(facts: Mapping[str, Any], *, several: bool) -> str:
    """`1 x NVIDIA H100`, `4 x CPU devices`, or the only CPU by its name; `several`: of CPUs of several names."""
    name, count = facts["device"] or facts["platform"], facts["devices"]
    if name is None:
        return "device unknown"
    if facts["platform"] != "cpu":
        return f"{count:.0f} x {name}" if count else str(name)
    if not count or count == 1:
        return str(name)
    return f"{count:.0f} x CPU devices" + (f" of {name}" if several else "")


def _code(facts: Mapping[str, Any]) -> str:
    if facts["code_hash"]:
        return f"code {str(facts['code_hash'])[:DIGITS]}"
    commit = facts["commit"]
    return f"commit {commit[:DIGITS]}{'+' * commit.endswith('+')}" if commit else "code unknown"


def _count(value: float | None, one: str, several: str) -> str:
    return f"{several} unknown" if value is None else f"1 {one}" if value == 1 else f"{value:.0f} {several}"


def _unlike(text: str | None, others: Sequence[str | None]) -> str:
    """Of a JSON mapping, what is not the same in all."""
    every = [json.loads(other) if other else {} for other in others]
    ours = json.loads(text) if text else {}
    keys = sorted({key for one in every for key in one if any(one.get(key) != other.get(key) for other in every)})
    return ", ".join(f"{key} {ours.get(key, 'unknown')}" for key in keys)


def whole(place: Place, *, libraries: bool = True) -> str:
    """What is known of a place, in words; empty where nothing is."""
    facts = dict(zip(PLACE, place, strict=True))
    said = [_hardware(facts, several=True)] if facts["device"] or facts["platform"] else []
    said += [_count(facts["processes"], "process", "processes")] if (facts["processes"] or 1) > 1 else []
    said += [_count(facts["jobs"], "job", "jobs at once")] if (facts["jobs"] or 1) > 1 else []
    said += [f"{facts['matmul']} products"] if facts["matmul"] else []
    said += ["deterministic"] if facts["deterministic"] else []
    said += [_code(facts)] if facts["code_hash"] or facts["commit"] else []
    said += [" ".join(pair) for pair in json.loads(facts["versions"] or "{}").items()] if libraries else []
    return "; ".join(said)


def tag(fitted: Any) -> str:
    """The memory fallback that a time or a size is of, to stand behind the number; empty where there was none."""
    return "" if _missing(fitted) else f" {fitted}"


def parts(measured: pd.DataFrame, heads: Sequence[str], by: str) -> pd.Series:
    """To stand behind a row's number: the hash of its parts' code, where its model stands there with several."""
    if "parts_hash" not in measured or by != "model":
        return pd.Series("", measured.index)
    hashes = measured["parts_hash"].astype(object).where(measured["parts_hash"].notna(), "unknown").astype(str)
    several = hashes.groupby([measured[by], pd.Series(list(heads), measured.index)]).transform("nunique") > 1
    return (" parts " + hashes.str[:DIGITS]).where(several, "")


def notes(measured: pd.DataFrame, heads: Sequence[str]) -> Iterator[str]:
    """Where each column was measured, its libraries where they are not the same in all; what a fallback is, if any."""
    several = measured["versions"].nunique(dropna=False) > 1
    for head, row in dict(zip(heads, measured.to_dict("records"), strict=True)).items():
        if said := whole(of(row), libraries=several):
            yield f"{head}: measured on {said}"
    if measured["fallback"].notna().any():
        yield "accumulate k, remat: the step did not fit in memory; it was run in k micro-batches, or recomputes layers"


def mixed(summed: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    """A note for each column whose scores are not known to be of the same code, libraries and precision."""
    done = summed.assign(column=list(names))[summed["finished"] > 0]
    for name, rows in done.groupby("column", sort=False):
        yield from _mixed(str(name), rows)


def _mixed(name: str, rows: pd.DataFrame) -> Iterator[str]:
    hashes, commits = _all_of(rows["code_hash"]), _all_of(rows["commit"])
    if len(hashes) > 1 and not commits:
        yield f"{name}: NOT OF THE SAME CODE, its results have {len(hashes)} hashes: {_short(hashes)}"
    elif len(hashes) + len(commits) > 1:
        said = [f"{len(hashes)} hashes: {_short(hashes)}"] if hashes else []
        said += [f"{len(commits)} commits: {_short(commits)}"]
        yield f"{name}: NOT KNOWN TO BE OF THE SAME CODE, its results are of {' and '.join(said)}"
    each = zip(rows["model"], rows["parts_hash"], strict=True)
    unlike = [model for model, joined in each if ";" in str(joined) and ", " not in model]  # of a family all are
    if unlike:
        yield f"{name}: runs NOT OF THE SAME CODE of their mixer or source: {', '.join(unlike)}"
    if len(versions := _all_of(rows["versions"])) > 1:
        yield f"{name}: NOT OF THE SAME LIBRARIES: {' / '.join(_unlike(one, versions) for one in versions)}"
    if len(precisions := _all_of(rows["matmul"])) > 1:
        yield f"{name}: NOT OF THE SAME PRECISION, float32 products were {', '.join(precisions)}"


def _all_of(joined: pd.Series) -> list[str]:
    """Each value once, of rows that hold several."""
    return list(dict.fromkeys(one for values in joined.dropna() for one in str(values).split(JOINED) if one))


def _short(hashes: Sequence[str]) -> str:
    return ", ".join(one[:10] for one in hashes)
