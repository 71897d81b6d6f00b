"""Ranks: by pairs of models on the same examples, whatever the order; who has none, and why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from samples import Lra, first_fast

from lra_bench import statistics, sweeps
from lra_bench.errors import ConfigError
from lra_bench.metrics import ACCURACY, SQUARED_ERROR, TOKEN_ACCURACY
from lra_bench.records import store
from lra_bench.report import tables, techniques
from lra_bench.report.summary import ranks
from lra_bench.report.summary import seeds as over_seeds
from lra_bench.report.summary.seeds import Seeds
from lra_bench.sweeps import Request

N = 400
CHANCES = {"softmax": 0.8, "linear": 0.78, "local": 0.3}


@pytest.fixture
def results(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three models under three seeds, each with the bits of its examples."""
    monkeypatch.chdir(here)
    draw = np.random.default_rng(0)
    hard = draw.random(N)
    for run in sweeps.runs(Request(",".join(CHANCES), "short", "tiny", (0, 1, 2))):
        hits = hard + draw.normal(size=N) * 0.1 < CHANCES[run.model]
        facts = {"test_score": float(hits.mean()), "val_score": 0.5, "test_n": N, "chance": 0.2, "data_hash": "d" * 64}
        store.save(here / "results", run, store.blank(run, "ok", **facts))
        store.save_scores(store.folder(here / "results", run), hits, ACCURACY)
    return here / "results"


def ranked(frame: pd.DataFrame) -> tuple[dict[str, Any], tuple[str, ...]]:
    summed, notes = ranks.beside(frame, tables.summary(frame), "model")
    return {row["model"]: None if pd.isna(row["rank"]) else row["rank"] for row in summed.to_dict("records")}, notes


def test_a_rank_is_one_more_than_the_models_that_are_better(results: Path) -> None:
    found, notes = ranked(store.to_dataframe([results]))
    assert found == {"softmax": 1, "linear": 1, "local": 3}
    assert notes == (
        f"[rank]: one more than the models that are significantly better, in place of a bold maximum: "
        f"p < 0.05 by {statistics.SEEDS}, after Holm over 3 pairs",
        notes[1],
    )
    assert notes[1].startswith("short tiny: seeds vary by 1.")
    assert "of 3 models with 3 runs or more)" in notes[1]


def test_who_varies_most_is_named_where_it_hides_the_others(results: Path) -> None:
    frame = store.to_dataframe([results])
    assert "no two" not in " ".join(ranked(frame)[1])
    linear = frame["model"] == "linear"
    frame.loc[linear, "test_score"] += frame.loc[linear, "seed"] * 0.2
    found, notes = ranked(frame)
    assert set(found.values()) == {1}
    (said,) = (note for note in notes if "no two" in note)
    assert said.startswith("short tiny: no two models are told apart, so all that are ranked have rank 1; most of how")
    assert "is linear's, whose runs vary by" in said


@pytest.mark.parametrize(
    ("deviations", "found"),
    [([0.2, 0.01, 0.02], "a"), ([0.03, 0.02, 0.02], None), ([0.2, 0.01], None), ([0.0, 0.0, 0.0], None)],
)
def test_a_model_is_unsteady_beside_two_that_vary_far_less(deviations: list[float], found: str | None) -> None:
    most = over_seeds._unsteady(
        pd.DataFrame({"model": list("abc")[: len(deviations)], "test_sd": deviations, "finished": 3})
    )
    assert (most and most.model) == found


@pytest.mark.parametrize("seeds", first_fast(2, 1))
def test_single_runs_are_not_ranked_and_nor_are_two(results: Path, seeds: int) -> None:
    frame = store.to_dataframe([results]).query(f"seed < {seeds}")
    pairs = ranks.Ranking.of(frame).pairs
    assert len(pairs) == 3
    assert pairs[["p", "p_holm"]].isna().all(axis=None)
    assert (pairs["difference"] > 0.4).sum() == 2, "the difference and its interval over examples are there"
    assert (pairs["low"] > 0.3).sum() == 2
    found, notes = ranked(frame)
    assert set(found.values()) == {None}
    assert len(notes) == 1
    assert notes[0].startswith("short tiny: nothing is known of other seeds")
    (table,) = ranks.report(frame).tables
    assert list(table.cells["p, Holm"]) == [""] * 3
    assert any("nothing is known of other seeds" in note for note in table.notes)


