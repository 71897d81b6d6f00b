"""What counts as another run: not the same one from a table, not the same seed by older code, not another rate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lra_bench import sweeps
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.records.schema import COLUMNS
from lra_bench.records.store.dataframe import SUMMED
from lra_bench.report import diff, extrapolation, tables, techniques
from lra_bench.report.summary import rates
from lra_bench.report.summary.seeds import Seeds
from lra_bench.sweeps import Request

COLUMNS_READ = [*COLUMNS, *SUMMED, "origin", "folder", "bundle", "code"]
FACTS: dict[str, Any] = {
    "test_n": 500, "chance": 0.1, "data_hash": "d", "parts_hash": "p", "started": "2026-01-01", "step_ms_p50": 9.0
}  # fmt: skip


@pytest.fixture(autouse=True)
def _stand_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def row(score: float | None, seed: int = 0, run: str = "a", model: str = "softmax", **more: Any) -> dict[str, Any]:
    """A run's row as a table of a folder has it; without a score it failed, and says no more than such a run does."""
    (asked,) = sweeps.runs(Request(model, "short", "tiny", (seed,)))
    if score is None:
        blank = store.blank(asked, "nan", "diverged")
    else:
        blank = store.blank(asked, "ok", val_score=score, test_score=score, **FACTS)
    return dataclasses.replace(blank, **more).as_dict() | {"run": run, "origin": "results", "folder": None}


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows).reindex(columns=COLUMNS_READ)


def the_row(*rows: dict[str, Any]) -> dict[Any, Any]:
    (summed,) = tables.summary(rates.chosen(frame(*rows))).to_dict("records")
    return summed


def test_a_rate_that_diverged_with_a_seed_is_not_chosen_though_its_row_does_not_say_its_data() -> None:
    grid = {"lr_grid": "[0.001, 0.003]"}
    good = [row(0.5, seed, f"a{seed}", lr=0.001, **grid) for seed in (0, 1)]
    bad = [row(0.6, 0, "b0", lr=0.003, **grid), row(None, 1, "b1", lr=0.003, **grid)]
    found = the_row(*good, *bad)
    assert (found["lr"], found["lr_tried"], found["finished"], found["runs"]) == (0.001, 2, 2, 2)
    one = the_row(good[0], row(None, 0, "b0", lr=0.003, **grid))
    assert tables.text(pd.Series(one), "accuracy").endswith("lr 0.001 (1 of 2)")


def test_a_plain_run_of_a_model_with_a_grid_is_of_the_grid() -> None:
    found = the_row(row(0.7, run="a", lr=0.001), row(0.3, run="b", lr=0.003, lr_grid="[0.001, 0.003]"))
    assert (found["lr"], found["lr_tried"], found["runs"]) == (0.001, 2, 1)
    assert found["test_score"] == 0.7


def test_a_plain_run_of_another_rate_neither_chooses_nor_hides_a_grid() -> None:
    told = {0.001: (0.5, 0.9, 0.9), 0.003: (0.6, 0.6, 0.6)}
    grid = [
        row(score, seed, f"{lr}{seed}", lr=lr, lr_grid="[0.001, 0.003]")
        for lr, scores in told.items()
        for seed, score in enumerate(scores)
    ]
    for plain in (row(0.1, 0, "p", lr=0.01), row(0.99, 7, "p", lr=0.01)):
        found = the_row(*grid, plain)
        assert (found["lr"], found["runs"], found["lr_tried"]) == (0.001, 3, 2)
    whole = [row(0.95, seed, f"p{seed}", lr=0.01) for seed in range(3)]
    assert (the_row(*grid, *whole)["lr"], the_row(*grid, *whole)["lr_tried"]) == (0.01, 3)


def test_a_grid_beside_a_table_of_it() -> None:
    grid = [row(lr, n, f"{lr}{n}", lr=lr, lr_grid="[0.1, 0.3]") for lr in (0.1, 0.3) for n in (0, 1)]
    exported = tables.summary(rates.chosen(frame(*grid)))
    both = pd.concat([frame(*grid), exported.reindex(columns=COLUMNS_READ)], ignore_index=True)
    (found,) = tables.summary(rates.chosen(both)).to_dict("records")
    assert (found["runs"], found["test_score"]) == (2, 0.3)


def test_rates_of_a_table_that_names_no_runs_are_all_there() -> None:
    grid = [row(score, lr=lr, lr_grid="[0.001, 0.003]") | {"run": None} for lr, score in ((0.001, 0.2), (0.003, 0.9))]
    assert the_row(*grid)["lr"] == 0.003


