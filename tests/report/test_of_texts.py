"""Scores of all texts together, beside the mean by which models are ranked."""

from __future__ import annotations

import pandas as pd

from lra_bench.report.summary import of_texts

ROWS = pd.DataFrame(
    {
        "model": ["a", "b", "a"],
        "exact_match": [0.5, 1.0, None],
        "bleu": [20.0, 40.0, None],
        "chrf": [30.0, 60.0, None],
        "finished": [3, 1, 2],
    }
)


def test_a_table_shows_them_where_a_task_has_texts() -> None:
    shown = of_texts.columns(ROWS, ["x", "x", "y"], "model")
    assert list(shown.columns) == ["x exact match %", "x BLEU", "x corpus chrF"]
    assert shown.loc["a"].tolist() == ["50.0", "20.0", "30.0"]
    assert of_texts.columns(ROWS.iloc[2:], ["y"], "model").empty


def test_of_several_runs_it_is_their_mean() -> None:
    assert of_texts.joined(ROWS) == {"exact_match": 0.625, "bleu": 25.0, "chrf": 37.5}
    assert of_texts.joined(ROWS.iloc[2:]) == {}
