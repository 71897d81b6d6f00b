"""Who at chance, whose size is another, the controls, the arena's means, and the budget."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lra_bench import mixers, sweeps
from lra_bench.config import Tuned
from lra_bench.records import store
from lra_bench.records.schema import Result
from lra_bench.report import budget, tables
from lra_bench.report.summary.means import arena, means
from lra_bench.sweeps import Request


@pytest.fixture
def row(here: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.chdir(here)
    run = sweeps.runs(Request("softmax", "short", "tiny"))[0]
    facts = {"test_score": 0.4, "val_score": 0.5, "test_n": 2000, "chance": 0.175, "params_ratio": 1.0, "params": 1000}
    return store.blank(run, "ok", **facts)


def summed(*rows: Result) -> pd.DataFrame:
    return tables.summary(pd.DataFrame([row.as_dict() | {"run": str(i)} for i, row in enumerate(rows)]))


def text(*rows: Result) -> str:
    return str(tables.compare(summed(*rows), "accuracy").cells.iloc[0, 0])


def test_runs_that_did_not_learn_are_counted_and_stay_in_the_mean(row: Result) -> None:
    outcomes = {0: ("ok", 0.4), 1: ("at-chance", 0.18), 2: ("at-chance", 0.17)}
    runs = [dataclasses.replace(row, seed=seed, status=status, test_score=s) for seed, (status, s) in outcomes.items()]
    assert text(*runs).startswith("25.0 (")
    assert text(*runs).endswith(" chance 2 of 3")
    assert text(runs[1]).endswith(") chance")
    assert "chance" not in text(runs[0])
    notes = tables.compare(summed(*runs), "accuracy").notes
    assert any("k of n: so many of the runs at chance, and the mean is over all of them" in n for n in notes)


@pytest.mark.parametrize(("ratio", "mark"), [(0.89, " 0.89x"), (0.9, ""), (1.1, ""), (1.5, " 1.50x"), (None, "")])
def test_a_size_more_than_a_tenth_off_is_flagged(row: Result, ratio: float | None, mark: str) -> None:
    one = dataclasses.replace(row, params_ratio=ratio)
    assert text(one) == "40.0 (37.9-42.2)" + mark
    notes = tables.compare(summed(one), "accuracy").notes
    assert any("not a fair match" in note for note in notes) is bool(mark)


def test_each_column_says_its_chance_and_what_its_control_scores(row: Result) -> None:
    (name,) = [name for name in mixers.names() if mixers.model_card(name).card.control]
    control = dataclasses.replace(row, model=name, test_score=0.3)
    elsewhere = dataclasses.replace(row, task="other", chance=0.5)
    notes = tables.compare(summed(row, control, elsewhere), "accuracy").notes
    said = mixers.model_card(name).card.control
    assert f"short tiny: chance 17.5; control {name} 30.0 ({said})" in notes
    assert "other tiny: chance 50.0" in notes


def on_arena(row: Result, sixth: dict[str, Any] | None, **fifth: Any) -> list[Result]:
    tasks = [member.task for member in arena()]
    rows = [dataclasses.replace(row, task=task, test_score=0.2 + 0.1 * i) for i, task in enumerate(tasks[:5])]
    rows[4] = dataclasses.replace(rows[4], **fifth)
    return rows if sixth is None else [*rows, dataclasses.replace(row, task=tasks[5], **sixth)]


def test_the_arena_has_five_tasks_and_a_sixth_that_may_fail() -> None:
    assert [(member.of, member.failed) for member in arena()] == [("five", None)] * 5 + [("six", 0.5)]
    assert {member.task for member in arena()} <= set(sweeps.task_names("all", ()))


@pytest.mark.parametrize(
    ("sixth", "of_six"),
    [
        ({"test_score": 0.9, "chance": 0.5}, (2.0 + 0.9) / 6),
        ({"test_score": 0.503, "chance": 0.5}, (2.0 + 0.5) / 6),
        ({"test_score": None, "status": "nan"}, (2.0 + 0.5) / 6),
    ],
)
def test_means_of_five_and_of_six_with_a_failed_one_at_chance(
    row: Result, sixth: dict[str, Any], of_six: float
) -> None:
    found = means(summed(*on_arena(row, sixth)), "model")
    assert {name: mean["softmax"] for name, mean in found.columns.items()} == {
        "mean of five": pytest.approx(0.4),
        "mean of six": pytest.approx(of_six),
    }
    assert found.notes[1].endswith(f"a failed {arena()[5].task} counts as 50")
    table = tables.compare(summed(*on_arena(row, sixth)), "accuracy").cells
    assert list(table.iloc[0, -2:]) == ["40.0", f"{100 * of_six:.1f}"]


def test_a_mean_of_five_that_lacks_one_is_missing(row: Result) -> None:
    assert list(means(summed(*on_arena(row, None)), "model").columns) == ["mean of five"]
    other = [dataclasses.replace(r, model="linear") for r in on_arena(row, None, status="oom", test_score=None)]
    table = tables.compare(summed(*on_arena(row, None), *other), "accuracy").cells
    assert dict(table["mean of five"]) == {"softmax": "40.0", "linear": ""}


@pytest.mark.parametrize("streams", [1, 2])
def test_the_budget_says_what_each_was_given(here: Path, row: Result, streams: int) -> None:
    (run,) = sweeps.runs(Request("linear", "short", "tiny"))
    facts = {"params": 1500, "params_ratio": 1.5, "flops_per_step": streams * 8.0 * 20 * 3000}
    store.save(here / "results", run, store.blank(run, "ok", **facts))
    frame = store.to_dataframe([here / "results"])
    assert pd.isna(budget.budget(frame)["flops_per_token"].item()), "missing is missing"
    store.write_json(store.folder(here / "results", run) / "run.json", {"task": {"streams": streams}})
    (entry,) = budget.budget(frame).to_dict("records")
    assert (entry["flops_per_token"], entry["examples_seen"], entry["steps"]) == (3000, 12 * 8, 12)
    (line,) = budget.report(frame).tables[0].cells.to_dict("records")
    assert (line["parameters"], line["to full"], line["kFLOP/token"]) == ("1,500", "1.50 !", "3")


def test_the_budget_counts_what_a_result_depends_on(here: Path, row: Result) -> None:
    """A run that was pruned and had a teacher stands on the training of both, once each, and on their tuning."""
    results, trained = here / "results", Tuned(trials=3, pruned=0, steps=36, hours=0.1)
    start = sweeps.runs(Request("linear", "short", "tiny"))[0].model_copy(update={"tuned": trained})
    (teacher,) = sweeps.runs(Request("softmax", "short", "tiny"))
    taught = start.model_copy(update={"teacher": teacher})
    recipe = start.recipe.model_copy(update={"training": start.recipe.training.model_copy(update={"steps": 0})})
    pruned = start.model_copy(update={"start": taught, "recipe": recipe, "config_name": "other", "tuned": None})
    for run in (teacher, taught, pruned):
        store.write_json(store.folder(results, run) / "run.json", run.model_dump(mode="json"))
        store.save(results, run, store.blank(run, "ok", flops_per_step=1e12))
    entries = budget.budget(store.to_dataframe([results])).to_dict("records")
    own = next(entry for entry in entries if entry["steps"] == 0)
    assert (own["examples_seen"], own["flops"]) == (0, 0)
    assert (own["inherited_steps"], own["inherited_examples"], own["inherited_flops"]) == (24, 24 * 8, 24e12)
    assert (own["tuning_trials"], own["tuning_steps"]) == (3, 36)
    assert pd.isna(own["flops_per_token"]), "what was counted is a forward pass"
    lines = budget.report(store.to_dataframe([results])).tables[0].cells
    assert {"0 + 24", "12 + 12", "12"} == set(lines["steps"])
    assert {"0 + 192", "96 + 96", "96"} == set(lines["examples seen"])
    assert {"0 + 24", "12 + 12", "12"} == set(lines["TFLOP"])
    bare = budget.report(store.to_dataframe([results]).assign(folder=None)).tables[0]
    assert set(bare.cells["steps"]) == {"0 + ?", "12 + ?"}
    assert any(note.startswith("+ ?: what it depends on is not here: linear") for note in bare.notes)


def test_what_was_tried_is_counted_and_unequal_budgets_are_said(row: Result) -> None:
    runs = [dataclasses.replace(row, seed=seed) for seed in (0, 1)]
    other = [dataclasses.replace(row, changed="optimizer.lr=0.1", status=status) for status in ("ok", "nan")]
    wide = dataclasses.replace(row, changed="optimizer.lr=0.1 backbone.width=8", status="oom")
    alone = dataclasses.replace(row, model="linear")
    frame = pd.DataFrame([r.as_dict() | {"folder": None} for r in (*runs, *other, wide, alone)])
    entries = budget.budget(frame)
    assert dict(zip(entries["model"], entries["tried"], strict=True)) == {"softmax": 3, "linear": 1}
    told = budget.report(frame).tables[0]
    assert "short tiny: NOT TUNED ALIKE" in told.notes
    assert not [n for n in budget.report(frame[frame["model"] == "softmax"]).tables[0].notes if "ALIKE" in n]