def test_families_of_models_with_other_rates_name_no_rate() -> None:
    grid = [
        row(score, run=f"{model}{lr}", model=model, lr=lr, lr_grid="[0.001, 0.003]", family="kernel")
        for model, best in (("linear", 0.001), ("performer", 0.003))
        for lr in (0.001, 0.003)
        for score in (0.6 if lr == best else 0.5,)
    ]
    summed = tables.summary(rates.chosen(frame(*grid)), "family")
    assert "lr" not in tables.compare(summed, "accuracy", "family").cells.iloc[0, 0]


def test_a_seed_by_two_codes_of_a_mixer_is_one_seed_the_newest() -> None:
    old = [row(score, run=f"old{n}", parts_hash=f"o{n}", started=f"2026-01-0{n}") for n, score in ((1, 0.1), (2, 0.2))]
    found = the_row(*old, row(0.5, run="new", parts_hash="n", started="2026-02-01"))
    assert (found["test_score"], found["finished"], found["superseded"]) == (0.5, 1, 2)
    summed = tables.summary(frame(*old, row(0.5, run="new", started="2026-02-01")))
    assert any(
        "by other code of the mixer or source: softmax (2)" in n for n in tables.compare(summed, "accuracy").notes
    )
    assert not Seeds.of(frame(*old, row(0.5, run="new", started="2026-02-01"))).spreads


def test_a_failure_that_newer_code_mended_is_no_run_more() -> None:
    found = the_row(row(None, run="old"), row(0.5, run="new"))
    assert (found["runs"], found["finished"], found["status"]) == (1, 1, "ok")
    grid = {"lr_grid": "[0.001, 0.003]"}
    mended = row(None, run="b", lr=0.003, **grid), row(0.9, run="c", lr=0.003, **grid)
    assert the_row(row(0.2, run="a", lr=0.001, **grid), *mended)["lr"] == 0.003
    broken = row(None, run="new", started="2027-01-01")
    assert the_row(row(0.5, run="old"), broken)["status"] == "nan", "what newer code breaks is broken"


def test_two_that_began_with_other_runs_are_two() -> None:
    found = the_row(row(0.4, run="a", start="x"), row(0.6, run="b", start="y", started="2026-02-01"))
    assert (found["runs"], found["test_score"]) == (2, 0.5)


def test_a_table_of_more_runs_than_lie_here_counts_in_their_place() -> None:
    every = [row(0.5 + seed / 100, seed, f"a{seed}") for seed in range(3)]
    exported = tables.summary(frame(*every)).reindex(columns=COLUMNS_READ)
    fewer = tables.summary(frame(*every[:2])).reindex(columns=COLUMNS_READ)
    for others in (frame(*every[:2]), fewer):
        (found,) = tables.summary(pd.concat([others, exported], ignore_index=True)).to_dict("records")
        assert (found["runs"], found["finished"]) == (3, 3)


def test_a_folder_beside_a_table_of_it_is_not_counted_twice() -> None:
    every = [row(0.5 + seed / 100, seed, f"a{seed}") for seed in range(3)]
    exported = tables.summary(frame(*every))
    both = pd.concat([frame(*every), exported.reindex(columns=COLUMNS_READ)], ignore_index=True)
    (once,) = tables.summary(both).to_dict("records")
    assert (once["runs"], once["test_low"]) == (3, exported["test_low"].iloc[0])
    (again,) = tables.summary(both.iloc[::-1].reset_index(drop=True)).to_dict("records")
    assert again["runs"] == 3


def test_copies_of_a_model_say_nothing_of_seeds() -> None:
    own = [row(0.5 + seed / 100, seed, f"a{seed}") for seed in range(3)]
    copies = [
        row(0.5 + seed / 100, seed, f"{bits}{seed}", start=f"a{seed}", model="linear")
        for bits in "bc"
        for seed in range(3)
    ]
    (spread,) = Seeds.of(frame(*own, *copies)).spreads.values()
    assert (spread.models, spread.freedom) == (1, 2)


def test_how_far_errors_vary_is_said_in_their_own_unit() -> None:
    error = {"metric": "mean-squared-error", "test_spread": 0.1}
    every = frame(*(row(0.5 + seed / 100, seed, f"a{seed}", **error) for seed in range(3)))
    summed = tables.summary(every)
    (said,) = Seeds.of(every).notes(summed.assign(column="it"))
    assert "seeds vary by 0.01 (" in said


