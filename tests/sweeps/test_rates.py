"""A grid of learning rates: each is trained, the best on validation counts, and its cost is in the budget."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from samples import TWO, Lra

from lra_bench import config, sweeps
from lra_bench.errors import ConfigError
from lra_bench.records import store
from lra_bench.report import budget, tables
from lra_bench.report.summary import rates
from lra_bench.sweeps import Request

GRID = (0.001, 0.01, 0.1)


@pytest.fixture(autouse=True)
def _stand_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def kept(folder: Path, scores: dict[tuple[float, int], float | None], model: str = "softmax") -> None:
    """Results of a grid by rate and seed: their scores on validation; None: it diverged. Test is 0.1 better."""
    for run in sweeps.runs(Request(model, "short", "tiny", (0, 1), rates=GRID)):
        if (run.recipe.optimizer.lr, run.seed) not in scores:
            continue
        val = scores[run.recipe.optimizer.lr, run.seed]
        told = {"val_score": val, "test_score": val + 0.1, "test_n": 500, "chance": 0.1} if val is not None else {}
        row = store.blank(run, "nan" if val is None else "ok", "diverged" if val is None else None, **told)
        store.save(folder, run, row)


def test_a_run_for_each_rate_in_one_column() -> None:
    found = sweeps.runs(Request("softmax", "short", "tiny", rates=GRID))
    (plain,) = sweeps.runs(Request("softmax", "short", "tiny"))
    assert [run.recipe.optimizer.lr for run in found] == list(GRID)
    assert len({run.id for run in found}) == 3
    assert plain.id in {run.id for run in found}, "its config's own rate is the same run"
    assert {(run.config_hash, run.changed) for run in found} == {(plain.config_hash, None)}


def test_the_best_on_validation_counts_over_all_its_seeds(tmp_path: Path) -> None:
    scores = {(0.001, 0): 0.5, (0.001, 1): 0.51, (0.01, 0): 0.5, (0.01, 1): 0.53, (0.1, 0): 0.9, (0.1, 1): None}
    kept(tmp_path, scores)
    frame = store.to_dataframe([tmp_path])
    summed = tables.summary(rates.chosen(frame))
    (row,) = summed.to_dict("records")
    assert (row["lr"], row["lr_tried"], row["lr_near"], row["lr_edge"]) == (0.01, 3, 2, False)
    assert row["test_score"] == pytest.approx(0.615)
    shown = tables.compare(summed, "accuracy")
    assert shown.cells.iloc[0, 0].endswith("lr 0.01 (2 of 3)")
    assert any(note == rates.NOTE for note in shown.notes)
    (given,) = budget.budget(frame).to_dict("records")
    assert (given["tuning_trials"], given["tuning_steps"]) == (6, 6 * 12)
    assert given["tried"] == 3


def test_the_page_counts_the_whole_grid_as_tuning(tmp_path: Path, lra: Lra) -> None:
    kept(tmp_path, {(lr, seed): 0.5 + lr for lr in GRID for seed in (0, 1)})
    assert lra("report", tmp_path, "--out", "page.html").returncode == 0
    assert "6, 72 steps" in Path("page.html").read_text(encoding="utf-8")


def test_further_seeds_have_the_rate_that_was_best_with_the_first(tmp_path: Path) -> None:
    asked = Request("softmax,linear", "short", "tiny", (0, 1, 2), rates=GRID)
    softmax, linear = sweeps.rate_grids(sweeps.runs(asked))
    assert [(run.recipe.optimizer.lr, run.seed) for run in softmax.grid] == [(lr, 0) for lr in GRID]
    assert softmax.known(tmp_path) == softmax.grid, "nothing is chosen yet"
    assert [run.seed for run in softmax.expected(tmp_path)] == [0, 0, 0, 1, 2]
    for run, val in zip(softmax.grid, (0.5, 0.6, None), strict=True):
        store.save(tmp_path, run, store.blank(run, "ok" if val else "nan", val_score=val))
    *_, second, third = softmax.known(tmp_path)
    assert [(run.recipe.optimizer.lr, run.seed) for run in (second, third)] == [(0.01, 1), (0.01, 2)]
    assert len(softmax.known(tmp_path)) == 5
    assert not softmax.done(tmp_path)
    assert len(sweeps.once(grid.known(tmp_path) for grid in (softmax, linear, softmax))) == 5 + 3


@pytest.mark.parametrize("technique", ["distilled", "pruned", "continued"])
def test_seeds_of_what_is_trained_first_are_seeds_too(technique: str, tmp_path: Path) -> None:
    teacher = ("distill.teacher=linear",) if technique == "distilled" else ()
    asked = Request("softmax", "short", "tiny", (0, 1), settings=teacher, techniques=technique, rates=GRID)
    (grid,) = sweeps.rate_grids(sweeps.runs(asked))
    assert list(grid.by_rate) == list(GRID)
    assert {tuple(run.seed for run in runs) for runs in grid.by_rate.values()} == {(0, 1)}


def test_a_task_and_its_variant_are_done_before_the_next_one() -> None:
    asked = Request("softmax,linear", "needle@near,needle@far,short", "tiny", (0, 1), rates=GRID)
    parts = sweeps.by_task(sweeps.rate_grids(sweeps.runs(asked)))
    assert [[one.grid[0].task.variant for one in part] for part in parts] == [["near"] * 2, ["far"] * 2, [None] * 2]


def test_of_equal_rates_the_least_is_chosen_as_in_tables(tmp_path: Path) -> None:
    (grid,) = sweeps.rate_grids(sweeps.runs(Request("softmax", "short", "tiny", (0, 1), rates=GRID[::-1])))
    for run in grid.grid:
        store.save(tmp_path, run, store.blank(run, "ok", val_score=1.0, test_score=1.0, test_n=10, chance=0.1))
    (row,) = tables.summary(rates.chosen(store.to_dataframe([tmp_path]))).to_dict("records")
    assert grid.chosen(tmp_path) == row["lr"] == min(GRID)


def test_where_less_is_better_the_least_is_chosen(tmp_path: Path) -> None:
    (grid,) = sweeps.rate_grids(sweeps.runs(Request("softmax", "adding@quick", "tiny", rates=GRID)))
    assert not grid.grid[0].metric.higher
    for run, val in zip(grid.grid, (0.5, 0.1, 0.3), strict=True):
        store.save(tmp_path, run, store.blank(run, "ok", val_score=val))
    assert grid.chosen(tmp_path) == 0.01


def test_rates_are_compared_by_the_seeds_that_all_were_tried_with(tmp_path: Path) -> None:
    kept(tmp_path, {(0.001, 0): 0.5, (0.01, 0): 0.6, (0.1, 0): 0.4, (0.01, 1): 0.3})
    (row,) = tables.summary(rates.chosen(store.to_dataframe([tmp_path]))).to_dict("records")
    assert (row["lr"], row["runs"]) == (0.01, 2)


@pytest.mark.slow
def test_a_sweep_tries_the_grid_with_its_first_seed(lra: Lra, here: Path) -> None:
    grid = "models: linear\ntasks: short\nconfig: tiny\nseeds: 0-1\nlr: [1.0e-3, 1.0e-2]\nlr_by: first-seed\n"
    (here / "grid.yaml").write_text(grid)
    states = json.loads(lra("sweep", "grid.yaml", "--dry-run", "--json").stdout)
    assert [state["seed"] for state in states] == [0, 0, 1]
    assert lra("sweep", "grid.yaml", "--plan", "--out", "jobs.sh").returncode == 0
    assert len((here / "jobs.sh").read_text().splitlines()) == 2, "further seeds wait for their learning rate"
    done = lra("sweep", "grid.yaml", "--json")
    first, second, further = json.loads(done.stdout)
    assert [row["seed"] for row in (first, second, further)] == [0, 0, 1]
    assert further["lr"] == max((first, second), key=lambda row: row["val_score"])["lr"]
    assert done.stderr.count("done before") == 0
    (here / "grid.yaml").write_text(grid.replace("lr: [1.0e-3, 1.0e-2]\n", ""))
    refused = lra("sweep", "grid.yaml")
    assert (refused.returncode, refused.stderr) == (
        2, "lra: grid.yaml: lr_by: first-seed; it is of a grid of learning rates, and lr is null\n"
    )  # fmt: skip


def test_a_rate_at_an_end_of_the_grid_is_said(tmp_path: Path) -> None:
    kept(tmp_path, {(lr, seed): lr for lr in GRID for seed in (0, 1)})
    notes = tables.compare(tables.summary(rates.chosen(store.to_dataframe([tmp_path]))), "accuracy").notes
    assert "the chosen rate is at an end of its grid, and none inside comes within 2 points of it: softmax" in notes


def test_a_rate_at_an_end_is_not_said_where_one_inside_is_as_good(tmp_path: Path) -> None:
    kept(tmp_path, {(lr, seed): 0.5 for lr in GRID for seed in (0, 1)})
    (row,) = tables.summary(rates.chosen(store.to_dataframe([tmp_path]))).to_dict("records")
    assert (row["lr"], row["lr_edge"]) == (min(GRID), False)


def test_what_a_run_inherits_ends_where_training_was_stopped(tmp_path: Path) -> None:
    (run,) = sweeps.runs(Request("softmax", "short", "tiny", settings=("training.stop_at=0.5", "quantize.weights=8")))
    (start,) = run.needs
    store.save(tmp_path, start, store.blank(start, "ok", stopped_step=4, flops_per_step=10.0))
    store.save(tmp_path, run, store.blank(run, "ok", flops_per_step=1.0))
    store.write_json(store.folder(tmp_path, run) / "run.json", run.model_dump(mode="json"))
    frame = store.to_dataframe([tmp_path])
    (given,) = budget.budget(frame[frame["run"] == run.id]).to_dict("records")
    assert (given["inherited_steps"], given["inherited_examples"], given["inherited_flops"]) == (4, 4 * 8, 40.0)


def test_without_a_grid_nothing_changes() -> None:
    every = sweeps.runs(Request("softmax,linear", "short", "tiny"))
    frame = pd.DataFrame([store.blank(run, "ok").as_dict() for run in every])
    assert rates.chosen(frame) is frame


def test_a_sweeps_file_has_it(here: Path) -> None:
    (here / "grid.yaml").write_text(TWO + "lr: [1.0e-3, 1.0e-2]\n")
    assert config.sweep(Path("grid.yaml")).lr == [0.001, 0.01]


@pytest.mark.parametrize("said", ["'0,1,7'", "[0, 1, 7]", "['0-1', 7]"])
def test_a_sweeps_lists_are_those_of_the_command_line_or_of_yaml(here: Path, said: str) -> None:
    (here / "m.yaml").write_text(f"models: [softmax, linear]\ntasks: short\nconfig: tiny\nseeds: {said}\n")
    asked = config.sweep(Path("m.yaml"))
    assert (asked.models, sweeps.parse_seeds(asked.seeds)) == ("softmax,linear", (0, 1, 7))


def test_one_seed_of_a_sweep_is_a_number(here: Path) -> None:
    (here / "m.yaml").write_text(TWO.replace('"0"', "3"))
    assert sweeps.parse_seeds(config.sweep(Path("m.yaml")).seeds) == (3,)
    (here / "m.yaml").write_text(TWO.replace('"0"', "[true]"))
    with pytest.raises(ConfigError, match=r"m\.yaml:\d+: seeds: Input should be a valid string"):
        config.sweep(Path("m.yaml"))


@pytest.mark.slow
def test_training_ends_at_a_score_and_says_where(lra: Lra, here: Path) -> None:
    done = lra("run", "-m", "linear", "-t", "short", "-c", "tiny", "--stop-at", "0.0", "--json")
    (result,) = json.loads(done.stdout)
    assert (result["steps"], result["stopped_step"]) == (12, 4), "at the first evaluation"
    again = lra("run", "-m", "linear", "-t", "short", "-c", "tiny", "--stop-at", "1.0", "--json")
    (result,) = json.loads(again.stdout)
    assert result["stopped_step"] is None
