"""Times that were measured on a busy machine are tagged in every table that has times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from lra_bench import sweeps
from lra_bench.cli import planned, screen
from lra_bench.records import store
from lra_bench.report import leaderboard, scaling, scaling_fits, tables, techniques
from lra_bench.report.summary import load, regressions
from lra_bench.sweeps import Request

TIMES = {
    "step_ms_p10": 90.0,
    "step_ms_p50": 100.0,
    "step_ms_p90": 110.0,
    "examples_per_s": 80.0,
    "inference_ms_p50": 9.0,
}
PLACE = {"platform": "cpu", "device": "a processor", "devices": 1, "jobs": 1, "compiled_bytes": 2**20}
SCORES = {"test_score": 0.5, "val_score": 0.5, "test_n": 100, "val_n": 100, "chance": 0.2, "data_hash": "d" * 64}


def frame(folder: Path, loads: Sequence[float | None]) -> pd.DataFrame:
    """Of one model under several seeds, each with so much of its cores taken by others."""
    for run in sweeps.runs(Request("linear", "listops", "quick", tuple(range(len(loads))))):
        facts = {**TIMES, **PLACE, **SCORES, "other_load": loads[run.seed]}
        store.save(folder, run, store.blank(run, "ok", **facts))
    return store.to_dataframe([folder])


@pytest.mark.parametrize(("share", "said"), [(None, ""), (float("nan"), ""), (0.05, ""), (0.1, " busy 10%")])
def test_a_little_of_others_is_no_word(share: float | None, said: str) -> None:
    assert load.tag(share) == said


def test_speed_tables_tag_the_busiest_run(tmp_path: Path) -> None:
    measured = tables.measured(frame(tmp_path, [0.0, 0.45, None]))
    table = tables.compare(measured, "speed")
    assert list(table.cells.iloc[0]) == ["100 (80/s) busy 45%"]
    assert load.NOTE in table.notes
    assert load.NOTE not in tables.compare(measured, "memory").notes
    quiet = tables.compare(tables.measured(frame(tmp_path / "quiet", [0.0, 0.05])), "speed")
    assert list(quiet.cells.iloc[0]) == ["100 (80/s)"]
    assert load.NOTE not in quiet.notes
    again = store.to_dataframe([_exported(measured, tmp_path)])
    assert list(tables.compare(tables.measured(again), "speed").cells.iloc[0]) == ["100 (80/s) busy 45%"]


def _exported(numbers: pd.DataFrame, folder: Path) -> Path:
    path = folder / "table.csv"
    path.write_text(tables.exported(numbers, "csv"))
    return path


def test_a_page_two_folders_and_techniques_tag_them_too(tmp_path: Path) -> None:
    busy, quiet = frame(tmp_path / "busy", [0.3]), frame(tmp_path / "quiet", [0.0])
    summed = tables.summary(busy)
    (line,) = leaderboard.board(busy, summed.assign(column=tables.column_names(summed)[0]), tables.measured(busy))
    assert [entry.text for entry in line["cells"]][6:8] == ["100 busy 30%", "80 busy 30%"]
    changed = regressions.report(pd.concat([quiet, busy], ignore_index=True), ["speed"]).tables[0]
    assert list(changed.cells.iloc[0])[1:3] == ["100 ms", "100 ms busy 30%"]
    assert load.NOTE in changed.notes
    copy = busy.assign(techniques='{"continued": {"steps": 9}}', run="c")
    told = techniques.report(pd.concat([busy, copy], ignore_index=True)).tables[1]
    assert list(told.cells["inference ms"]) == ["9 busy 30%"] * 2
    assert load.NOTE in told.notes


def test_what_a_run_says_at_its_end_and_a_plan(tmp_path: Path) -> None:
    frame(tmp_path, [0.4])
    (row,) = store.read_results(tmp_path)
    assert "100 (90-110) busy 40%" in _printed(screen.results([row], {}))
    plan: dict[str, Any] = dict.fromkeys(
        ("params", "params_ratio", "flops_per_step", "compiled_bytes", "hours", "fits")
    )
    plan |= {"model": "linear", "task": "listops", "config": "quick", "length": 8, "but_for_seed": "x", "state": "new"}
    plan |= {"variant": None, "techniques": None}
    plan |= {"step_ms_p50": 100.0, "other_load": 0.4, "hours_from": "probe", "available_bytes": None}
    assert "100 busy 40%" in _printed(planned.table([plan], 1))


def _printed(what: Any) -> str:
    console = Console(width=250)
    with console.capture() as said:
        console.print(what)
    return said.get()


def test_lengths_that_were_timed_on_a_busy_machine_are_named() -> None:
    facts = [
        {
            "model": "linear", "options": {}, "length": length, "status": "ok", "mode": "train",
        "compiled_bytes": 2**20,
            "step_ms_p50": 10.0, "laps_ms": [10.0] * 7, "flops_per_step": 1e9, "other_load": load,
        }
        for length, load in ((512, 0.01), (1024, 0.5))
    ]  # fmt: skip
    table = scaling.report(facts).tables[0]
    assert ["busy" in cell for cell in table.cells.iloc[0]] == [False, True]
    note = "busy: other programs, or the host, had so much of the cores while these were timed: 50 % at L = 1,024"
    assert note in table.notes
    assert note in scaling_fits.report(facts).tables[0].notes