def test_two_configs_of_one_name_are_not_averaged_in_a_diff() -> None:
    def side(origin: str, config: str, score: float) -> list[dict[str, Any]]:
        rows = [row(score + seed / 100, seed, f"{origin}{config}{seed}", config_hash=config) for seed in range(3)]
        return [one | {"origin": origin} for one in rows]

    def of(*sides: list[dict[str, Any]]) -> dict[Any, Any]:
        changes = diff.changes(frame(*(one for rows in sides for one in rows)), ("accuracy",))
        (only,) = changes[changes["what"] == "accuracy"].to_dict("records")
        return only

    worse = side("old", "B", 0.8), side("new", "B", 0.6)
    assert of(*worse)["sure"]
    assert of(side("old", "A", 0.4), *worse)["sure"], "the other config is no spread of this one"
    changes = diff.changes(frame(*side("old", "A", 0.4), *side("old", "B", 0.8), *side("new", "B", 0.8)), ("accuracy",))
    (only,) = changes[changes["what"] == "accuracy"].to_dict("records")
    assert (only["first"], only["second"]) == (pytest.approx(0.81), pytest.approx(0.81))


def test_seeds_elsewhere_by_several_codes_say_nothing_of_seeds() -> None:
    two = [row(score, run=origin) | {"origin": origin} for origin, score in (("old", 0.5), ("new", 0.4))]
    codes = [row(0.5 + n / 100, run=f"c{n}", started=f"2026-01-0{n}") | {"origin": "else"} for n in range(1, 5)]
    changes = diff.changes(frame(*two), ("accuracy",), elsewhere=frame(*codes))
    assert list(changes["why"]) == [diff.SINGLE]


def test_techniques_of_a_seed_by_two_codes_are_one() -> None:
    asked = sweeps.runs(Request("softmax", "short", "tiny", techniques="int8"))[0]
    quantized = store.blank(asked, "ok", val_score=0.5, test_score=0.5, **FACTS).as_dict() | {"run": "q"}
    old = row(0.1, run="old", started="2025-01-01")
    numbers = techniques.report(frame(old, row(0.5), quantized | {"origin": "results"})).numbers
    assert numbers.set_index("technique").loc["none", "test_score"] == 0.5


def test_a_length_that_was_set_is_a_length_like_the_tasks_own() -> None:
    at = [row(0.5, run="a", length=128), row(0.4, run="b", length=256, changed="task.length=256")]
    (table,) = extrapolation.report(frame(*at)).tables
    assert list(table.cells) == ["L = 128", "L = 256"]
    both = [*at, row(0.4, run="c", length=256, changed="length=256", seed=1)]
    (table,) = extrapolation.report(frame(*both)).tables
    assert "2 runs" in table.cells.loc["softmax", "L = 256"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model,task,status\na,b,ok\n", "the column 'length' is missing"),
        ("model,task,status,length\na,b,ok,\n", "the column 'length' is missing, or empty"),
        ("model,task,status,length,batch,test_score\na,b,ok,64,8,good\n", "the column 'test_score' holds no number"),
        ("model,task,status,length,batch,lr\na,b,ok,64,8,high\n", "the column 'lr' holds no number"),
        ("model,task,status,length,batch,test_score\na,b,ok,64,8,0.5\n", "a test_score without 'test_n' beside it"),
    ],
)
def test_a_table_that_lacks_something_is_one_line(text: str, said: str) -> None:
    Path("t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        store.to_dataframe([Path("t.csv")])


def test_hashes_of_digits_stay_what_they_are() -> None:
    numbers = tables.summary(frame(row(0.5, config_hash="0123456789")))
    for name in ("t.csv", "t.json"):
        Path(name).write_text(tables.exported(numbers, name[2:]), encoding="utf-8")
        (read,) = store.to_dataframe([Path(name)]).to_dict("records")
        assert read["config_hash"] == "0123456789"
    Path("t.json").write_text(tables.exported(tables.summary(frame(row(None))), "json"), encoding="utf-8")
    assert store.to_dataframe([Path("t.json")])["status"].iloc[0] == "nan"


def test_a_metric_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ConfigError, match="metric 'perplexity'"):
        tables.compare(tables.summary(frame(row(0.5, metric="perplexity"))), "accuracy")


def test_an_option_that_older_code_has_not_is_no_other_model() -> None:
    older = row(0.5, run="a", options="{}")
    assert set(tables.labels(frame(older, row(0.6, 1, "b")))) == {"softmax"}
    plain = row(0.6, 1, "c", options='{"impl": "plain"}')
    several = tables.labels(frame(older, row(0.6, 1, "b"), plain))
    assert list(several) == ["softmax[impl=None]", "softmax[impl=auto]", "softmax[impl=plain]"]