def test_runs_elsewhere_say_how_seeds_vary_and_that_is_said(results: Path) -> None:
    frame = store.to_dataframe([results])
    single, others = frame.query("seed == 0"), frame[frame["model"].isin(["softmax", "linear"])]
    summed, notes = ranks.beside(single, tables.summary(single), "model", others)
    assert dict(zip(summed["model"], summed["rank"], strict=True)) == {"softmax": 1, "linear": 1, "local": 3}
    assert f"of 2 models with 3 runs or more, with those in {results}); a model of fewer runs is taken" in notes[1]
    other = others.assign(length=64)
    assert ranks.beside(single, tables.summary(single), "model", other)[0]["rank"].isna().all(), "of another column"


def test_a_rank_stands_behind_its_score(results: Path) -> None:
    frame = store.to_dataframe([results])
    summed, notes = ranks.beside(frame, tables.summary(frame), "model")
    comparison = tables.compare(summed, "accuracy", also=notes)
    assert [text.split("[")[1] for text in comparison.cells["short tiny"]] == ["1]", "3]", "1]"]
    assert comparison.notes[-2:] == notes


def test_of_techniques_too_nothing_is_significant_without_a_variance_over_seeds(results: Path) -> None:
    frame = store.to_dataframe([results])
    single = frame.query("seed == 0 and model != 'linear'")
    further = single["model"].map({"local": '{"continued": {"steps": 9}}'})
    single = single.assign(model="softmax", options=None, techniques=further)
    alone, told = techniques.report(single), techniques.report(single, frame[frame["model"] == "linear"])
    assert alone.numbers["p"].isna().all()
    assert alone.numbers["difference"].notna().sum() == 1, "the difference and its interval over examples are there"
    assert alone.numbers["low"].notna().sum() == 1
    assert "*" not in "".join(alone.tables[1].cells["against none"])
    assert any("nothing is known of other seeds" in note for note in alone.tables[0].notes)
    assert "*" in "".join(told.tables[1].cells["against none"])
    assert any(f"of 1 models with 3 runs or more, with those in {results}" in note for note in told.tables[1].notes)


def test_of_errors_the_lower_is_the_better(results: Path) -> None:
    frame = store.to_dataframe([results]).assign(metric=SQUARED_ERROR.name, test_spread=0.5)
    assert ranked(frame)[0] == {"local": 1, "linear": 2, "softmax": 2}


def test_who_kept_no_scores_has_no_rank(results: Path) -> None:
    for path in results.glob("runs/linear-*/per_example.json"):
        path.unlink()
    found, notes = ranked(store.to_dataframe([results]))
    assert found == {"softmax": 1, "linear": None, "local": 2}
    assert notes[-1] == "short tiny: no rank, as per-example scores are not kept: linear"
    for path in results.glob("runs/*"):
        if path.name.split("-")[0] != "linear":
            shutil.rmtree(path)
    assert ranked(store.to_dataframe([results]))[1][-1] == (
        "short tiny: no rank, as no other model is there to compare with: linear"
    )


def test_rows_of_other_examples_are_not_ranked(results: Path) -> None:
    frame = store.to_dataframe([results])
    frame.loc[frame["model"] == "linear", "test_n"] -= 1
    found, notes = ranked(frame)
    assert set(found.values()) == {None}
    assert notes == ("short tiny: no ranks, its rows were not tested on the same examples",)


def test_a_table_that_was_exported_has_no_ranks_and_a_family_none(results: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(tables.exported(tables.summary(store.to_dataframe([results])), "csv"))
    found, notes = ranked(store.to_dataframe([tmp_path / "t.csv"]))
    assert set(found.values()) == {None}
    assert "softmax" in notes[0]
    frame = store.to_dataframe([results])
    assert "rank" not in ranks.beside(frame, tables.summary(frame, "family"), "family")[0]


def test_what_is_cut_short_is_an_error(results: Path) -> None:
    path = next(results.glob("runs/linear-*/per_example.json"))
    whole = store.read_json(path)
    store.write_json(path, whole | {"hits": whole["hits"][:-4]})
    with pytest.raises(ConfigError, match="not the score of every example"):
        ranked(store.to_dataframe([results]))
    store.write_json(path, whole | {"n": N - 1})
    with pytest.raises(ConfigError, match="keeps the scores of 399 examples of 400"):
        ranked(store.to_dataframe([results]))


@pytest.mark.parametrize("metric", [ACCURACY, SQUARED_ERROR, TOKEN_ACCURACY])
def test_scores_come_back_as_they_were_put(tmp_path: Path, metric: Any) -> None:
    scores = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0 if metric.binary else 0.25])
    store.save_scores(tmp_path, scores, metric)
    found = store.scores(tmp_path)
    assert found is not None
    assert found.dtype == (bool if metric.binary else float)
    assert (found == scores).all()
    assert store.scores(tmp_path / "elsewhere") is None


def ranks_of(scores: dict[str, np.ndarray]) -> dict[str, int]:
    pairs = ranks.every_two(scores, True, statistics.pooled(list(scores.values())))
    family = ranks.corrected([dict.fromkeys(tables.COLUMN) | pair for pair in pairs])
    found = ranks.Ranking(family, frozenset(), Seeds({})).ranks()
    return {model: rank for (_, model), rank in found.items()}


@settings(max_examples=15, deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(2, 5), st.integers(3, 4), st.just(16))), st.randoms())
def test_ranks_do_not_depend_on_the_order_and_equals_share_theirs(scores: np.ndarray, random: Any) -> None:
    models = {f"model {i}": runs for i, runs in enumerate(scores)} | {"twin": scores[0].copy()}
    found = ranks_of(models)
    names = list(models)
    random.shuffle(names)
    assert ranks_of({name: models[name] for name in names}) == found
    assert found["twin"] == found["model 0"]
    assert min(found.values()) == 1


def test_the_command_line(results: Path, lra: Lra) -> None:
    pairs = lra("compare", "--pairs", "--format", "md").stdout
    assert "| softmax  | local   | +" in pairs
    assert "3 differ after Holm" in pairs
    assert "[3]" in lra("compare", "--metric", "accuracy").stdout
    assert "what each model was given" in lra("compare", "--budget").stdout
    assert '"rank":3' in lra("compare", "--format", "json").stdout


def test_copies_that_were_derived_from_a_run_change_no_rank_unless_asked(results: Path) -> None:
    """Quantized softmax and a distilled linear model, each with seeds of its own that vary far more."""
    before = store.to_dataframe([results])
    for column, model, facts in (
        ("start", "softmax", '{"quantize": {"weights": 8}}'),
        ("teacher", "linear", '{"distill": {"teacher": "softmax"}}'),
    ):
        copies = before[before["model"] == model].assign(**{column: "0" * 10}, techniques=facts)
        copies = copies.assign(run=copies["run"] + column, test_score=[0.1, 0.5, 0.9])
        frame = pd.concat([before, copies], ignore_index=True)
        monkeyed = frame.assign(techniques=None, model=frame["model"].where(frame[column].isna(), f"{model} copy"))
        assert ranks.Ranking.of(monkeyed).pairs.equals(ranks.Ranking.of(before).pairs)
        assert ranks.Ranking.of(monkeyed).seeds.spreads == ranks.Ranking.of(before).seeds.spreads
        found, notes = ranked(monkeyed)
        assert found == {**ranked(before)[0], f"{model} copy": None}
        assert f"no rank, derived from another run (--rank-derived ranks these too): {model} copy" in notes
        asked = ranks.Ranking.of(monkeyed, every=True)
        assert len(asked.pairs) == 6
        assert asked.left_out == frozenset()


def test_a_copy_on_one_task_leaves_the_mean_over_tasks(results: Path) -> None:
    frame = store.to_dataframe([results])
    other = frame.assign(task="other", run=frame["run"] + "o")
    copy = frame[frame["model"] == "linear"].assign(start="0" * 10, run="c", model="copy")
    summed = tables.summary(pd.concat([frame, other, copy], ignore_index=True))
    cells = tables.compare(summed, "accuracy").cells
    assert list(cells.loc[["linear", "local", "softmax"], "mean of 2"].ne("")) == [True] * 3
    assert cells.loc["copy", "mean of 2"] == ""
